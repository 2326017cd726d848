from dataclasses import replace

import pytest

from core.node import NodeState
from core.order import NodeOrder
from core.plan.step import Planned
from core.plan.workspace import WorkspaceView, plan_workspace
from core.ports.store import Insert, Tell, Update, Wake
from core.workspace import Workspace, WorkspaceState
from tests.fakes.nouns import CLOCKS, a_link, a_node, a_project, a_workspace, an_answer, at

READY = {
    "workspace": "wabcdefg", "attempt": 1, "container": "c1", "user": "dev", "folder": "/work",
    "base": "main", "base_commit": "a" * 40, "token_hash": "hash", "recovered": "No Dockerfile.",
    "notes": ["A note."],
}  # fmt: skip


def view(workspace: Workspace, *orders: NodeOrder, **values: object) -> WorkspaceView:
    return WorkspaceView(
        **{
            "workspace": workspace,
            "project": a_project(),
            "node": a_node(),
            "link": a_link(),
            "orders": {order.id: order for order in orders},
            "now": at(10),
            "fence": 3,
            "clocks": CLOCKS,
            "url": "http://git/acme/web.git",
            "image": "base",
            **values,
        }
    )


def workspace_of(planned: Planned) -> Workspace:
    (found,) = [c.noun for c in planned.changes if isinstance(c, Update)]
    assert isinstance(found, Workspace)
    assert f"workspace.{found.state}" in [
        change.event.kind for change in planned.changes if isinstance(change, Tell)
    ]
    return found


def orders_of(planned: Planned) -> list[NodeOrder]:
    return [c.noun for c in planned.changes if isinstance(c, Insert)]


def building(**values: object) -> Workspace:
    return a_workspace(state=WorkspaceState.BUILDING, deadline_at=at(1800), **values)


def test_a_wished_workspace_is_ordered_with_what_the_node_can_give():
    wished = a_workspace(state=WorkspaceState.REQUESTED, size="large", deadline_at=at(1800))
    small = a_node(cpus=2.0, memory_mb=2048)
    planned = plan_workspace(view(wished, node=small, project=a_project(allow=("privileged",))))
    assert workspace_of(planned).state is WorkspaceState.BUILDING
    (order,) = orders_of(planned)
    assert (order.id, order.fence) == ("wabcdefg/create/1/T-1.1", 3)
    assert (order.body["cpus"], order.body["memory_mb"]) == (2.0, 2048)
    assert (order.body["allow"], order.body["url"]) == (["privileged"], "http://git/acme/web.git")


def test_w4_a_built_workspace_keeps_what_was_found_and_wakes_its_run():
    planned = plan_workspace(view(building(), an_answer("wabcdefg/create/1/T-1.1", result=READY)))
    ready = workspace_of(planned)
    assert (ready.state, ready.deadline_at, ready.container) == (WorkspaceState.READY, None, "c1")
    assert (ready.recovered, ready.notes) == ("No Dockerfile.", ("A note.",))
    assert Wake("run", "T-1.1") in planned.changes


def test_a_workspace_that_cannot_be_made_says_why_and_is_removed():
    failed = an_answer(
        "wabcdefg/create/1/T-1.1", ok=False, code="clone_refused", text="It said no."
    )
    planned = plan_workspace(view(building(), failed))
    gone = workspace_of(planned)
    assert (gone.state, gone.code, gone.error) == (
        WorkspaceState.DELETING,
        "clone_refused",
        "It said no.",
    )
    assert Wake("run", "T-1.1") in planned.changes
    assert planned.due_in_s == 0


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"now": at(1800), "link": a_link(seen_at=at(1800))}, "workspace_timeout"),
        ({"now": at(400)}, "node_lost"),
        ({"node": a_node(state=NodeState.GONE)}, "node_lost"),
    ],
)
def test_w2_a_build_ends_by_its_deadline_or_with_its_node(values: dict[str, object], code: str):
    assert workspace_of(plan_workspace(view(building(), **values))).code == code


def test_w3_an_answer_to_an_earlier_attempt_is_not_believed():
    late = an_answer("wabcdefg/create/1/T-1.1", result=READY)
    planned = plan_workspace(view(building(attempt=2), late))
    (order,) = orders_of(planned)
    assert order.id == "wabcdefg/create/2/T-1.1"
    assert planned.due_in_s == CLOCKS.lost_s


def test_a_workspace_is_kept_for_a_while_without_a_run_and_for_ever_with_one():
    kept = a_workspace(run_id=None, keep_until=at(100))
    assert plan_workspace(view(kept)).due_in_s == 90
    assert workspace_of(plan_workspace(view(kept, now=at(100)))).state is WorkspaceState.DELETING
    with_run = plan_workspace(view(a_workspace(keep_until=at(1))))
    assert (with_run.changes, with_run.due_in_s) == ((), None)


def test_a_node_that_drains_lets_go_of_what_no_run_uses():
    kept = a_workspace(run_id=None, keep_until=at(100))
    planned = plan_workspace(view(kept, node=a_node(state=NodeState.DRAINING)))
    assert workspace_of(planned).state is WorkspaceState.DELETING


def test_a_removal_is_ordered_once_and_again_when_it_failed():
    going = a_workspace(state=WorkspaceState.DELETING, run_id=None)
    first = plan_workspace(view(going))
    assert [order.id for order in orders_of(first)] == ["wabcdefg/delete/1"]
    waiting = an_answer("wabcdefg/delete/1", ok=None)
    assert plan_workspace(view(going, waiting)).changes == ()
    failed = replace(waiting, ok=False, text="Docker is away.")
    noted = plan_workspace(view(going, failed))
    (said,) = [change.noun for change in noted.changes]
    assert (said.state, said.attempt) == (WorkspaceState.DELETING, 1)
    assert "node-1 yet, and is tried again: Docker is away." in said.error
    assert noted.due_in_s == CLOCKS.stop_s - 10
    second = plan_workspace(view(said, failed, now=at(CLOCKS.stop_s)))
    assert [change.noun.attempt for change in second.changes if isinstance(change, Update)] == [2]
    assert [order.id for order in orders_of(second)] == ["wabcdefg/delete/2"]


def test_c2_the_token_of_a_removed_workspace_is_worth_nothing():
    going = a_workspace(state=WorkspaceState.DELETING, run_id=None, token_hash="hash")
    planned = plan_workspace(view(going, an_answer("wabcdefg/delete/1")))
    gone = workspace_of(planned)
    assert (gone.state, gone.token_hash) == (WorkspaceState.GONE, "")
    assert {Wake("node", "node-1"), Wake("admission", "all")} <= {
        change for change in planned.changes if isinstance(change, Wake)
    }


@pytest.mark.parametrize("state", [*WorkspaceState])
def test_a_node_that_is_gone_takes_every_workspace_along(state: WorkspaceState):
    workspace = a_workspace(state=state)
    for _ in range(2):
        planned = plan_workspace(view(workspace, node=a_node(state=NodeState.GONE)))
        if planned.changes:
            workspace = workspace_of(planned)
    ends = {WorkspaceState.GONE, WorkspaceState.STOPPING, WorkspaceState.STOPPED}
    assert workspace.state in ends


@pytest.mark.parametrize("state", [WorkspaceState.GONE, WorkspaceState.STOPPED])
def test_what_nobody_moves_is_left_alone(state: WorkspaceState):
    assert plan_workspace(view(a_workspace(state=state))) == Planned()


def test_a_workspace_goes_when_its_terminals_are_recorded_or_after_a_while() -> None:
    going = a_workspace(state=WorkspaceState.DELETING, run_id=None)
    for owed in ({"terminals": ("t-1",)}, {"recordings": ("t-1",)}):
        assert plan_workspace(view(going, **owed)) == Planned(due_in_s=CLOCKS.stop_s - 10)
        for late in ({"now": at(CLOCKS.stop_s)}, {"link": None}):
            (order,) = orders_of(plan_workspace(view(going, **owed, **late)))
            assert order.kind == "delete_workspace"
    (order,) = orders_of(plan_workspace(view(going)))
    assert (order.kind, order.body["keeps_volumes"]) == ("delete_workspace", False)
