from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.replies import card_text
from core.card import Card
from core.decision import DecisionState
from core.node import NodeState
from core.receipt import measured_of
from core.run import Outcome, Run, RunState
from core.session import SessionState
from core.task import TaskState
from core.timeline import STEPS, TaskRecords, card, durations, queue_position
from core.wire import CheckResult, Collected, FileChange, to_json
from core.workspace import WorkspaceState
from tests.fakes.nouns import (
    NOW,
    a_decision,
    a_node,
    a_project,
    a_run,
    a_session,
    a_task,
    a_workspace,
    at,
)

ENTERED = {
    RunState.PLACING: 0,
    RunState.PREPARING: 2,
    RunState.STARTING: 10,
    RunState.WORKING: 11,
    RunState.ASKING: 40,
    RunState.CHECKING: 100,
    RunState.PUBLISHING: 130,
    RunState.ENDED: 140,
}
MEASURED = measured_of(
    Collected(
        head="b" * 40,
        base_commit="a" * 40,
        remote="",
        commits=2,
        files=(FileChange(path="a.py", added=48, removed=12),),
        left=(".env was left out: it looks like a secret.",),
    )
)
BAD = to_json(CheckResult(command="make", exit_code=2, took_s=3.0, tail="boom"))
GOOD = to_json(CheckResult(command="ruff", exit_code=0, took_s=1.0, tail=""))


def marks(last: RunState, *, left_out: frozenset[RunState] = frozenset()) -> Mapping[str, str]:
    order = list(ENTERED)
    return {
        str(state): at(ENTERED[state]).isoformat()
        for state in order[: order.index(last) + 1]
        if state not in left_out
    }


def run_in(state: RunState, **values: object) -> Run:
    over = {"ended_at": at(140), "verdict": Outcome.PULL_REQUEST} if state == "ended" else {}
    return a_run(**{"state": state, "marks": marks(state), **over, **values})


def seen(run: Run | None, **values: object) -> Card:
    known = {"task": a_task(), "project": a_project(), "node": a_node(), **values}
    known.setdefault("workspace", a_workspace())
    return card(TaskRecords(run=run, now=at(150), **known))


def by_name(shown: Card, what: str) -> list[object]:
    return [getattr(step, what) for step in shown.steps]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (RunState.PLACING, ["doing", "todo", "todo", "todo", "todo"]),
        (RunState.PREPARING, ["done", "doing", "todo", "todo", "todo"]),
        (RunState.STARTING, ["done", "done", "doing", "todo", "todo"]),
        (RunState.WORKING, ["done", "done", "doing", "todo", "todo"]),
        (RunState.ASKING, ["done", "done", "doing", "todo", "todo"]),
        (RunState.CHECKING, ["done", "done", "done", "doing", "todo"]),
        (RunState.PUBLISHING, ["done", "done", "done", "done", "doing"]),
        (RunState.ENDED, ["done", "done", "done", "done", "done"]),
    ],
)
def test_the_card_marks_the_step_that_a_run_is_at(state: RunState, expected: list[str]):
    shown = seen(run_in(state))
    assert by_name(shown, "name") == [name for name, _ in STEPS]
    assert by_name(shown, "mark") == expected
    assert shown.run_state == ("" if state is RunState.ENDED else state)


def test_before_its_first_run_a_task_shows_its_place_in_the_queue():
    shown = seen(None, task=a_task(state=TaskState.QUEUED), workspace=None, node=None, position=3)
    assert (shown.steps, shown.position, shown.can_stop) == ((), 3, True)
    assert "number 3 in the queue" in card_text(shown)


def test_the_steps_of_a_run_sum_to_the_whole():
    run = run_in(RunState.ENDED)
    took = durations(run, at(999))
    assert took == {
        "Machine": 2,
        "Workspace": 8,
        "Agent": 90,
        "Checks": 30,
        "Pull request": 10,
    }
    assert sum(took.values()) == 140
    result = seen(run).result
    assert (result.wait_s, result.work_s, result.checks_s) == (10, 90, 30)


@given(st.permutations(list(ENTERED)), st.sets(st.sampled_from(list(ENTERED))))
def test_durations_are_never_negative_whatever_the_clock_did(
    order: list[RunState], left_out: set[RunState]
):
    kept = {s: at(ENTERED[o]).isoformat() for s, o in zip(ENTERED, order, strict=True)}
    run = run_in(RunState.ENDED, marks={s: w for s, w in kept.items() if s not in left_out})
    assert all(value >= 0 for value in durations(run, NOW).values())


def test_a_step_that_was_never_reached_is_skipped_and_the_last_one_failed():
    broken = run_in(RunState.ENDED, marks=marks(RunState.PREPARING), verdict=Outcome.FAILED)
    shown = seen(broken, workspace=a_workspace(error="It is broken.\nMore."))
    assert by_name(shown, "mark") == ["done", "failed", "skipped", "skipped", "skipped"]
    assert shown.steps[1].text == "It is broken."
    assert shown.result.headline == "Failed"


def test_w4_a_recovered_workspace_and_a_failed_check_are_warnings():
    run = run_in(RunState.ENDED, measured={**MEASURED, "checks": [BAD, GOOD]})
    shown = seen(run, workspace=a_workspace(recovered="The Dockerfile failed."))
    assert by_name(shown, "mark") == ["done", "warning", "done", "warning", "done"]
    assert shown.steps[3].text == "1 of 2 failed"
    assert shown.notes == ("The Dockerfile failed.",)


def test_p12_the_result_says_what_was_measured_beside_what_was_claimed():
    run = run_in(RunState.ENDED, measured={**MEASURED, "checks": [BAD]}, summary="All green.")
    task = a_task(state=TaskState.DONE, pull_number=7, pull_url="http://f/7", pull_draft=True)
    shown = seen(run, task=task)
    result = shown.result
    assert result.headline == "PR #7 Fix the cart (draft)"
    assert result.says == "All green."
    assert result.measured == (
        "2 commits at bbbbbbb",
        ".env was left out: it looks like a secret.",
    )
    assert (result.added, result.removed, result.files) == (48, 12, 1)
    assert [check.ok for check in result.checks] == [False]
    assert shown.steps[4].text == "#7"
    assert not shown.can_stop


def test_without_checks_the_card_says_so():
    shown = seen(run_in(RunState.ENDED, measured=MEASURED))
    assert shown.steps[3].text == "none set"
    assert "no checks are set for this project" in shown.result.measured


def test_p13_the_card_says_who_answered_what():
    answered = a_decision(
        state=DecisionState.ANSWERED, answers={"Which?": "Blue"}, answered_by="ben"
    )
    over, is_open = a_decision(state=DecisionState.WITHDRAWN), a_decision()
    no = a_decision(kind="permission", state=DecisionState.ANSWERED, allow=False)
    shown = seen(
        run_in(RunState.ASKING), decisions=[answered, over, is_open, no], names={"ben": "Ben"}
    )
    told = [(one.is_open, one.answer, one.answered_by) for one in shown.questions]
    assert told == [
        (False, "Blue", "Ben"),
        (False, "no longer needed", ""),
        (True, "", ""),
        (False, "no", ""),
    ]
    assert card_text(shown).count("Question: Which colour?") == 1


def test_the_queue_goes_by_priority_and_then_by_age():
    def queued(number: int, **values: int) -> object:
        return a_task(id=f"T-{number}", state=TaskState.QUEUED, created_at=at(number), **values)

    tasks = [queued(1), queued(2), queued(3, priority=1)]
    assert [queue_position(task, tasks) for task in tasks] == [2, 3, 1]
    assert queue_position(a_task(), tasks) == 0


TEXT = st.sampled_from(["", "x", "\n", "\x1c", "line\nline", "@all", "<b>", "\u202e"])
RUNS = st.builds(
    run_in,
    st.sampled_from(RunState),
    marks=st.sets(st.sampled_from(list(ENTERED))).map(
        lambda out: dict(marks(RunState.ENDED, left_out=frozenset(out)))
    ),
    verdict=st.sampled_from([None, *Outcome]),
    reason=TEXT,
    summary=TEXT,
    measured=st.sampled_from(
        [None, MEASURED, {**MEASURED, "checks": []}, {**MEASURED, "checks": [BAD, GOOD]}]
    ),
    node_id=st.sampled_from([None, "node-1"]),
    ended_at=st.sampled_from([None, at(140)]),
)
WORKSPACES = st.none() | st.builds(
    a_workspace,
    state=st.sampled_from(WorkspaceState),
    recovered=TEXT,
    error=TEXT,
    notes=st.lists(TEXT, max_size=2).map(tuple),
    steps=st.sampled_from(
        [(), ({"step": "build", "state": "started", "at": "", "text": ""},), ({"step": "new"},)]
    ),
)
DECISIONS = st.lists(
    st.builds(
        a_decision,
        kind=st.sampled_from(["question", "permission", "plan", "budget"]),
        state=st.sampled_from(DecisionState),
        answers=st.sampled_from([None, {}, {"Which?": "Blue"}]),
        allow=st.sampled_from([None, True, False]),
    ),
    max_size=3,
)


RECORDS = st.builds(
    TaskRecords,
    task=st.builds(a_task, state=st.sampled_from(TaskState), title=TEXT, pull_url=TEXT),
    project=st.builds(a_project, checks=st.sampled_from([(), ("make",)]), branch=TEXT),
    now=st.just(at(500)),
    run=st.none() | RUNS,
    workspace=WORKSPACES,
    node=st.none() | st.builds(a_node, state=st.sampled_from(NodeState)),
    session=st.none()
    | st.builds(a_session, state=st.sampled_from(SessionState), progress=TEXT, summary=TEXT),
    decisions=DECISIONS,
    usual_s=st.none() | st.just({"Machine": 2.0, "Agent": 0.0}),
    tokens_usd=st.decimals(0, 100, places=4),
)


@given(RECORDS)
def test_a_card_can_be_made_of_whatever_the_records_hold(records: TaskRecords):
    shown, run = card(records), records.run
    assert card_text(shown).startswith("T-1 · ")
    assert sum(step.mark == "doing" for step in shown.steps) <= 1
    assert (shown.result is not None) == (run is not None and run.is_over)


def test_a_card_never_shows_two_steps_at_work():
    for state in RunState:
        doing = [mark for mark in by_name(seen(run_in(state)), "mark") if mark == "doing"]
        assert len(doing) == int(state is not RunState.ENDED)


def test_a_run_that_was_stopped_says_where_its_time_went_to():
    stopped = replace(run_in(RunState.ENDED), verdict=Outcome.CANCELLED)
    shown = seen(stopped)
    assert shown.result.headline == "Stopped"
    assert shown.steps[4].mark == "failed"
