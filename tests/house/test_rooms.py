"""Rules about the rooms: what they are named, what they import, what their `__init__` says."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("adapters", "agent", "bot", "core")
AIOHTTP = {"aiohttp", "multidict", "yarl"}  # One library: the two are in its signatures.
SHARED = ("browse", "ids", "link", "viewing", "wire")
AGENT_MAY_IMPORT = {"agent", "aiodocker", "pyte", "wcwidth", *AIOHTTP}
AGENT_MAY_IMPORT |= {f"core.{name}" for name in SHARED}


def modules(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the level and the full name of everything that `path` imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                yield from ((0, alias.name) for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                yield from ((level, f"{module}.{alias.name}") for alias in names)


@pytest.mark.parametrize("room", ROOMS)
def test_the_name_of_a_room_belongs_to_samovar_alone(room: str) -> None:
    """Another distribution that ships `core/` too would run in place of ours, without a word."""
    owners = packages_distributions().get(room, ["samovar"])
    assert set(owners) == {"samovar"}, f"reinstall: {room}/ also comes from {owners}"


@pytest.mark.parametrize("room", ROOMS)
def test_the_init_of_a_room_is_its_rule_and_nothing_else(room: str) -> None:
    body = ast.parse((ROOT / room / "__init__.py").read_text()).body
    assert len(body) == 1
    assert ast.get_docstring(ast.Module(body=body, type_ignores=[]))


def test_the_import_contracts_hold() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_nothing_is_imported_relatively() -> None:
    relative = [path for path in modules(*ROOMS, "tests") for level, _ in imports(path) if level]
    assert relative == []


def test_the_agent_imports_only_what_its_file_carries() -> None:
    """The node agent is one file of pure Python; a new import is a new thing on every node."""
    strange = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in modules("agent")
        for _, name in imports(path)
        if name.split(".")[0] not in sys.stdlib_module_names
        and not any(f"{name}.".startswith(f"{allowed}.") for allowed in AGENT_MAY_IMPORT)
    }
    assert strange == set()


@pytest.mark.parametrize("module", SHARED)
def test_what_the_agent_shares_brings_nothing_more_along(module: str) -> None:
    names = {name for _, name in imports(ROOT / "core" / f"{module}.py")}
    ours = {name for name in names if name.split(".")[0] in ROOMS}
    assert all(name.startswith(("core.ids.", "core.wire.")) for name in ours), ours
