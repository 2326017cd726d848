from dataclasses import replace

import pytest

from core.decision import Decision, DecisionState
from core.ids import NodeId, RunId, SessionId
from core.message import Post
from core.node import Node
from core.order import NodeOrder, order
from core.place import Placement
from core.plan.draft import Draft, RunView
from core.plan.publish import not_pulled, pulled, wanted_pull
from core.plan.run import plan_run
from core.plan.step import Planned
from core.ports.forge import Pull
from core.ports.store import Insert, Tell, Update, Wake
from core.run import Outcome, Run, RunState
from core.session import Prompt, SessionState
from core.task import Task, TaskState
from core.wire import Collected, StopSession, to_json
from core.workspace import Workspace, WorkspaceState
from tests.fakes.nouns import (
    CLOCKS,
    a_decision,
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

COLLECTED = Collected(head="b" * 40, base_commit="a" * 40, remote="", commits=1)


def of(planned: Planned, kind: type) -> list:
    return [
        change.noun
        for change in planned.changes
        if isinstance(change, Insert | Update) and isinstance(change.noun, kind)
    ]


def run_of(planned: Planned) -> Run:
    (run,) = of(planned, Run)
    return run


def orders_of(planned: Planned) -> list[str]:
    return [one.kind for one in of(planned, NodeOrder)]


def test_a_placed_run_asks_for_a_workspace_and_takes_its_room():
    run = a_run(state=RunState.PLACING, node_id=None, workspace_id=None, session_id=None)
    view = a_view(run=run, workspace=None, session=None, node=None, link=None)
    planned = plan_run(replace(view, placement=Placement(node=a_node(), reason="room")))
    assert run_of(planned).state is RunState.PREPARING
    (workspace,) = of(planned, Workspace)
    assert workspace.run_id == run.id
    assert workspace.id == run_of(planned).workspace_id
    assert [node.version for node in of(planned, type(a_node()))] == [0]


def test_a_run_without_a_machine_ends_at_its_deadline_with_what_to_do():
    run = a_run(
        state=RunState.PLACING, deadline_at=at(5), node_id=None, workspace_id=None, session_id=None
    )
    view = a_view(run=run, workspace=None, session=None, node=None, link=None)
    ended = run_of(plan_run(replace(view, placement=Placement(node=None, reason="none"))))
    assert (ended.verdict, ended.code) == (Outcome.FAILED, "no_node")
    assert "samovar node list" in ended.reason


def test_a_ready_workspace_gets_its_session_and_the_first_prompt():
    run = a_run(state=RunState.PREPARING, session_id=None, started_at=None)
    planned = plan_run(a_view(run=run, session=None, prompts=(a_prompt(state="pending"),)))
    assert run_of(planned).state is RunState.STARTING
    assert orders_of(planned) == ["start_session", "send_prompt"]


def test_p2_work_begins_with_the_receipt_of_the_first_prompt_and_not_before():
    run = a_run(state=RunState.STARTING, started_at=None)
    sent = a_view(run=run, prompts=(a_prompt(state="sent"),))
    assert of(plan_run(sent), Run) == []
    queued = a_view(run=run, prompts=(a_prompt(state="queued"),))
    assert run_of(plan_run(queued)).state is RunState.WORKING


def test_p2_a_turn_that_failed_before_we_looked_proves_that_the_prompt_arrived():
    run = a_run(state=RunState.STARTING, started_at=None)
    session = a_session(state=SessionState.IDLE, turn_ok=False, turn_code="authentication_failed")
    failed = a_view(run=run, session=session, prompts=(a_prompt(state="cancelled"),))
    ended = run_of(plan_run(failed))
    assert (ended.verdict, ended.code) == (Outcome.BLOCKED, "authentication_failed")
    assert ended.started_at is not None


def test_p2_a_node_that_never_starts_fails_at_the_steps_deadline():
    run = a_run(state=RunState.STARTING, started_at=None, deadline_at=at(5))
    planned = plan_run(a_view(run=run, prompts=(a_prompt(state="sent"),)))
    assert run_of(planned).verdict is Outcome.FAILED
    assert run_of(planned).code == "not_acknowledged"
    assert "stop_session" in orders_of(planned)


def test_a_finished_turn_is_stopped_collected_and_measured():
    session = a_session(state=SessionState.IDLE, is_complete=True, turn_ok=True, summary="Done.")
    planned = plan_run(a_view(session=session))
    assert run_of(planned).state is RunState.CHECKING
    assert run_of(planned).summary == "Done."
    assert orders_of(planned) == ["stop_session"]


def test_p11_a_silent_end_of_turn_keeps_its_commits():
    session = a_session(state=SessionState.IDLE, turn_ok=True)
    assert run_of(plan_run(a_view(session=session))).state is RunState.CHECKING


def test_a_run_does_not_finish_while_words_are_on_their_way():
    session = a_session(state=SessionState.IDLE, is_complete=True, turn_ok=True)
    view = a_view(session=session, prompts=(a_prompt(), a_prompt(id="p-2", state="sent")))
    assert of(plan_run(view), Run) == []


def test_background_tasks_are_waited_for():
    session = a_session(state=SessionState.IDLE, is_complete=True, turn_ok=True, background=1)
    assert of(plan_run(a_view(session=session)), Run) == []


def test_steering_goes_at_once_and_a_queued_reply_waits_for_idle():
    pending = (a_prompt(id="p-2", state="pending"),)
    waits = (a_prompt(id="p-3", state="pending", when_idle=True),)
    assert orders_of(plan_run(a_view(prompts=pending))) == ["send_prompt"]
    assert orders_of(plan_run(a_view(prompts=waits))) == []
    idle = a_session(state=SessionState.IDLE, is_complete=True, turn_ok=True)
    planned = plan_run(a_view(session=idle, prompts=waits))
    assert orders_of(planned) == ["send_prompt"]
    assert of(planned, Run) == []


def test_p13_a_question_parks_the_run_without_a_deadline_and_mentions_the_asker():
    planned = plan_run(a_view(decisions=(a_decision(),), opened=(a_decision(),)))
    assert run_of(planned).state is RunState.ASKING
    assert run_of(planned).deadline_at is None
    (task,) = of(planned, Task)
    assert task.state is TaskState.WAITING
    (post,) = of(planned, Post)
    assert (post.kind, post.mention) == ("question", "ana")
    assert [d.delivered_at for d in of(planned, Decision)] == [at(10)]


def test_p13_an_answer_goes_out_once_and_the_clocks_go_on_where_they_stood():
    run = a_run(state=RunState.ASKING, state_since=at(-990), deadline_at=None)
    task = a_task(state=TaskState.WAITING)
    answered = a_decision(
        state=DecisionState.ANSWERED, answers={"Which colour?": "Blue"}, delivered_at=at(0)
    )
    planned = plan_run(a_view(run=run, task=task, decisions=(answered,)))
    assert orders_of(planned) == ["answer_question"]
    assert run_of(planned).state is RunState.WORKING
    assert run_of(planned).paused_s == 1000
    sent = replace(answered, is_sent=True)
    again = plan_run(a_view(run=run_of(planned), task=task, decisions=(sent,)))
    assert orders_of(again) == []


def test_a_raised_budget_sends_the_agent_on_and_a_refused_one_publishes():
    budget = a_decision(kind="budget", request="", state=DecisionState.ANSWERED, allow=True)
    idle = a_session(state=SessionState.IDLE, turn_ok=False, turn_code="billing_error")
    raised = plan_run(a_view(session=idle, decisions=(budget,)))
    assert run_of(raised).budget_usd == 6
    assert [prompt.state for prompt in of(raised, Prompt)] == ["pending"]
    refused = plan_run(a_view(session=idle, decisions=(replace(budget, allow=False),)))
    assert run_of(refused).state is RunState.CHECKING
    assert run_of(refused).verdict is None


@pytest.mark.parametrize("state", [RunState.STARTING, RunState.WORKING, RunState.ASKING])
def test_p9_a_cancel_stops_the_agent_once_and_is_no_failure(state: RunState):
    planned = plan_run(a_view(run=a_run(state=state, cancel_by="ana")))
    assert run_of(planned).verdict is Outcome.CANCELLED
    assert orders_of(planned) == ["stop_session"]


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("authentication_failed", Outcome.BLOCKED),
        ("usage_limit_reached", Outcome.BLOCKED),
        ("overloaded", Outcome.FAILED),
    ],
)
def test_a_model_error_ends_the_run_with_what_to_do(code: str, outcome: Outcome):
    session = a_session(state=SessionState.IDLE, turn_ok=False, turn_code=code)
    planned = run_of(plan_run(a_view(session=session)))
    assert planned.verdict is outcome
    assert planned.reason


def test_p10_a_crashed_agent_ends_the_run_with_its_reason():
    session = a_session(state=SessionState.ENDED, ended="It printed: no space left")
    assert run_of(plan_run(a_view(session=session))).code == "session_ended"


def checking(**values: object) -> Run:
    return a_run(state=RunState.CHECKING, deadline_at=at(1000), summary="Done.", **values)


def test_t4_nothing_is_collected_before_the_agent_is_confirmed_stopped():
    assert orders_of(plan_run(a_view(run=checking()))) == ["stop_session"]
    stopped = a_view(run=checking(), orders=[an_answer("T-1.1/stop")])
    assert orders_of(plan_run(stopped)) == ["collect"]


def collected(commits: int, **values: object) -> list[NodeOrder]:
    found = replace(COLLECTED, commits=commits, **values)
    return [an_answer("T-1.1/stop"), an_answer("T-1.1/collect/1", result=to_json(found))]


def test_p12_a_claim_without_a_commit_is_no_change():
    planned = plan_run(a_view(run=checking(), orders=collected(0)))
    assert run_of(planned).verdict is Outcome.NO_CHANGE
    (task,) = of(planned, Task)
    assert task.state is TaskState.DONE


def test_a_question_that_was_answered_ends_with_the_answer():
    view = a_view(run=checking(), task=a_task(kind="question"), orders=collected(0))
    assert run_of(plan_run(view)).verdict is Outcome.ANSWER


def test_without_checks_the_commits_are_pushed_at_once():
    planned = plan_run(a_view(run=checking(), orders=collected(1)))
    assert run_of(planned).state is RunState.PUBLISHING
    assert orders_of(planned) == ["push"]


def test_with_checks_they_run_before_the_push():
    view = a_view(run=checking(), project=a_project(checks=("make",)), orders=collected(1))
    assert orders_of(plan_run(view)) == ["run_checks"]
    result = {
        "commit": "b" * 40,
        "results": [{"command": "make", "exit_code": 1, "took_s": 2.0, "tail": "boom"}],
    }
    done = [*collected(1), an_answer("T-1.1/checks", result=result)]
    planned = plan_run(a_view(run=checking(), project=view.project, orders=done))
    assert run_of(planned).state is RunState.PUBLISHING
    assert run_of(planned).measured["checks"][0]["exit_code"] == 1


@pytest.mark.parametrize("verdict", [Outcome.CANCELLED, Outcome.FAILED, Outcome.BLOCKED])
def test_g4_every_end_pushes_the_commits_that_there_are(verdict: Outcome):
    run = checking(verdict=verdict, code="x", reason="Why.")
    assert orders_of(plan_run(a_view(run=run, orders=collected(1)))) == ["push"]


def test_g4_a_failed_collection_is_tried_again_and_then_said():
    failed = [an_answer("T-1.1/stop"), an_answer("T-1.1/collect/1", ok=False, text="Docker")]
    assert orders_of(plan_run(a_view(run=checking(), orders=failed))) == ["collect"]
    failed.append(an_answer("T-1.1/collect/2", ok=False, text="Docker"))
    ended = run_of(plan_run(a_view(run=checking(), orders=failed)))
    assert (ended.verdict, ended.code) == (Outcome.FAILED, "collect_failed")


def test_what_people_can_mend_is_said_in_the_words_of_the_node():
    failed = [an_answer("T-1.1/stop")] + [
        an_answer(f"T-1.1/collect/{n}", ok=False, code="disk_full", text="The disk is full.")
        for n in (1, 2)
    ]
    ended = run_of(plan_run(a_view(run=checking(), orders=failed)))
    assert (ended.code, ended.reason) == ("disk_full", "The disk is full.")


def publishing() -> Run:
    return a_run(
        state=RunState.PUBLISHING,
        deadline_at=at(1000),
        summary="Done. Ping @all",
        measured=to_json(COLLECTED),
    )


PULL = Pull(
    number=7,
    url="http://forge/7",
    state="open",
    draft=False,
    head="samovar/T-1-fix-the-cart",
    head_sha="b" * 40,
    base="main",
    commits=1,
    additions=1,
    deletions=0,
    changed_files=1,
)


def test_the_pull_request_is_wanted_once_the_branch_is_pushed():
    before = Draft(a_view(run=publishing()))
    assert wanted_pull(before, asked_by="Ana", page_url="u") is None
    draft = Draft(a_view(run=publishing(), orders=[an_answer("T-1.1/push/1")]))
    wanted = wanted_pull(draft, asked_by="Ana", page_url="u")
    assert (wanted.head, wanted.base, wanted.draft) == ("samovar/T-1-fix-the-cart", "main", False)
    assert "@all" not in wanted.body
    pulled(draft, PULL)
    planned = draft.planned(None)
    assert run_of(planned).verdict is Outcome.PULL_REQUEST
    (task,) = of(planned, Task)
    assert (task.pull_number, task.state) == (7, TaskState.DONE)


def test_a_refused_pull_request_leaves_the_branch_and_says_why():
    draft = Draft(a_view(run=publishing(), orders=[an_answer("T-1.1/push/1")]))
    not_pulled(draft, "GitHub: no")
    assert run_of(draft.planned(None)).verdict is Outcome.PUSHED


def test_a_failed_push_is_tried_three_times():
    failed = [an_answer(f"T-1.1/push/{n}", ok=False, text="refused") for n in (1, 2)]
    assert orders_of(plan_run(a_view(run=publishing(), orders=failed))) == ["push"]
    failed.append(an_answer("T-1.1/push/3", ok=False, text="refused"))
    assert run_of(plan_run(a_view(run=publishing(), orders=failed))).code == "push_failed"


def test_what_was_said_too_late_starts_the_next_run():
    late = a_prompt(id="p-2", state="pending", when_idle=True)
    view = a_view(run=publishing(), prompts=(a_prompt(), late), orders=[an_answer("T-1.1/push/1")])
    draft = Draft(view)
    pulled(draft, PULL)
    planned = draft.planned(None)
    (task,) = of(planned, Task)
    assert task.state is TaskState.QUEUED
    (prompt,) = of(planned, Prompt)
    assert (prompt.run_id, prompt.when_idle) == ("T-1.2", False)


def test_p4_a_prompt_without_a_receipt_at_the_end_is_called_unknown():
    view = a_view(
        run=publishing(),
        prompts=(a_prompt(), a_prompt(id="p-2", state="sent")),
        orders=[an_answer("T-1.1/push/1")],
    )
    draft = Draft(view)
    pulled(draft, PULL)
    (prompt,) = of(draft.planned(None), Prompt)
    assert prompt.state == "ambiguous"


def test_a_lost_node_ends_the_run_and_says_where_the_work_is():
    ended = run_of(plan_run(a_view(now=at(400))))
    assert (ended.verdict, ended.code) == (Outcome.FAILED, "node_lost")


def test_p8_a_silent_busy_agent_is_looked_after_again_and_again():
    run = a_run(heard_at=at(-301))
    planned = plan_run(a_view(run=run, now=at(0)))
    assert orders_of(planned) == ["start_session"]
    assert run_of(planned).looks == 1
    assert orders_of(plan_run(a_view(run=run_of(planned), now=at(1)))) == []


def test_a_run_out_of_time_is_asked_to_finish_and_then_ended():
    nudged = plan_run(a_view(run=a_run(deadline_at=at(5))))
    assert run_of(nudged).nudges == 1
    assert len(of(nudged, Prompt)) == 1
    late = plan_run(a_view(run=a_run(deadline_at=at(5), nudges=1)))
    assert run_of(late).code == "out_of_time"


def test_t2_an_end_is_final():
    assert plan_run(a_view(run=a_run(state=RunState.ENDED, ended_at=at(1)))).changes == ()


def test_the_same_view_gives_the_same_plan():
    view = a_view(session=a_session(state=SessionState.IDLE, is_complete=True, turn_ok=True))
    assert plan_run(view) == plan_run(view)


def test_a_workspace_that_cannot_be_made_ends_the_run_with_its_sentence():
    run = a_run(state=RunState.PREPARING, session_id=None)
    broken = a_workspace(
        state=WorkspaceState.DELETING, code="clone_refused", error="The code host said no."
    )
    ended = run_of(plan_run(a_view(run=run, workspace=broken, session=None)))
    assert (ended.code, ended.reason) == ("clone_refused", "The code host said no.")


def full(**values: object) -> Placement:
    return Placement(node=None, reason="full", is_full=True, **values)


def placing(**values: object) -> RunView:
    run = a_run(
        state=RunState.PLACING, deadline_at=at(5), node_id=None, workspace_id=None, session_id=None
    )
    return a_view(run=run, workspace=None, session=None, node=None, link=None, **values)


def test_a_run_waits_while_others_use_every_machine():
    waiting = run_of(plan_run(placing(placement=full())))
    assert (waiting.state, waiting.deadline_at) == (RunState.PLACING, at(910))


def test_a_workspace_that_is_only_kept_warm_gives_way():
    kept = a_workspace(id="wother", run_id=None, keep_until=at(1000))
    planned = plan_run(placing(now=at(1), placement=full(idle=kept)))
    (workspace,) = of(planned, Workspace)
    assert (workspace.id, workspace.keep_until) == ("wother", at(1))
    assert Wake("workspace", "wother") in planned.changes


def test_g2_a_full_house_of_nodes_does_not_keep_a_run_past_its_deadline():
    view = placing(placement=Placement(node=None, reason="no"), new_node=a_node(), nodes_max=1)
    planned = plan_run(view)
    assert run_of(planned).code == "no_node"
    assert of(planned, Node) == []


def test_a_stopped_run_says_where_its_commits_are():
    run = replace(publishing(), verdict=Outcome.CANCELLED, code="cancelled", reason="Stopped.")
    ended = run_of(plan_run(a_view(run=run, orders=[an_answer("T-1.1/push/1")])))
    assert ended.verdict is Outcome.CANCELLED
    assert "`samovar/T-1-fix-the-cart`" in ended.reason


def test_t2_a_lost_machine_does_not_turn_a_stop_into_a_failure():
    run = checking(verdict=Outcome.CANCELLED, code="cancelled", reason="Stopped.")
    ended = run_of(plan_run(a_view(run=run, now=at(400))))
    assert ended.verdict is Outcome.CANCELLED
    assert "has not answered" in ended.reason


def test_a_lost_machine_is_not_needed_once_the_branch_is_pushed():
    view = a_view(run=publishing(), orders=[an_answer("T-1.1/push/1")], now=at(400))
    assert plan_run(view).changes == ()


def test_the_end_brings_the_link_into_the_thread():
    draft = Draft(a_view(run=publishing(), orders=[an_answer("T-1.1/push/1")]))
    pulled(draft, PULL)
    (post,) = of(draft.planned(None), Post)
    assert (post.kind, post.mention) == ("end", "ana")
    assert post.text.startswith("Pull request #7 is ready: http://forge/7\n")


def test_a_request_that_never_reached_a_coding_agent_starts_the_next_run():
    run = a_run(state=RunState.PREPARING, session_id=None, started_at=None)
    broken = a_workspace(state=WorkspaceState.DELETING, code="clone_refused", error="No.")
    pending = a_prompt(state="pending")
    planned = plan_run(a_view(run=run, workspace=broken, session=None, prompts=(pending,)))
    (prompt,) = of(planned, Prompt)
    assert (prompt.state, prompt.run_id) == ("pending", "T-1.2")
    (task,) = of(planned, Task)
    assert task.state is TaskState.FAILED, "somebody has to say that it is worth another try"


def test_a_workspace_that_was_just_taken_is_let_go_when_its_machine_is_lost():
    run = a_run(state=RunState.PLACING, node_id=None, workspace_id=None, session_id=None)
    kept = a_workspace(run_id=None, keep_until=at(5000))
    planned = plan_run(a_view(run=run, workspace=kept, session=None, now=at(400)))
    assert run_of(planned).code == "node_lost"
    (workspace,) = of(planned, Workspace)
    assert workspace.run_id is None


def test_p13_a_late_question_is_withdrawn_with_the_run():
    view = a_view(
        run=publishing(),
        orders=[an_answer("T-1.1/push/1")],
        decisions=(a_decision(kind="budget", request=""),),
    )
    draft = Draft(view)
    pulled(draft, PULL)
    assert [d.state for d in of(draft.planned(None), Decision)] == [DecisionState.WITHDRAWN]


def test_our_own_words_to_the_coding_agent_are_sent_at_once():
    planned = plan_run(a_view(run=a_run(deadline_at=at(5))))
    assert Wake("run", "T-1.1") in planned.changes


def test_a_refused_budget_without_commits_says_so():
    run = checking(code="budget", reason="The budget was used up.")
    ended = run_of(plan_run(a_view(run=run, orders=collected(0))))
    assert (ended.verdict, ended.code) == (Outcome.NO_CHANGE, "budget")


def test_p9_what_is_said_after_a_stop_is_done_next():
    run = replace(
        checking(verdict=Outcome.CANCELLED, code="cancelled", reason="Stopped."),
        marks={"checking": at(5).isoformat()},
    )
    before = a_prompt(id="p-2", state="pending", created_at=at(4))
    after = a_prompt(id="p-3", state="pending", created_at=at(6))
    planned = plan_run(a_view(run=run, prompts=(before, after), orders=collected(0)))
    assert {p.id: (p.state, p.run_id) for p in of(planned, Prompt)} == {
        "p-2": ("cancelled", "T-1.1"),
        "p-3": ("pending", "T-1.2"),
    }
    (task,) = of(planned, Task)
    assert task.state is TaskState.QUEUED


def taken(**values: object) -> RunView:
    """Return a later run that waits until its workspace is made sure of."""
    run = a_run(state=RunState.PREPARING, session_id=None, started_at=None, **values)
    return a_view(run=run, session=None)


def test_t1_a_workspace_that_is_taken_again_is_made_sure_of_with_an_event():
    run = a_run(state=RunState.PLACING, node_id=None, workspace_id=None, session_id=None)
    planned = plan_run(a_view(run=run, workspace=a_workspace(run_id=None), session=None))
    assert [w.state for w in of(planned, Workspace)] == [WorkspaceState.BUILDING]
    told = [change.event.kind for change in planned.changes if isinstance(change, Tell)]
    assert told == ["workspace.building", "run.preparing"]


def test_g2_a_workspace_that_went_away_at_once_ends_its_run():
    gone = a_workspace(state=WorkspaceState.GONE, run_id=None, code="clone_refused", error="No.")
    ended = run_of(plan_run(replace(taken(), workspace=gone)))
    assert (ended.code, ended.reason) == ("clone_refused", "No.")


def test_g2_a_workspace_of_nobody_is_waited_for_until_the_deadline():
    view = replace(taken(deadline_at=at(5)), workspace=a_workspace(run_id=None))
    assert run_of(plan_run(view)).code == "workspace_timeout"


def test_t4_a_run_starts_no_coding_agent_before_the_last_one_is_confirmed_stopped():
    earlier = a_session(id=SessionId("before"), run_id=RunId("T-1.0"), state=SessionState.ENDED)
    stop = order(
        StopSession(session=earlier.id),
        id="T-1.0/stop",
        node=NodeId("node-1"),
        subject=("run", "T-1.0"),
        fence=1,
        at=at(0),
    )
    waiting = replace(taken(), earlier=earlier, orders={stop.id: stop})
    planned = plan_run(waiting)
    assert orders_of(planned) == []
    assert planned.due_in_s == CLOCKS.poll_s
    is_done = replace(waiting, orders={stop.id: replace(stop, ok=True)})
    assert orders_of(plan_run(is_done)) == ["start_session"]


def test_a_stop_while_a_used_workspace_is_made_sure_of_keeps_it():
    building = a_workspace(state=WorkspaceState.BUILDING, container="c1")
    planned = plan_run(replace(taken(cancel_by="ana"), workspace=building))
    (workspace,) = of(planned, Workspace)
    assert (workspace.state, workspace.run_id) == (WorkspaceState.BUILDING, None)
    new = plan_run(replace(taken(cancel_by="ana"), workspace=replace(building, container="")))
    assert [w.state for w in of(new, Workspace)] == [WorkspaceState.DELETING]
