"""The reference pages name every event, error code, log line and table, and no other."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest

import core.decision
import core.node
import core.run
import core.task
import core.terminal
import core.workspace
from adapters.store.schema import META
from agent.mirror import REFUSALS
from core.reasons import REASONS

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"
MOVES = {
    "run": core.run.MOVES,
    "task": core.task.MOVES,
    "workspace": core.workspace.MOVES,
    "node": core.node.MOVES,
    "terminal": core.terminal.MOVES,
    "decision": core.decision.MOVES,
}
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
CODE_AT = {"NodeError": 0, "_failed": 1, "problem": 1, "_problem": 1, "refusal": 2}
"""Which argument of a call is a code."""
ANSWERS = {"Credential", "OrderAnswer"}
"""Messages that carry a code of their own instead of an error."""


@cache
def calls(*rooms: str) -> Sequence[tuple[str, ast.Call]]:
    """Return every call in these rooms with the last part of its function's name."""
    paths = (path for room in rooms for path in sorted((ROOT / room).rglob("*.py")))
    return [
        (last_part(node.func), node)
        for path in paths
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    ]


def keywords(call: ast.Call, *left_out: str) -> set[str]:
    return {word.arg for word in call.keywords if word.arg and word.arg not in left_out}


def rows(page: str) -> dict[str, list[str]]:
    """Return the cells of every table row of a page by the name in code in its first cell."""
    found: dict[str, list[str]] = {}
    for line in (REFERENCE / page).read_text().splitlines():
        if match := re.match(r"\| `([a-z_.]+)` \|(.*)\|$", line):
            assert match[1] not in found, f"{match[1]} is described twice in {page}"
            found[match[1]] = [cell.strip() for cell in match[2].split(" | ")]
    return found


def in_code(cell: str) -> set[str]:
    return set(re.findall(r"`([a-z_]+)`", cell))


# Events


def told() -> Mapping[str, set[str]]:
    """Return the keys of the data of every kind of event that is told anywhere."""
    found: dict[str, set[str]] = defaultdict(set)
    for name, call in calls("core", "bot", "adapters"):
        if name in {"told", "tell"} and call.args:
            keys = keywords(call, "at", "task_id", "run_id", "about")
            for kind in kinds(call.args[0]):
                found[kind] |= keys
    return found


def kinds(spelled: ast.expr) -> Iterator[str]:
    """Yield what `"noun.happened"` or `f"noun.{state}"` stands for."""
    match spelled:
        case ast.Constant(value=str(kind)):
            yield kind
        case ast.JoinedStr(values=[ast.Constant(value=str(start)), ast.FormattedValue()]):
            moves = MOVES[start.removesuffix(".")]
            reached = {to for many in moves.values() for to in many}
            yield from sorted(f"{start}{state}" for state in reached)


def test_the_scan_of_events_sees_both_spellings() -> None:
    seen = told()
    assert seen["run.working"] == {"code"}
    assert seen["node.draining"] == {"error", "by"}
    assert "run.placing" in seen


def test_every_event_is_described_with_its_data() -> None:
    described = {kind: in_code(cells[-1]) for kind, cells in rows("events.md").items()}
    assert described == told()


# Errors


@cache
def error_kinds() -> Mapping[str, str | None]:
    """Return the code that each kind of `AppError` gives itself, None where it gives none.

    Read from the source: which classes exist at run time depends on what was imported before.
    """
    classes = {
        node.name: node
        for room in ("core", "bot", "adapters", "agent")
        for path in sorted((ROOT / room).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    }
    found = {"AppError": own_code(classes["AppError"])}
    while fresh := {
        name: own_code(node)
        for name, node in classes.items()
        if name not in found and {last_part(base) for base in node.bases} & set(found)
    }:
        found |= fresh
    return found


def own_code(kind: ast.ClassDef) -> str | None:
    for line in kind.body:
        match line:
            case ast.Assign(targets=[ast.Name(id="code")], value=ast.Constant(value=str(code))):
                return code
    return None


def last_part(spelled: ast.expr) -> str:
    return str(getattr(spelled, "attr", getattr(spelled, "id", "")))


def codes() -> set[str]:
    """Return every code that people or programs can meet."""
    found = {code for code in error_kinds().values() if code}
    found |= set(REASONS) | {code for _, code, _ in REFUSALS}
    for name, call in calls("core", "bot", "adapters", "agent"):
        if (at := CODE_AT.get(name)) is not None and len(call.args) > at:
            found |= {code for code in constants(call.args[at]) if re.fullmatch(r"[a-z_]+", code)}
        if name.endswith("Error") or name in ANSWERS | {"AtMost"}:
            for word in call.keywords:
                found |= constants(word.value) if word.arg == "code" else set()
    return found


def constants(spelled: ast.expr) -> set[str]:
    parts = (node.value for node in ast.walk(spelled) if isinstance(node, ast.Constant))
    return {value for value in parts if isinstance(value, str) and value}


def test_every_error_code_is_described() -> None:
    described = set(rows("errors.md"))
    assert codes() - described == set(), "add them to docs/reference/errors.md"
    assert described - codes() == set(), "these are gone"


def test_the_scan_of_kinds_sees_every_room() -> None:
    assert {"AppError", "CapacityError", "MissingError", "SignInNeededError"} <= set(error_kinds())
    assert error_kinds()["MissingError"] == "missing"


def test_every_kind_of_error_has_its_own_code() -> None:
    own = list(error_kinds().values())
    assert None not in own, [name for name, code in error_kinds().items() if code is None]
    assert len(own) == len(set(own))


@pytest.mark.parametrize("code", sorted(REASONS))
def test_the_page_of_errors_says_why_a_run_ended(code: str) -> None:
    assert REASONS[code] in " ".join(rows("errors.md")[code])


# Log lines


def logged() -> Mapping[str, set[str]]:
    """Return the fields of every log line by its event."""
    found: dict[str, set[str]] = defaultdict(set)
    for name, call in calls("core", "bot", "adapters"):
        is_log = name in LEVELS and getattr(getattr(call.func, "value", None), "id", "") == "log"
        if (is_log or name == "_report") and call.args:
            for event in constants(call.args[0]):
                if re.fullmatch(r"[a-z_]+\.[a-z_]+", event):
                    found[event] |= keywords(call, "exc_info")
    return found


def test_the_scan_of_log_lines_sees_the_engine_and_the_adapters() -> None:
    assert logged()["work.taken_over"] == {"count"}
    assert logged()["row.unreadable"] == {"table", "key", "error"}


def test_every_log_line_is_described_with_its_fields() -> None:
    described = {event: in_code(cells[-1]) for event, cells in rows("log-events.md").items()}
    assert described == logged()


# Records


def test_every_table_is_described_in_one_line() -> None:
    described = rows("database.md")
    assert set(described) == {*META.tables, "alembic_version"}
    assert all(len(cells) == 1 and cells[0] for cells in described.values())


# Pages


def test_every_link_between_pages_leads_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)} -> {target}"
        for page in (*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"))
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert broken == []


def test_the_life_of_a_run_names_every_state() -> None:
    page = (ROOT / "docs" / "explanation" / "life-of-a-run.md").read_text()
    for state in [*core.run.RunState, *core.run.Outcome, *core.task.TaskState]:
        assert f"`{state}`" in page, state
