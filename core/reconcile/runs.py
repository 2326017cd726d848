"""Runs: from a place in the queue to the pull request."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from core.access import Person
from core.clocks import Clock, Clocks
from core.decision import Decision
from core.errors import QuotaError, RefusedError
from core.fold import fold
from core.ids import NodeId
from core.message import Thread
from core.node import Link, Node
from core.order import NodeOrder
from core.place import is_lost
from core.plan.draft import Draft, RunView
from core.plan.names import stop_name
from core.plan.publish import not_pulled, pulled, wanted_pull
from core.plan.run import plan_run
from core.ports.forge import Forge
from core.ports.store import Reader, Store
from core.ports.work import Claim
from core.project import Project
from core.reconcile.placing import Machines
from core.rescue import RescueCopy
from core.run import Run, RunState
from core.session import AgentSession, Prompt
from core.task import Task
from core.terminal import LIVE, Terminal
from core.workspace import Workspace, WorkspaceState

EVENTS_A_LOOK = 500
_USABLE = tuple(
    state for state in WorkspaceState if state not in {WorkspaceState.DELETING, WorkspaceState.GONE}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReconciler:
    """Brings runs forward.

    Attributes:
        mint: Makes the id of a new node.
        supplier: Who makes nodes when none has room; empty when nobody does.
        page_url: The page of a task.
    """

    store: Store
    forge: Forge
    clock: Clock
    clocks: Clocks
    model: str
    installation: str
    supplier: str
    nodes_max: int
    mint: Callable[[], NodeId]
    page_url: Callable[[Task], str]

    async def __call__(self, claim: Claim) -> float | None:
        """Look at one run."""
        view = await self.store.snapshot(lambda reader: self._view(reader, claim))
        if view.run.is_over:
            return None
        planned = plan_run(view)
        if planned.changes:
            try:
                await self.store.commit(*planned.changes, claim=claim)
            except QuotaError:  # No more nodes: somebody else's machine may do, later.
                return self.clocks.stale_s
            return 0 if view.heard else planned.due_in_s
        return await self._open_pull(view, claim) or planned.due_in_s

    async def _open_pull(self, view: RunView, claim: Claim) -> float | None:
        draft = Draft(view)
        asker = await self.store.find(Person, id=view.task.asked_by)
        name = asker[0].name if asker else view.task.asked_by
        wanted = wanted_pull(draft, asked_by=name, page_url=self.page_url(view.task))
        if wanted is None:
            return None
        try:
            pull = await self.forge.open_pull(view.project.repo, wanted)
        except RefusedError as error:
            not_pulled(draft, str(error))
        else:
            pulled(draft, pull)
        await self.store.commit(*draft.planned(None).changes, claim=claim)
        return None

    async def _view(self, reader: Reader, claim: Claim) -> RunView:
        """Read all that belongs to the run, with the newest events folded in."""
        run = await reader.get(Run, claim.key)
        task = await reader.get(Task, run.task_id)
        project = await reader.get(Project, task.project)
        thread = await reader.get(Thread, task.thread)
        view = RunView(
            task=task,
            run=run,
            project=project,
            now=self.clock.now(),
            fence=claim.fence,
            clocks=self.clocks,
            model=self.model,
            surface=thread.surface,
            installation=self.installation,
            prompts=tuple(await reader.find(Prompt, run_id=run.id)),
            decisions=tuple(await reader.find(Decision, run_id=run.id)),
        )
        if run.is_over:
            return view
        view = await self._with_place(reader, view)
        return await _with_session(reader, view)

    async def _with_place(self, reader: Reader, view: RunView) -> RunView:
        run = view.run
        workspace = await self._workspace(reader, view)
        node_id = run.node_id or (workspace.node_id if workspace else None)
        view = replace(view, workspace=workspace)
        if workspace is not None:
            copies = await reader.find(RescueCopy, workspace_id=workspace.id)
            view = replace(view, copies=tuple(copies))
        if node_id:
            node = await reader.get(Node, node_id)
            view = replace(view, node=node, link=await _link(reader, node_id))
        if run.state is RunState.PLACING and run.chat_in is None:
            size = view.project.size if workspace is None else workspace.size
            machines = Machines(supplier=self.supplier, nodes_max=self.nodes_max, mint=self.mint)
            placement, new = await machines.look(reader, size, now=view.now, clocks=self.clocks)
            view = replace(view, placement=placement, new_node=new, nodes_max=self.nodes_max)
        return view

    async def _workspace(self, reader: Reader, view: RunView) -> Workspace | None:
        """Return the run's workspace, or the one of its task that it may take.

        One on a machine that does not answer is left there: what is in it is saved when the
        machine is back, and the task goes on elsewhere.
        """
        known = view.run.workspace_id or view.run.chat_in
        if known is not None:
            return await reader.get(Workspace, known)
        for found in reversed(await reader.find(Workspace, task_id=view.task.id, state=_USABLE)):
            if not found.node_id:
                return found
            node, link = await reader.get(Node, found.node_id), await _link(reader, found.node_id)
            if not is_lost(link, node.state_since, now=view.now, clocks=self.clocks):
                return found
        return None


async def _link(reader: Reader, node_id: NodeId) -> Link | None:
    links = await reader.find(Link, node_id=node_id)
    return links[0] if links else None


async def _conversations(reader: Reader, view: RunView) -> Sequence[AgentSession]:
    """Return the task's sessions in its workspace, oldest first.

    A workspace that was restored has those that were in the copy, of the workspace that left it.
    """
    assert view.workspace is not None  # noqa: S101  asked for one
    found = await reader.find(AgentSession, task_id=view.task.id, workspace_id=view.workspace.id)
    for copy in () if found else view.copies[:1]:
        same = await reader.find(RescueCopy, sha256=copy.sha256) if copy.sha256 else ()
        left = tuple(one.workspace_id for one in same)
        before = await reader.find(AgentSession, task_id=view.task.id, workspace_id=left)
        found = [one for one in before if copy.made_at and one.created_at <= copy.made_at]
    return found


async def _with_session(reader: Reader, view: RunView) -> RunView:
    """Read the session and fold in what its coding agent did since the last look."""
    orders = [*await reader.find(NodeOrder, subject_kind="run", subject=view.run.id)]
    if view.workspace is not None:
        before = await _conversations(reader, view)
        for earlier in [one for one in before if one.run_id != view.run.id][-1:]:
            view = replace(view, earlier=earlier)
            orders += await reader.find(NodeOrder, id=stop_name(earlier.run_id))
    view = replace(view, orders={order.id: order for order in orders})
    if view.run.session_id is None:
        return view
    session = await reader.get(AgentSession, view.run.session_id)
    terminals = await reader.find(Terminal, session_id=session.id, state=LIVE)
    events = await reader.session_events(session.id, after=session.seen, limit=EVENTS_A_LOOK)
    folded = fold(session, view.prompts, view.decisions, events, at=view.now)
    prompts = {prompt.id: prompt for prompt in (*view.prompts, *folded.prompts)}
    decisions = {d.id: d for d in (*view.decisions, *folded.withdrawn, *folded.opened)}
    changed = (folded.session,) if folded.session != session else ()
    return replace(
        view,
        session=folded.session,
        terminal=terminals[0] if terminals else None,
        prompts=tuple(prompts.values()),
        decisions=tuple(decisions.values()),
        folded=(*changed, *folded.prompts, *folded.withdrawn),
        opened=folded.opened,
        warnings=folded.warnings,
        heard=folded.heard,
    )
