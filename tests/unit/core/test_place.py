from collections.abc import Sequence

import pytest

from core.node import Link, NodeState
from core.place import ACTIVE_S, Placement, is_lost, is_up, place, room
from core.workspace import Workspace, WorkspaceState
from tests.fakes.nouns import CLOCKS, NOW, a_link, a_node, a_project, a_workspace, at


def placed(
    *nodes: object, workspaces: Sequence[Workspace] = (), links: Sequence[Link] = (), **values: str
) -> Placement:
    known = {link.node_id: link for link in links or [a_link(node_id=node.id) for node in nodes]}
    return place(a_project(**values).size, nodes, known, workspaces, now=at(1), clocks=CLOCKS)


def on(node: str, **values: object) -> Workspace:
    return a_workspace(id=f"w{values!r}"[:8], node_id=node, **values)


def test_the_fullest_node_with_room_is_taken():
    nodes = [a_node(id="a"), a_node(id="b"), a_node(id="c", cpus=2.0)]
    chosen = placed(*nodes, workspaces=[on("b"), on("c")])
    assert chosen.node == nodes[1]
    assert "has room" in chosen.reason


def test_a_small_empty_node_takes_one_workspace_of_any_size():
    small = a_node(cpus=1.0, memory_mb=512)
    assert placed(small, size="large").node == small
    assert placed(small, workspaces=[on("node-1")]).node is None


def test_what_is_gone_takes_no_room_and_what_is_being_removed_does():
    gone, going = on("node-1", state=WorkspaceState.GONE), on("node-1", state="deleting")
    assert room(a_node(), [gone]) == (4.0, 16384)
    assert room(a_node(), [going]) == (2.0, 12288)


@pytest.mark.parametrize("state", [state for state in NodeState if state != NodeState.READY])
def test_only_a_ready_node_is_up(state: NodeState):
    assert not is_up(a_node(state=state), a_link(), now=NOW, clocks=CLOCKS)


@pytest.mark.parametrize(
    "link", [None, a_link(replica=None), a_link(seen_at=None), a_link(seen_at=at(-45))]
)
def test_a_node_that_does_not_answer_gets_no_work(link: Link | None):
    assert not is_up(a_node(), link, now=NOW, clocks=CLOCKS)


def test_a_node_is_given_up_after_its_silence_and_not_before():
    assert not is_lost(a_link(seen_at=at(-300)), at(-9999), now=NOW, clocks=CLOCKS)
    assert is_lost(a_link(seen_at=at(-301)), at(-9999), now=NOW, clocks=CLOCKS)
    assert is_lost(None, at(-301), now=NOW, clocks=CLOCKS), "it was never there"
    assert not is_lost(None, at(-10), now=NOW, clocks=CLOCKS), "it has not had its time yet"


def test_a_full_house_names_the_workspace_that_is_idle_for_longest():
    kept = [
        on("node-1", run_id=None, state_since=at(-9999), keep_until=at(1700)),
        on("node-1", run_id=None, state_since=at(-5), keep_until=at(900)),
    ]
    full = placed(a_node(), workspaces=kept)
    assert (full.node, full.is_full, full.idle) == (None, True, kept[1])
    assert "full" in full.reason


def test_who_types_is_not_sent_to_sleep_for_others():
    typing = on("node-1", run_id=None, keep_until=at(900), active_at=at(-ACTIVE_S / 2))
    idle = on("node-1", run_id=None, keep_until=at(1700), active_at=at(-ACTIVE_S))
    assert placed(a_node(), workspaces=[typing, idle]).idle == idle
    assert placed(a_node(), workspaces=[typing, on("node-1")]).idle is None


def test_nothing_more_is_given_up_while_room_is_being_made():
    going = on("node-1", run_id=None, state=WorkspaceState.DELETING)
    kept = on("node-1", run_id=None)
    assert placed(a_node(), workspaces=[going, kept]).idle is None
    stays = on("node-1", run_id=None, state="deleting", state_since=at(-CLOCKS.save_s))
    assert placed(a_node(), workspaces=[stays, kept]).idle == kept, "it keeps nobody waiting"


def test_a_workspace_with_a_run_is_never_given_up():
    assert placed(a_node(), workspaces=[on("node-1"), on("node-1", size="medium")]).idle is None


def test_without_a_node_it_says_so_and_whether_one_comes():
    none = placed()
    assert (none.node, none.is_full, none.is_coming) == (None, False, False)
    coming = placed(a_node(state=NodeState.BOOTING))
    assert (coming.is_coming, coming.reason) == (True, "no node is up")
