"""Nodes: wished for, made, linked, drained, destroyed; and machines that nobody owns."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from core.clocks import Clock, Clocks
from core.errors import RefusedError
from core.ids import NodeId
from core.node import Link, Node, NodeState
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
from core.ports.compute import Compute
from core.ports.store import Reader, Store
from core.ports.work import Claim
from core.secret import Secret
from core.workspace import LIVE as LIVE_WORKSPACES
from core.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReconciler:
    """Brings nodes forward.

    Attributes:
        computes: Suppliers by name. A node of no supplier was joined by hand: never destroyed.
        enrolment: Makes a one-time token with which a machine becomes the node.
    """

    store: Store
    clock: Clock
    clocks: Clocks
    computes: Mapping[str, Compute]
    enrolment: Callable[[NodeId], Awaitable[Secret]]

    async def __call__(self, claim: Claim) -> float | None:
        """Look at one node."""
        view = await self.store.snapshot(lambda reader: self._view(reader, claim))
        planned = await self._acted(view) or plan_node(view)
        if planned.changes:
            await self.store.commit(*planned.changes, claim=claim)
        return planned.due_in_s

    async def _view(self, reader: Reader, claim: Claim) -> NodeView:
        node = await reader.get(Node, claim.key)
        links = await reader.find(Link, node_id=node.id)
        return NodeView(
            node=node,
            link=links[0] if links else None,
            workspaces=await reader.find(Workspace, node_id=node.id, state=LIVE_WORKSPACES),
            now=self.clock.now(),
            clocks=self.clocks,
        )

    async def _acted(self, view: NodeView) -> Planned | None:
        """Ask the supplier for what the plan wants of it; the wish is written already."""
        node = view.node
        compute = self.computes.get(node.supplier)
        if is_to_be_destroyed(view):
            if compute is not None:
                await _destroy(compute, node)
            return destroyed(view)
        if compute is None or not is_to_be_created(view):
            return None
        try:
            token = await self.enrolment(node.id)
            server = await compute.create(node.id, size=node.size, enrolment=token)
        except RefusedError as error:
            return not_created(view, str(error))
        return created(view, server.ref)


async def _destroy(compute: Compute, node: Node) -> None:
    """Destroy the node's machine, also one that was made while its answer was lost."""
    for server in await compute.servers():
        if server.node_id == node.id:
            await compute.destroy(server.ref)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrphanReconciler:
    """Destroys machines that carry our label and that no record wants (G1)."""

    store: Store
    computes: Mapping[str, Compute]

    async def __call__(self, claim: Claim) -> float | None:  # noqa: ARG002  one of its kind
        """Compare each supplier's list with our records."""
        for compute in self.computes.values():
            servers = await compute.servers()
            nodes = {node.id: node for node in await self.store.find(Node)}
            for server in servers:
                node = nodes.get(server.node_id)
                if node is None or node.state is NodeState.GONE:
                    await compute.destroy(server.ref)
        return None
