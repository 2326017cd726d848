import pytest

from core.node import Node, NodeState
from core.plan.node import (
    NodeView,
    created,
    destroyed,
    is_to_be_created,
    is_to_be_destroyed,
    not_created,
    plan_node,
)
from core.plan.step import Planned
from core.ports.store import Tell, Update, Wake
from tests.fakes.nouns import CLOCKS, a_link, a_node, a_workspace, at

PLACING = Wake("admission", "all")


def view(state: NodeState, *, workspaces: tuple[object, ...] = (), **values: object) -> NodeView:
    node = a_node(state=state, deadline_at=at(900), **values.pop("node", {}))
    known = {"link": None, "now": at(10), "clocks": CLOCKS, **values}
    return NodeView(node=node, workspaces=workspaces, **known)


def node_of(planned: Planned) -> Node:
    (node,) = [change.noun for change in planned.changes if isinstance(change, Update)]
    (fact,) = [change.event for change in planned.changes if isinstance(change, Tell)]
    assert fact.kind == f"node.{node.state}"
    return node


def test_n2_a_wish_is_there_before_the_supplier_is_asked_and_only_then():
    assert is_to_be_created(view(NodeState.REQUESTED))
    for state in set(NodeState) - {NodeState.REQUESTED}:
        assert not is_to_be_created(view(state))
    booting = node_of(created(view(NodeState.REQUESTED), "server-7"))
    assert (booting.state, booting.server) == (NodeState.BOOTING, "server-7")


def test_w1_a_node_is_ready_when_its_agent_is_linked_and_says_so_once():
    linked = view(NodeState.BOOTING, link=a_link())
    planned = plan_node(linked)
    ready = node_of(planned)
    assert (ready.state, ready.deadline_at, ready.active_at) == (NodeState.READY, None, at(10))
    assert PLACING in planned.changes
    assert plan_node(view(NodeState.READY, link=a_link())).changes == ()


def test_w1_a_node_whose_agent_linked_before_its_machine_was_noted_is_looked_at_at_once():
    assert created(view(NodeState.REQUESTED, link=a_link()), "server-7").due_in_s == 0


@pytest.mark.parametrize("link", [None, a_link(replica=None)])
def test_a_node_without_a_link_waits_for_its_deadline_and_is_then_let_go(link: object):
    waiting = plan_node(view(NodeState.BOOTING, link=link))
    assert (waiting.changes, waiting.due_in_s) == ((), 890)
    late = node_of(plan_node(view(NodeState.BOOTING, link=link, now=at(900))))
    assert late.state is NodeState.DELETING
    assert late.error.endswith("try again.")


def test_g2_a_wish_that_the_supplier_never_granted_ends_too():
    late = view(NodeState.REQUESTED, now=at(900))
    assert not is_to_be_created(late)
    assert node_of(plan_node(late)).state is NodeState.DELETING
    refused = node_of(not_created(view(NodeState.REQUESTED), "No such machine."))
    assert (refused.state, refused.error) == (NodeState.DELETING, "No such machine.")


def test_a_draining_node_waits_for_its_workspaces_and_wakes_those_without_a_run():
    kept, used = a_workspace(id="wkept", run_id=None), a_workspace(id="wused")
    planned = plan_node(view(NodeState.DRAINING, workspaces=(kept, used)))
    assert planned.changes == (Wake("workspace", "wkept"),)
    assert planned.due_in_s == CLOCKS.sweep_s
    assert node_of(plan_node(view(NodeState.DRAINING))).state is NodeState.DELETING


def test_g4_a_machine_is_destroyed_only_when_nothing_of_value_is_on_it():
    assert not is_to_be_destroyed(view(NodeState.DELETING, workspaces=(a_workspace(),)))
    assert is_to_be_destroyed(view(NodeState.DELETING))
    gone = node_of(destroyed(view(NodeState.DELETING, node={"token_hash": "hash"})))
    assert (gone.state, gone.token_hash) == (NodeState.GONE, "")
    assert plan_node(view(NodeState.GONE)) == Planned()
