"""What is only data: moves, clocks, limits, reasons."""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path

import pytest

import core.decision
import core.node
import core.run
import core.task
import core.workspace
from core.clocks import Clocks
from core.errors import TransitionError
from core.limits import Limits
from core.reasons import REASONS, reason
from core.run import RunState
from core.task import TaskState
from core.workspace import WorkspaceState
from tests.fakes.nouns import CLOCKS, a_run, a_task, at

ROOT = Path(__file__).resolve().parents[3]
TABLES = {
    "run": (core.run.MOVES, "placing", {"ended"}),
    "task": (core.task.MOVES, "queued", set()),
    "workspace": (core.workspace.MOVES, "requested", {"gone"}),
    "node": (core.node.MOVES, "requested", {"gone"}),
    "decision": (core.decision.MOVES, "open", {"answered", "withdrawn"}),
}


@pytest.mark.parametrize("name", TABLES)
def test_t9_every_state_can_be_reached_and_left_until_the_end(name: str):
    moves, first, ends = TABLES[name]
    assert set(moves) == {state for many in moves.values() for state in many} | {first}
    assert reached(moves, first) == set(moves)
    assert {state for state, to in moves.items() if not to} == ends
    for state in set(moves) - ends:
        assert ends <= reached(moves, state) if ends else reached(moves, state)


def reached(moves: Mapping[str, frozenset[str]], start: str) -> set[str]:
    seen, ahead = set(), [start]
    while ahead:
        state = ahead.pop()
        if state not in seen:
            seen.add(state)
            ahead += moves[state]
    return seen


def test_a_run_goes_forward_only_but_for_asking():
    order = list(RunState)
    back = {
        (a, b) for a, to in core.run.MOVES.items() for b in to if order.index(b) < order.index(a)
    }
    assert back == {("asking", "working")}


def test_t9_every_state_of_a_run_can_end():
    for state in set(RunState) - {RunState.ENDED}:
        assert RunState.ENDED in core.run.MOVES[state]


def test_a_move_that_the_table_does_not_know_is_our_own_bug():
    with pytest.raises(TransitionError, match="Run: ended -> working"):
        a_run(state=RunState.ENDED).moved(RunState.WORKING, at=at(1))
    with pytest.raises(TransitionError):
        a_task(state=TaskState.QUEUED).moved(TaskState.DONE, at=at(1))


def test_a_wall_clock_that_steps_back_takes_no_record_along():
    task = a_task(state=TaskState.QUEUED, state_since=at(100))
    assert task.moved(TaskState.ACTIVE, at=at(1)).state_since == at(100)


def test_a_removed_workspace_is_never_brought_back():
    assert core.workspace.MOVES[WorkspaceState.DELETING] == {WorkspaceState.GONE}


# Clocks and limits


@pytest.mark.parametrize("name", [f.name for f in fields(Clocks) if f.name != "reminders_s"])
@pytest.mark.parametrize("value", [0.0, -1.0])
def test_w2_a_duration_is_positive(name: str, value: float):
    with pytest.raises(ValueError, match=rf"clocks\.{name} must be positive"):
        replace(CLOCKS, **{name: value})


@pytest.mark.parametrize(
    "wrong",
    [
        {"lease_s": 5.0},
        {"poll_s": 5.0},
        {"heartbeat_s": 45.0},
        {"stale_s": 300.0},
        {"container_s": 1800.0},
        {"workspace_s": 14400.0},
        {"node_ready_s": 86400.0},
        {"acknowledge_s": 14400.0},
        {"run_hard_s": 14400.0},
        {"run_hard_s": 86400.0},
        {"stop_s": 600.0},
        {"triage_s": 120.0},
        {"sweep_s": 300.0},
        {"git_token_s": 1800.0},
        {"publish_s": 3600.0},
        {"save_s": 86400.0},
        {"warm_s": 2592000.0},
    ],
)
def test_w2_clocks_that_contradict_each_other_are_refused_with_both_names(wrong: dict[str, float]):
    with pytest.raises(ValueError, match=r"clocks\.\w+ .* must be shorter than clocks\.\w+ .*: \w"):
        replace(CLOCKS, **wrong)


def test_reminders_come_later_and_later():
    with pytest.raises(ValueError, match="reminders_s"):
        Clocks(reminders_s=(3600, 0))
    assert Clocks(reminders_s=()).reminders_s == ()


@pytest.mark.parametrize("name", [f.name for f in fields(Limits)])
def test_a_limit_is_positive(name: str):
    with pytest.raises(ValueError, match=rf"limits\.{name} must be positive"):
        Limits(**{name: 0})


# Reasons


CODE_AT = {"end": 1, "finish": 1, "end_with": 2, "reason": 0, "_refused": 2}
"""Which argument of a call is a code."""


def codes_in_plans() -> Iterator[str]:
    """Yield every code that a plan ends or finishes a run with, spelled out in the source."""
    for path in [*(ROOT / "core" / "plan").glob("*.py"), ROOT / "core" / "reconcile" / "stuck.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            wanted = CODE_AT.get(name)
            if wanted is not None and len(node.args) > wanted:
                yield from constants(node.args[wanted])
    yield from core_blocking()


def constants(node: ast.expr) -> Iterator[str]:
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str) and part.value:
            yield part.value


def core_blocking() -> frozenset[str]:
    from core.plan.talk import _BLOCKING

    return frozenset(_BLOCKING)


def test_every_code_of_a_plan_has_its_sentence():
    codes = set(codes_in_plans())
    assert {"no_node", "push_failed", "budget", "stuck"} <= codes, "the scan sees nothing"
    assert codes <= set(REASONS)


@pytest.mark.parametrize("code", REASONS)
def test_a_sentence_says_what_happened_and_what_to_do(code: str):
    text = REASONS[code]
    assert text.endswith(".")
    assert text[0].isupper()
    acts = ("reply", "look at", "open ", "set ", "raise", "allow it", "say ", "mend", "finds it")
    assert any(act in text.lower() for act in acts), "what can the reader do?"
    assert len(text) < 200


def test_an_unknown_code_comes_with_its_own_sentence_or_is_our_fault():
    assert reason("clone_refused", "The code host said no.") == "The code host said no."
    assert reason("clone_refused") == REASONS["stuck"]
    assert reason("stuck", "anything") == REASONS["stuck"]
