"""Workspaces: ordered, built, kept for a while, removed."""

from collections.abc import Callable
from dataclasses import dataclass

from core.clocks import Clock, Clocks
from core.node import Link, Node
from core.order import NodeOrder
from core.plan.workspace import WorkspaceView, plan_workspace
from core.ports.store import Reader, Store
from core.ports.work import Claim
from core.project import Project, RepoRef
from core.terminal import LIVE, Terminal
from core.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceReconciler:
    """Brings workspaces forward.

    Attributes:
        url: Where a repository is fetched, without credentials.
        image: The default image.
    """

    store: Store
    clock: Clock
    clocks: Clocks
    url: Callable[[RepoRef], str]
    image: str

    async def __call__(self, claim: Claim) -> float | None:
        """Look at one workspace."""
        view = await self.store.snapshot(lambda reader: self._view(reader, claim))
        planned = plan_workspace(view)
        if planned.changes:
            await self.store.commit(*planned.changes, claim=claim)
        return planned.due_in_s

    async def _view(self, reader: Reader, claim: Claim) -> WorkspaceView:
        workspace = await reader.get(Workspace, claim.key)
        project = await reader.get(Project, workspace.project)
        orders = await reader.find(NodeOrder, subject_kind="workspace", subject=workspace.id)
        terminals = await reader.find(Terminal, workspace_id=workspace.id, state=LIVE)
        links = await reader.find(Link, node_id=workspace.node_id)
        return WorkspaceView(
            workspace=workspace,
            project=project,
            node=await reader.get(Node, workspace.node_id),
            link=links[0] if links else None,
            orders={order.id: order for order in orders},
            now=self.clock.now(),
            fence=claim.fence,
            clocks=self.clocks,
            url=self.url(project.repo),
            image=self.image,
            terminals=tuple(terminal.id for terminal in terminals),
        )
