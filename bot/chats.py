"""What people can ask for in chats: open them beside a task, arrange their tabs, close them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bot import replies
from bot.conversation import few_chats, unsaid, withdrawn
from bot.deciding import check, existing, write
from bot.keeping import KeepingCommands
from bot.lifecycle import OVER, gone, not_ready
from bot.workspaces import arranged, title_of
from core.access import Person
from core.chat import Chat, activity
from core.errors import ConflictError, QuotaError, UserError
from core.ids import RunId, TaskId, ThreadId, WorkspaceId
from core.message import Thread
from core.plan.names import prompt_name
from core.plan.step import told
from core.ports.commands import ChatView
from core.ports.store import Change, Insert, Reader, Update, Wake
from core.run import LIVE, Run
from core.session import AgentSession, Prompt
from core.task import Task, TaskState
from core.workspace import Workspace, WorkspaceState

_THERE = frozenset({WorkspaceState.REQUESTED, WorkspaceState.BUILDING, WorkspaceState.READY})


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatCommands(KeepingCommands):
    """The part of `core.ports.commands.Commands` that is about chats."""

    async def chats(self, actor: Person, workspace: WorkspaceId) -> Sequence[ChatView]:
        """See `Commands.chats`. The task's own is there once a coding agent was in it."""
        check(actor, "look")
        return await self.store.snapshot(lambda reader: _conversations(reader, workspace))

    async def new_chat(
        self, actor: Person, workspace: WorkspaceId, text: str, *, surface: str, key: str
    ) -> ChatView:
        """See `Commands.new_chat`."""
        check(actor, "start")
        if not text.strip():
            raise UserError("Say what the chat is about: the message is empty.", code="empty")
        thread = ThreadId(f"{surface}:{workspace}:{key}")
        if not await self.store.find(Thread, id=thread):
            await self._open(actor, workspace, text.strip(), thread, surface)
        opened = (await self.store.get(Thread, thread)).task_id
        views = await self.store.snapshot(lambda reader: _conversations(reader, workspace))
        for view in views:
            if view.id == opened:
                return view
        raise UserError("That chat was closed meanwhile. Open another one.", code="chat_over")

    async def _open(
        self, actor: Person, workspace: WorkspaceId, text: str, thread: ThreadId, surface: str
    ) -> None:
        found = await existing(self.store, Workspace, workspace, "workspace")
        if found.state in OVER:
            raise gone(found)
        if found.state not in _THERE:
            raise not_ready(found)
        number = TaskId(f"T-{await self.store.next_number('task')}")
        tabs = await self.store.find(Chat, workspace_id=workspace, is_closed=False)
        now, title = self.clock.now(), title_of(text.splitlines()[0]) or "Chat"
        chat = Chat(
            id=number,
            workspace_id=workspace,
            title=title,
            position=max((tab.position for tab in tabs), default=-1) + 1,
            opened_by=actor.id,
            created_at=now,
        )
        task = Task(
            id=number,
            project=found.project,
            thread=thread,
            asked_by=actor.id,
            kind="task",
            title=title,
            slug="chat",
            prompt=text,
            branch=found.branch,
            state=TaskState.QUEUED,
            state_since=now,
            created_at=now,
        )
        prompt = Prompt(
            id=prompt_name(thread),
            task_id=number,
            run_id=RunId(f"{number}.1"),
            by=actor.id,
            text=text,
            state="pending",
            created_at=now,
        )
        bound = Thread(
            id=thread,
            surface=surface,
            channel=workspace,
            created_at=now,
            project=found.project,
            task_id=number,
        )
        try:
            await self.store.commit(
                Insert(bound),
                Insert(chat, limits=(few_chats(workspace),)),
                Insert(task),
                Insert(prompt),
                told("chat.opened", f"chat:{number}", at=now, task_id=number, by=actor.id),
                Wake("task", number),
            )
        except QuotaError as error:
            raise QuotaError(replies.too_many_chats(workspace), code="chats") from error
        except ConflictError:  # The same words came twice at once, and the others were first.
            if not await self.store.find(Thread, id=thread):
                raise

    async def change_chat(
        self,
        actor: Person,
        chat: TaskId,
        *,
        title: str | None = None,
        position: int | None = None,
    ) -> None:
        """See `Commands.change_chat`. Places count from 0; one past the end is the last."""
        check(actor, "steer")

        async def changes() -> Sequence[Change]:
            found = await existing(self.store, Chat, chat, "chat")
            tabs = await _tabs(self.store, found.workspace_id)
            updates = arranged(tabs, found, title=title, position=position)
            at, subject = self.clock.now(), f"chat:{chat}"
            fact = told("chat.changed", subject, at=at, task_id=chat, by=actor.id)
            return [*updates, fact] if updates else []

        await write(self.store, changes)

    async def close_chat(self, actor: Person, chat: TaskId) -> None:
        """See `Commands.close_chat`."""
        check(actor, "stop")

        async def changes() -> Sequence[Change]:
            return await self.store.snapshot(lambda reader: self._closing(reader, chat, actor))

        await write(self.store, changes)

    async def _closing(self, reader: Reader, chat: TaskId, actor: Person) -> Sequence[Change]:
        """Return what hides a chat and ends its run, or keeps it from being started."""
        found = await existing(reader, Chat, chat, "chat")
        task = await reader.get(Task, chat)
        at, subject = self.clock.now(), f"chat:{chat}"
        ended = unsaid(await reader.find(Prompt, task_id=chat, state="pending"))
        for run in await reader.find(Run, task_id=chat, state=LIVE):
            over = replace(run, cancel_by=actor.id, code=run.code or "chat_closed")
            ended += [Update(over), Wake("run", run.id)]
        if task.state is TaskState.QUEUED:
            ended += withdrawn(task, at=at)
        if found.is_closed:
            return ended
        fact = told("chat.closed", subject, at=at, task_id=chat, by=actor.id)
        return [Update(replace(found, is_closed=True)), fact, *ended]


async def _tabs(reader: Reader, workspace: WorkspaceId) -> list[Chat]:
    """Return the chats of a workspace that have a tab, from left to right."""
    found = await reader.find(Chat, workspace_id=workspace, is_closed=False)
    return sorted(found, key=lambda tab: (tab.position, tab.created_at, tab.id))


async def _conversations(reader: Reader, workspace: WorkspaceId) -> Sequence[ChatView]:
    home = await existing(reader, Workspace, workspace, "workspace")
    chats = [await _view(reader, home, chat, chat.id) for chat in await _tabs(reader, workspace)]
    if not home.task_id:
        return chats
    own = await _view(reader, home, None, home.task_id)
    return [own, *chats] if own.session_id is not None else chats


async def _view(reader: Reader, home: Workspace, chat: Chat | None, task_id: TaskId) -> ChatView:
    task = await reader.get(Task, task_id)
    runs = await reader.find(Run, task_id=task_id)
    run = runs[-1] if runs else None
    session_id = next((one.session_id for one in reversed(runs) if one.session_id), None)
    sessions = await reader.find(AgentSession, id=session_id) if session_id is not None else ()
    return ChatView(
        id=task.id,
        workspace_id=home.id,
        title=task.title if chat is None else chat.title,
        position=0 if chat is None else chat.position,
        state=activity(task, run, sessions[0] if sessions else None),
        is_own=chat is None,
        session_id=session_id,
        error=run.reason if run is not None and run.is_over else "",
    )
