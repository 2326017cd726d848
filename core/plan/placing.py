"""What whoever waits for a machine may write: a wish for one, or that somebody makes room. Pure."""

from dataclasses import replace
from datetime import datetime

from core.node import Node, NodeState
from core.place import Placement
from core.ports.store import AtMost, Change, Insert, Update, Wake


def make_room(
    placement: Placement | None, wished: Node | None, *, nodes_max: int, at: datetime
) -> tuple[Change, ...]:
    """Wish for a machine, else let a workspace that is only kept warm give way to work.

    That there are not too many machines is counted as the wish is written.
    """
    if placement is None:
        return ()
    if wished is not None and not placement.is_coming:
        live = tuple(state for state in NodeState if state is not NodeState.GONE)
        where = (("supplier", wished.supplier), ("state", live))
        limit = AtMost(number=nodes_max, where=where, code="nodes")
        return (Insert(wished, limits=(limit,)), Wake("node", wished.id))
    if placement.idle is not None:
        idle = placement.idle
        return (Update(replace(idle, keep_until=at)), Wake("workspace", idle.id))
    return ()


def claimed(node: Node, *, at: datetime) -> Update:
    """Write the machine that was chosen, so that two never take the same room."""
    return Update(replace(node, active_at=at, warm_until=None))
