"""Terminals: opened, closed, ended with their workspace."""

from dataclasses import dataclass

from core.clocks import Clock, Clocks
from core.node import Link, Node
from core.order import NodeOrder
from core.plan.terminal import TerminalView, plan_terminal
from core.ports.store import Reader, Store
from core.ports.work import Claim
from core.recording import Recording
from core.session import AgentSession
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
        nodes = await reader.find(Node, id=workspace.node_id)
        sessions = await reader.find(AgentSession, id=terminal.session_id or "")
        links = await reader.find(Link, node_id=workspace.node_id)
        recordings = await reader.find(Recording, id=terminal.id)
        return TerminalView(
            terminal=terminal,
            workspace=workspace,
            node=nodes[0] if nodes else None,
            link=links[0] if links else None,
            orders={order.id: order for order in orders},
            recording=recordings[0] if recordings else None,
            now=self.clock.now(),
            fence=claim.fence,
            clocks=self.clocks,
            run_id=sessions[0].run_id if sessions else None,
        )
