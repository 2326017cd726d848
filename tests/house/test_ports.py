"""Every port keeps its numbered promises: a contract test runs against each adapter."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXCEPTIONS = {
    "commands": "implemented once, by bot; its tests ask through page and command line",
}
"""Ports without a contract test, each with its reason."""


def test_every_port_has_a_contract_test_or_a_reason_why_not() -> None:
    ports = {path.stem for path in (ROOT / "core" / "ports").glob("[!_]*.py")}
    contracts = {path.stem for path in (ROOT / "tests" / "contracts").glob("test_*.py")}
    tested = {name.removeprefix("test_") for name in contracts}
    assert ports - tested == set(EXCEPTIONS)
    assert all(EXCEPTIONS.values())
