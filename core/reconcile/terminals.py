"""Terminals: opened, closed, ended with their workspace."""

from dataclasses import dataclass

from core.clocks import Clock, Clocks
from core.node import Link, Node
from core.order import NodeOrder
from core.plan.terminal import TerminalView, plan_terminal
from core.ports.store import Reader, Store
from core.ports.work import Claim
from core.terminal import Terminal
from core.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalReconciler:
    """Brings terminals forward."""

    store: Store
    clock: Clock
    clocks: Clocks

    async def __call__(self, claim: Claim) -> float | None:
        """Look at one terminal."""
        view = await self.store.snapshot(lambda reader: self._view(reader, claim))
        planned = plan_terminal(view)
        if planned.changes:
            await self.store.commit(*planned.changes, claim=claim)
        return planned.due_in_s

    async def _view(self, reader: Reader, claim: Claim) -> TerminalView:
        terminal = await reader.get(Terminal, claim.key)
        workspace = await reader.get(Workspace, terminal.workspace_id)
        orders = await reader.find(NodeOrder, subject_kind="terminal", subject=terminal.id)
        links = await reader.find(Link, node_id=workspace.node_id)
        return TerminalView(
            terminal=terminal,
            workspace=workspace,
            node=await reader.get(Node, workspace.node_id),
            link=links[0] if links else None,
            orders={order.id: order for order in orders},
            now=self.clock.now(),
            fence=claim.fence,
            clocks=self.clocks,
        )
