"""Looking for a machine with room, for whoever needs one."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from core.clocks import Clocks
from core.ids import NodeId
from core.node import Link, Node, NodeState
from core.place import Placement, place
from core.plan import node as node_plan
from core.ports.store import Reader
from core.project import Size
from core.run import LIVE, Run
from core.workspace import LIVE as LIVE_WORKSPACES
from core.workspace import Workspace

_LIVE_NODES = tuple(state for state in NodeState if state is not NodeState.GONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machines:
    """Who makes machines when none has room.

    Attributes:
        supplier: Its name; empty when nobody does.
        nodes_max: How many of its machines there may be.
        mint: Makes the id of a new machine.
    """

    supplier: str
    nodes_max: int
    mint: Callable[[], NodeId]

    async def look(
        self, reader: Reader, size: Size, *, now: datetime, clocks: Clocks
    ) -> tuple[Placement, Node | None]:
        """Return where there is room, and the machine that may be wished for if there is none."""
        nodes = await reader.find(Node, state=_LIVE_NODES)
        links = {link.node_id: link for link in await reader.find(Link)}
        workspaces = await reader.find(Workspace, state=LIVE_WORKSPACES)
        live = await reader.find(Run, state=LIVE)
        placement = place(
            size,
            nodes,
            links,
            workspaces,
            chats=frozenset(run.chat_in for run in live if run.chat_in is not None),
            now=now,
            clocks=clocks,
        )
        mine = [node for node in nodes if node.supplier == self.supplier]
        if not self.supplier or len(mine) >= self.nodes_max:
            return placement, None
        wished = Node(
            id=self.mint(),
            supplier=self.supplier,
            size=size,
            state=NodeState.REQUESTED,
            state_since=now,
            created_at=now,
            deadline_at=node_plan.deadline(now, clocks),
        )
        return placement, wished
