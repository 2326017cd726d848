"""What becomes of an object that fails again and again."""

from dataclasses import dataclass, replace

from core.clocks import Clock, Clocks
from core.decision import Decision
from core.message import Post, Said, Thread
from core.plan.draft import Draft, RunView
from core.plan.step import told
from core.plan.stopping import not_saved, stop
from core.plan.workspace_step import WorkspaceView
from core.ports.store import Change, Insert, Store, Update, Wake
from core.project import Project
from core.reasons import reason
from core.rescue import CopyState, RescueCopy
from core.run import LIVE as LIVE_RUNS
from core.run import Outcome, Run
from core.session import AgentSession, Prompt
from core.task import Task
from core.terminal import LIVE, Terminal, TerminalState
from core.workspace import Workspace, WorkspaceState

TERMINAL_STUCK = (
    "Something on our side failed again and again. Open another terminal; an administrator finds "
    "the reason in the log."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stuck:
    """Ends what is stuck, so that its people hear of it; whatever was done is on the machine."""

    store: Store
    clock: Clock
    clocks: Clocks

    async def __call__(self, kind: str, key: str, error: str) -> None:
        """Note that an object was claimed again and again without progress."""
        now = self.clock.now()
        changes: list[Change] = [told("work.stuck", f"{kind}:{key}", at=now, error=error[:500])]
        if kind == "run":
            changes += await self._ended(key)
        elif kind == "inbox":
            changes += await self._unheard(key)
        elif kind == "terminal":
            changes += await self._closed(key)
        elif kind == "workspace":
            changes += await self._stays(key)
        await self.store.commit(*changes)

    async def _ended(self, run_id: str) -> list[Change]:
        """End the run by the one way on which all runs end."""
        run = await self.store.get(Run, run_id)
        if run.is_over:
            return []
        task = await self.store.get(Task, run.task_id)
        threads = await self.store.find(Thread, id=task.thread)
        workspaces = await self.store.find(Workspace, id=run.workspace_id or "")
        copies = await self.store.find(RescueCopy, workspace_id=run.workspace_id or "")
        sessions = await self.store.find(AgentSession, run_id=run.id)
        session_id = sessions[-1].id if sessions else ""
        terminals = await self.store.find(Terminal, session_id=session_id, state=LIVE)
        view = RunView(
            task=task,
            run=run,
            project=await self.store.get(Project, task.project),
            now=self.clock.now(),
            fence=0,
            clocks=self.clocks,
            model="",
            surface=threads[0].surface if threads else "web",
            workspace=workspaces[0] if workspaces else None,
            copies=tuple(copies),
            session=sessions[-1] if sessions else None,
            terminal=terminals[0] if terminals else None,
            prompts=tuple(await self.store.find(Prompt, run_id=run.id)),
            decisions=tuple(await self.store.find(Decision, run_id=run.id)),
        )
        draft = Draft(view)
        draft.end(Outcome.FAILED, "stuck")
        return [*draft.planned(None).changes]

    async def _stays(self, key: str) -> list[Change]:
        """Go on with a workspace whose copy does not come in; a saved one leaves its machine."""
        found = await self.store.find(Workspace, id=key, state=WorkspaceState.STOPPING)
        if not found:
            return []
        workspace = found[0]
        terminals = await self.store.find(Terminal, workspace_id=key, state=LIVE)
        chats = await self.store.find(Run, chat_in=key, state=LIVE_RUNS)
        view = WorkspaceView(
            workspace=workspace,
            project=await self.store.get(Project, workspace.project),
            node=None,
            link=None,
            orders={},
            now=self.clock.now(),
            fence=0,
            clocks=self.clocks,
            url="",
            image="",
            terminals=tuple(terminal.id for terminal in terminals),
            chats=tuple(chat.id for chat in chats),
            copies=tuple(await self.store.find(RescueCopy, workspace_id=key)),
        )
        is_saved = view.copy is not None and view.copy.state is CopyState.KEPT
        planned = stop(view) if is_saved else not_saved(view, "stuck")
        return [*planned.changes, Wake("workspace", key)]

    async def _unheard(self, key: str) -> list[Change]:
        """Tell the author of a message that nothing came of it."""
        said = await self.store.get(Said, key)
        if said.state != "received":
            return []
        post = Post(
            key=f"{said.thread}/stopped/{said.key}",
            lane=said.thread,
            surface=said.surface,
            kind="stopped",
            state="pending",
            created_at=self.clock.now(),
            text=reason("stuck"),
            mention=said.author,
        )
        return [Update(replace(said, state="handled", result="stuck")), Insert(post, once=True)]

    async def _closed(self, key: str) -> list[Change]:
        """End a terminal; whoever looks at its tab reads why."""
        terminal = await self.store.get(Terminal, key)
        if terminal.state is TerminalState.EXITED:
            return []
        now, error = self.clock.now(), TERMINAL_STUCK
        over = terminal.moved(TerminalState.EXITED, at=now, error=error)
        sessions = await self.store.find(AgentSession, id=terminal.session_id or "")
        return [
            Update(over),
            told("terminal.exited", f"terminal:{key}", at=now, error=error),
            *(Wake("run", session.run_id) for session in sessions),
        ]
