"""A chat: a run that works in a workspace which it does not claim, for as long as people like."""

from dataclasses import replace

import pytest

from core.chat import activity
from core.decision import Decision, DecisionState
from core.ids import NodeId, RunId, SessionId, TaskId, WorkspaceId
from core.limits import Limits
from core.message import Post
from core.node import NodeState
from core.order import NodeOrder
from core.place import place
from core.plan.draft import RunView
from core.plan.run import plan_run
from core.plan.step import Planned
from core.plan.task import plan_task
from core.plan.workspace import plan_workspace
from core.ports.store import Insert, Update, Wake
from core.run import Outcome, Run, RunState
from core.session import AgentSession, Prompt, SessionState
from core.task import Task, TaskState
from core.workspace import Workspace, WorkspaceState
from tests.fakes.nouns import (
    CLOCKS,
    NOW,
    a_decision,
    a_link,
    a_node,
    a_project,
    a_prompt,
    a_run,
    a_session,
    a_task,
    a_view,
    a_workspace,
    an_answer,
    at,
)
from tests.unit.core.test_plan_run import of, orders_of, run_of
from tests.unit.core.test_plan_workspace import view as workspace_view

HOME = WorkspaceId("wabcdefg")
IDLE = a_session(state=SessionState.IDLE, turn_ok=True, is_complete=True)


def a_chat_run(**values: object) -> Run:
    return a_run(**{"chat_in": HOME, "deadline_at": None, **values})


def chatting(**values: object) -> RunView:
    """A view of a chat in a workspace that another run has claimed."""
    other = a_workspace(run_id=RunId("T-9.1"), task_id=TaskId("T-9"))
    return a_view(**{"run": a_chat_run(), "workspace": other, **values})


def new(**values: object) -> Run:
    fresh = {"node_id": None, "workspace_id": None, "session_id": None, "started_at": None}
    placing = {"state": RunState.PLACING, "deadline_at": at(900)}
    return a_chat_run(**{**placing, **fresh, **values})


# Its beginning


def test_the_run_of_a_chat_is_counted_by_no_limit() -> None:
    task = a_task(state=TaskState.QUEUED, runs=0)
    given = {"now": NOW, "clocks": CLOCKS, "limits": Limits()}
    planned = plan_task(task, a_project(), chat_in=HOME, **given)
    insert = next(c for c in planned.changes if isinstance(c, Insert))
    assert (insert.limits, insert.noun.chat_in) == ((), HOME)
    others = plan_task(task, a_project(), **given)
    limits = next(c for c in others.changes if isinstance(c, Insert)).limits
    assert all(("chat_in", None) in limit.where for limit in limits)


def test_a_chat_starts_in_its_workspace_in_one_look_and_claims_nothing() -> None:
    pending = (a_prompt(state="pending"),)
    planned = plan_run(chatting(run=new(), session=None, prompts=pending))
    run = run_of(planned)
    assert (run.state, run.workspace_id, run.node_id) == (RunState.STARTING, HOME, "node-1")
    assert orders_of(planned) == ["start_session", "send_prompt"]
    (start,) = [one for one in of(planned, NodeOrder) if one.kind == "start_session"]
    assert start.body["is_chat"] is True
    assert "complete_task" in start.body["frame"]
    assert of(planned, Workspace) == []


@pytest.mark.parametrize("state", [WorkspaceState.REQUESTED, WorkspaceState.BUILDING])
def test_a_chat_waits_for_a_workspace_that_is_being_made(state: WorkspaceState) -> None:
    home = a_workspace(state=state, run_id=RunId("T-9.1"))
    planned = plan_run(chatting(run=new(), session=None, workspace=home))
    assert (run_of(planned).state, run_of(planned).deadline_at) == (RunState.PREPARING, None)
    assert orders_of(planned) == []
    assert planned.due_in_s == CLOCKS.stale_s, "it may become ready before it knows of the chat"


def test_a_chat_is_where_its_workspace_came_to_be() -> None:
    """Its workspace waits for a machine when the chat is opened."""
    waiting = a_workspace(state=WorkspaceState.REQUESTED, node_id=NodeId(""), run_id=None)
    nowhere = {"session": None, "node": None, "link": None, "prompts": (a_prompt(state="pending"),)}
    run = run_of(plan_run(chatting(run=new(), workspace=waiting, **nowhere)))
    assert (run.state, run.node_id) == (RunState.PREPARING, None)
    later = at(CLOCKS.workspace_s + CLOCKS.node_ready_s)
    assert of(plan_run(chatting(run=run, workspace=waiting, now=later, **nowhere)), Run) == []
    made = a_workspace(node_id=NodeId("node-2"), run_id=None)
    there = {**nowhere, "node": a_node(id=NodeId("node-2")), "link": a_link(seen_at=later)}
    planned = plan_run(chatting(run=run, workspace=made, now=later, **there))
    assert (run_of(planned).state, run_of(planned).node_id) == (RunState.STARTING, "node-2")
    assert {order.node_id for order in of(planned, NodeOrder)} == {"node-2"}


def test_a_chat_starts_in_a_workspace_that_could_not_be_stopped_before() -> None:
    kept = a_workspace(run_id=None, code="save_failed", error="The disk is full.")
    planned = plan_run(chatting(run=new(), session=None, workspace=kept))
    assert run_of(planned).state is RunState.STARTING


def test_a_working_chat_has_no_deadline() -> None:
    starting = a_chat_run(state=RunState.STARTING, started_at=None, deadline_at=at(60))
    run = run_of(plan_run(chatting(run=starting, prompts=(a_prompt(state="queued"),))))
    assert (run.state, run.deadline_at) == (RunState.WORKING, None)


# Its life


def test_a_chat_goes_on_after_each_turn_and_is_never_nudged() -> None:
    later = at(10**6)
    planned = plan_run(chatting(session=IDLE, now=later, link=a_link(seen_at=later)))
    assert of(planned, Run) == []
    assert orders_of(planned) == []
    assert planned.due_in_s == CLOCKS.lost_s
    failed = replace(IDLE, turn_ok=False, turn_code="authentication_failed")
    assert of(plan_run(chatting(session=failed)), Run) == []


def test_an_idle_chat_ends_with_its_machine_which_nobody_tells_it_of() -> None:
    silent = chatting(session=IDLE, now=at(CLOCKS.lost_s + 1))
    first = plan_run(silent)
    assert (run_of(first).state, first.due_in_s) == (RunState.WORKING, CLOCKS.stale_s)
    again = replace(silent, run=run_of(first))
    lost = run_of(plan_run(again))
    assert (lost.state, lost.code) == (RunState.ENDED, "node_lost")
    back = run_of(plan_run(replace(again, link=a_link(seen_at=again.now))))
    assert (back.state, back.looks) == (RunState.WORKING, 0), "it was we who were away"


def test_an_idle_chat_leaves_a_machine_that_is_drained_and_says_so() -> None:
    draining = a_node(state=NodeState.DRAINING)
    planned = plan_run(chatting(session=IDLE, node=draining))
    run = run_of(planned)
    assert (run.state, run.verdict, run.code) == (RunState.CHECKING, None, "chat_machine_leaves")
    assert orders_of(planned) == ["stop_session"]
    stopped = chatting(session=IDLE, node=draining, run=run, orders=(an_answer("T-1.1/stop"),))
    (post,) = of(plan_run(stopped), Post)
    assert "Restart the workspace" in post.text
    assert of(plan_run(chatting(node=draining)), Run) == [], "one at work goes on"


def test_a_chat_that_comes_back_from_a_terminal_waits_for_words() -> None:
    cut_off = {"state": SessionState.IN_TERMINAL, "terminal_id": "t-0000aaaa", "turn_ok": None}
    planned = plan_run(chatting(session=a_session(**cut_off)))
    assert orders_of(planned) == ["take_back"]
    assert of(planned, Prompt) == []
    back = replace(of(planned, AgentSession)[0], state=SessionState.IDLE, terminal_id=None)
    later = at(CLOCKS.silence_s * 2)
    waiting = plan_run(chatting(session=back, now=later, link=a_link(seen_at=later)))
    assert waiting.changes == (), "nobody looks after it"


def test_a_busy_chat_that_is_silent_is_looked_after() -> None:
    later = at(CLOCKS.silence_s + 1)
    planned = plan_run(chatting(now=later, link=a_link(seen_at=later)))
    assert orders_of(planned) == ["start_session"]
    assert run_of(planned).state is RunState.WORKING


def test_a_stop_ends_the_turn_of_a_chat_and_not_the_chat() -> None:
    stopped = a_chat_run(cancel_by="ana", version=7)
    planned = plan_run(chatting(run=stopped))
    assert orders_of(planned) == ["interrupt"]
    assert [order.id for order in of(planned, NodeOrder)] == ["T-1.1/interrupt/7"]
    assert (run_of(planned).state, run_of(planned).cancel_by) == (RunState.WORKING, "")


def test_an_answered_question_gives_a_chat_no_deadline() -> None:
    asking = a_chat_run(state=RunState.ASKING)
    answered = a_decision(state=DecisionState.ANSWERED, is_sent=True, delivered_at=NOW)
    planned = plan_run(chatting(run=asking, decisions=(answered,)))
    assert (run_of(planned).state, run_of(planned).deadline_at) == (RunState.WORKING, None)


def test_a_raised_budget_lets_a_chat_go_on_and_a_refused_one_ends_it() -> None:
    def after(*, allow: bool) -> Planned:
        asked = a_decision(kind="budget", request="", state=DecisionState.ANSWERED, allow=allow)
        return plan_run(chatting(run=a_chat_run(state=RunState.ASKING), decisions=(asked,)))

    raised = run_of(after(allow=True))
    assert (raised.state, raised.budget_usd) == (RunState.WORKING, 6)
    over = run_of(after(allow=False))
    assert (over.state, over.code) == (RunState.CHECKING, "budget")


# Its end


def closed(**values: object) -> Run:
    return a_chat_run(cancel_by="ana", code="chat_closed", **values)


def test_a_closed_chat_is_stopped_and_publishes_nothing() -> None:
    planned = plan_run(chatting(run=closed()))
    assert run_of(planned).state is RunState.CHECKING
    assert orders_of(planned) == ["stop_session"]
    ending = replace(run_of(planned), version=0)
    over = plan_run(chatting(run=ending, orders=(an_answer("T-1.1/stop"),)))
    run = run_of(over)
    assert (run.state, run.verdict, run.code) == (
        RunState.ENDED,
        Outcome.CANCELLED,
        "chat_closed",
    )
    assert {order.kind for order in of(over, NodeOrder)} <= {"stop_session"}
    assert of(over, Task)[0].state is TaskState.CANCELLED
    assert Wake("workspace", HOME) in over.changes


@pytest.mark.parametrize("state", [RunState.PLACING, RunState.PREPARING])
def test_a_chat_that_is_closed_before_it_began_ends_at_once(state: RunState) -> None:
    fresh = new(state=state, cancel_by="ana", code="chat_closed")
    run = run_of(plan_run(chatting(run=fresh, session=None)))
    assert (run.state, run.code) == (RunState.ENDED, "chat_closed")


@pytest.mark.parametrize("state", sorted(set(WorkspaceState)))
@pytest.mark.parametrize("at_work", sorted(set(RunState) - {RunState.ENDED}))
def test_a_chat_ends_with_its_workspace(state: WorkspaceState, at_work: RunState) -> None:
    is_home = state in {WorkspaceState.REQUESTED, WorkspaceState.BUILDING, WorkspaceState.READY}
    if at_work is RunState.PUBLISHING:  # A chat never is.
        return
    session = None if at_work in {RunState.PLACING, RunState.PREPARING} else a_session()
    view = chatting(
        run=a_chat_run(state=at_work, deadline_at=at(60)),
        session=session,
        workspace=a_workspace(state=state, run_id=None),
    )
    ended = [run for run in of(plan_run(view), Run) if run.is_over]
    assert [run.code for run in ended] == ([] if is_home else ["chat_without_workspace"])


def test_the_end_of_a_chat_lets_its_workspace_stay_for_a_while() -> None:
    kept = a_workspace(run_id=None, keep_until=at(5))
    ending = closed(state=RunState.CHECKING, verdict=Outcome.CANCELLED)
    stopped = (an_answer("T-1.1/stop"),)
    (after,) = of(plan_run(chatting(run=ending, workspace=kept, orders=stopped)), Workspace)
    assert (after.run_id, after.keep_until) == (None, at(10 + CLOCKS.warm_s))
    claimed = plan_run(chatting(run=ending, orders=stopped))
    assert of(claimed, Workspace) == []


# Its workspace


def test_a_workspace_stays_while_a_chat_is_open_also_on_a_node_that_is_drained() -> None:
    over = a_workspace(run_id=None, keep_until=at(5))
    assert plan_workspace(workspace_view(over, chats=(RunId("T-2.1"),))).changes == ()
    draining = a_node(state=NodeState.DRAINING)
    kept = plan_workspace(workspace_view(over, chats=(RunId("T-2.1"),), node=draining))
    assert kept.changes == ()
    gone = plan_workspace(workspace_view(over))
    assert of(gone, Workspace)[0].state is WorkspaceState.DELETING


def test_a_workspace_that_goes_wakes_its_chats() -> None:
    lost = workspace_view(
        a_workspace(run_id=None, state=WorkspaceState.BUILDING, deadline_at=at(5)),
        chats=(RunId("T-2.1"), RunId("T-3.1")),
    )
    planned = plan_workspace(lost)
    assert Wake("run", "T-2.1") in planned.changes
    assert Wake("run", "T-3.1") in planned.changes


def test_a_workspace_with_an_open_chat_gives_way_to_nobody() -> None:
    small = a_node(cpus=2.0, memory_mb=4096)
    idle = a_workspace(run_id=None)
    given = {"now": NOW, "clocks": CLOCKS}
    nodes, links = [small], {small.id: a_link()}
    assert place("small", nodes, links, [idle], **given).idle == idle
    assert place("small", nodes, links, [idle], chats={HOME}, **given).idle is None


# What people see


@pytest.mark.parametrize(
    ("run", "session", "seen"),
    [
        (None, None, "starting"),
        (new(), None, "starting"),
        (a_chat_run(state=RunState.STARTING), a_session(), "starting"),
        (a_chat_run(), a_session(), "busy"),
        (a_chat_run(), IDLE, "idle"),
        (a_chat_run(state=RunState.ASKING), a_session(), "asking"),
        (a_chat_run(state=RunState.CHECKING), a_session(), "ending"),
    ],
)
def test_people_see_what_a_chat_is_at(
    run: Run | None, session: AgentSession | None, seen: str
) -> None:
    assert activity(a_task(), run, session) == seen
    assert activity(a_task(state=TaskState.DONE), run, session) == "ended"
    assert activity(a_task(state=TaskState.QUEUED), run, session) == "starting"


def test_the_questions_of_a_chat_are_its_own() -> None:
    view = chatting(opened=(a_decision(session_id=SessionId("s")),))
    view = replace(view, decisions=view.opened)
    (decision,) = of(plan_run(view), Decision)
    assert (decision.run_id, decision.delivered_at) == ("T-1.1", at(10))


def test_nothing_is_updated_twice_in_one_look() -> None:
    planned = plan_run(chatting(run=closed(state=RunState.CHECKING), session=IDLE))
    updated = [c.noun.id for c in planned.changes if isinstance(c, Update)]
    assert len(updated) == len(set(updated))
