"""Workspaces: ordered, built, kept for a while, saved, put back, removed."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

from core.clocks import Clock, Clocks
from core.errors import NotFoundError, QuotaError, RefusedError, UnavailableError
from core.message import Thread
from core.node import Link, Node
from core.order import NodeOrder
from core.plan.step import Planned
from core.plan.stopping import brought_in, made_copy, not_saved
from core.plan.workspace import plan_workspace
from core.plan.workspace_step import WorkspaceView
from core.ports.files import Files
from core.ports.nodes import Nodes
from core.ports.store import Reader, Store, Update
from core.ports.work import Claim
from core.project import Project, RepoRef
from core.reconcile.placing import Machines
from core.recording import Recording, RecordingState
from core.rescue import RescueCopy, bring_in
from core.run import LIVE as LIVE_RUNS
from core.run import Run
from core.task import Task
from core.terminal import LIVE, Terminal
from core.workspace import Workspace, WorkspaceState


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceReconciler:
    """Brings workspaces forward.

    Attributes:
        url: Where a repository is fetched, without credentials.
        image: The default image.
        files: Where rescue copies are kept.
    """

    store: Store
    files: Files
    nodes: Nodes
    clock: Clock
    clocks: Clocks
    machines: Machines
    url: Callable[[RepoRef], str]
    image: str

    async def __call__(self, claim: Claim) -> float | None:
        """Look at one workspace."""
        view = await self.store.snapshot(lambda reader: self._view(reader, claim))
        planned = await self._brought_in(view, claim) or plan_workspace(view)
        if planned.changes:
            try:
                await self.store.commit(*planned.changes, claim=claim)
            except QuotaError:  # No more nodes: somebody else's machine may do, later.
                return self.clocks.stale_s
        return planned.due_in_s

    async def _brought_in(self, view: WorkspaceView, claim: Claim) -> Planned | None:
        """Bring a copy from its machine into the file store; nothing is removed before.

        However large it is: its time begins anew with each part that came.
        """
        saved = made_copy(view)
        if saved is None:
            return None
        kept = await self.files.kept_bytes(saved.sha256)
        node = view.workspace.node_id
        try:
            stored = await bring_in(self.files, self.nodes, node, saved.sha256, clock=self.clock)
        except (NotFoundError, ValueError):
            return not_saved(view, "copy_lost")
        except RefusedError as error:
            return not_saved(view, error.code, str(error))
        except UnavailableError:
            if await self.files.kept_bytes(saved.sha256) > kept:
                until = self.clock.now() + timedelta(seconds=self.clocks.save_s)
                more_time = Update(replace(view.workspace, deadline_at=until))
                await self.store.commit(more_time, claim=claim)
            raise
        return brought_in(view, saved, stored)

    async def _view(self, reader: Reader, claim: Claim) -> WorkspaceView:
        workspace = await reader.get(Workspace, claim.key)
        project = await reader.get(Project, workspace.project)
        orders = await reader.find(NodeOrder, subject_kind="workspace", subject=workspace.id)
        terminals = await reader.find(Terminal, workspace_id=workspace.id, state=LIVE)
        recordings = await reader.find(
            Recording, workspace_id=workspace.id, state=RecordingState.WANTED
        )
        chats = await reader.find(Run, chat_in=workspace.id, state=LIVE_RUNS)
        view = WorkspaceView(
            workspace=workspace,
            project=project,
            node=None,
            link=None,
            orders={order.id: order for order in orders},
            now=self.clock.now(),
            fence=claim.fence,
            clocks=self.clocks,
            url=self.url(project.repo),
            image=self.image,
            terminals=tuple(terminal.id for terminal in terminals),
            recordings=tuple(recording.id for recording in recordings),
            copies=tuple(await reader.find(RescueCopy, workspace_id=workspace.id)),
            chats=tuple(chat.id for chat in chats),
        )
        if workspace.node_id:
            links = await reader.find(Link, node_id=workspace.node_id)
            node = await reader.get(Node, workspace.node_id)
            return replace(view, node=node, link=links[0] if links else None)
        if workspace.state is WorkspaceState.STOPPED and workspace.task_id:
            task = await reader.get(Task, workspace.task_id)
            return replace(view, task=task, thread=await reader.get(Thread, task.thread))
        if workspace.state is not WorkspaceState.REQUESTED:
            return view
        placement, new = await self.machines.look(
            reader, workspace.size, now=view.now, clocks=self.clocks
        )
        return replace(view, placement=placement, new_node=new, nodes_max=self.machines.nodes_max)
