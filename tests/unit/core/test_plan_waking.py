"""A run whose task has a workspace that sleeps, or is on its way to sleep."""

from dataclasses import replace

import pytest

from core.node import NodeState
from core.order import NodeOrder
from core.place import Placement
from core.plan.draft import RunView
from core.plan.run import plan_run
from core.plan.step import Planned
from core.ports.store import Insert, Update, Wake
from core.rescue import RescueCopy
from core.run import Run, RunState
from core.workspace import Workspace, WorkspaceState
from tests.fakes.nouns import CLOCKS, a_copy, a_node, a_run, a_view, a_workspace, an_answer, at

ROOM = Placement(node=a_node(id="node-2"), reason="room")
FULL = Placement(node=None, reason="full", is_full=True)


def of(planned: Planned, kind: type) -> list:
    return [
        change.noun
        for change in planned.changes
        if isinstance(change, Insert | Update) and isinstance(change.noun, kind)
    ]


def placing(workspace: Workspace, placement: Placement, **values: object) -> RunView:
    run = a_run(
        state=RunState.PLACING, node_id=None, workspace_id=None, session_id=None, started_at=None,
        **values,
    )  # fmt: skip
    return a_view(
        run=run, workspace=workspace, session=None, node=None, link=None, placement=placement,
        copies=(a_copy(),),
    )  # fmt: skip


def asleep(**values: object) -> Workspace:
    return a_workspace(
        **{
            "state": WorkspaceState.STOPPED,
            "node_id": "",
            "run_id": None,
            "base_commit": "a" * 40,
            "keep_until": at(CLOCKS.copy_s),
            **values,
        }
    )


@pytest.mark.parametrize("state", [WorkspaceState.STOPPED, WorkspaceState.REQUESTED])
def test_a_run_takes_the_workspace_that_sleeps_to_a_machine_with_room(state: WorkspaceState):
    planned = plan_run(placing(asleep(state=state), ROOM))
    (workspace,) = of(planned, Workspace)
    assert (workspace.state, workspace.node_id) == (WorkspaceState.REQUESTED, "node-2")
    assert (workspace.run_id, workspace.keep_until) == ("T-1.1", None)
    assert workspace.attempt == (2 if state is WorkspaceState.STOPPED else 1)
    (run,) = of(planned, Run)
    assert (run.state, run.workspace_id, run.node_id) == (
        *(RunState.PREPARING, "wabcdefg"),
        "node-2",
    )
    assert Wake("workspace", "wabcdefg") in planned.changes
    assert [node.active_at for node in of(planned, type(a_node()))] == [at(10)]


def test_a_run_waits_for_a_workspace_that_is_being_saved():
    stopping = a_workspace(state=WorkspaceState.STOPPING, run_id=None)
    planned = plan_run(placing(stopping, ROOM))
    assert (planned.changes, planned.due_in_s) == ((), CLOCKS.stale_s)
    late = plan_run(placing(stopping, FULL, deadline_at=at(5)))
    (run,) = of(late, Run)
    assert (run.state, run.deadline_at) == (RunState.PLACING, at(10 + CLOCKS.node_ready_s))


def test_a_run_that_is_stopped_while_its_workspace_wakes_lets_it_sleep_on():
    run = a_run(state=RunState.PREPARING, session_id=None, started_at=None, cancel_by="ana")
    waking = asleep(state=WorkspaceState.REQUESTED, node_id="node-1", run_id=run.id, container="")
    view = a_view(run=run, workspace=waking, session=None, copies=(a_copy(),))
    (rests,) = of(plan_run(view), Workspace)
    assert (rests.state, rests.run_id, rests.node_id) == (WorkspaceState.STOPPED, None, "")
    assert rests.keep_until == at(10 + CLOCKS.copy_s)
    building = replace(view, workspace=replace(waking, state=WorkspaceState.BUILDING))
    planned = plan_run(building)
    (leaves,) = of(planned, Workspace)
    assert leaves.state is WorkspaceState.STOPPING
    assert of(planned, RescueCopy) == [], "g4: the copy that is kept is the one that counts"


def test_an_agent_on_a_machine_that_its_workspace_has_left_is_not_waited_for():
    run = a_run(state=RunState.PREPARING, session_id=None, started_at=None)
    ready = a_workspace(node_id="node-2")
    earlier = replace(a_view().session, id="before", run_id="T-1.0")
    stop = replace(an_answer("T-1.0/stop"), ok=None)
    view = a_view(
        run=run, workspace=ready, session=None, earlier=earlier, orders=(stop,),
        node=a_node(id="node-2", state=NodeState.READY),
    )  # fmt: skip
    assert [one.kind for one in of(plan_run(view), NodeOrder)] == ["start_session"]
    here = replace(view, workspace=a_workspace())
    assert of(plan_run(here), NodeOrder) == []
