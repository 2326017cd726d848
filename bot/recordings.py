"""What people can ask for of recordings: of coding agents, and of terminals."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import chain

from bot import replies
from bot.deciding import check, existing
from bot.files import FileCommands
from bot.film import Film, seconds
from core.access import Person
from core.errors import NotFoundError, UserError
from core.ids import RecordingId, SessionId, TaskId, TerminalId
from core.ports.commands import RecordingView
from core.ports.files import Files
from core.ports.store import Reader
from core.recording import Recording, RecordingState
from core.session import AgentSession, SessionState
from core.task import Task
from core.terminal import Terminal, TerminalState
from core.workspace import Workspace, WorkspaceState

EVENTS_A_TIME = 100
"""Read and made into a piece of a film: some megabytes, some tenths of a second of a thread."""
READ_BYTES_MAX = 128 * 1024 * 1024
"""Of one recording; a node that tells more is not believed. Its own bound is 16 MiB as written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingCommands(FileCommands):
    """The part of `core.ports.commands.Commands` that is about recordings."""

    files: Files

    async def recordings(self, actor: Person, task: TaskId) -> Sequence[RecordingView]:
        """See `Commands.recordings`."""
        check(actor, "look")
        return await self.store.snapshot(lambda reader: _of_task(reader, task))

    async def recording(self, actor: Person, recording: RecordingId) -> RecordingView:
        """See `Commands.recording`."""
        check(actor, "look")
        return await self.store.snapshot(lambda reader: _one(reader, recording))

    async def moment(self, actor: Person, session: SessionId, offset: int) -> float:
        """See `Commands.moment`."""
        check(actor, "look")
        await existing(self.store, AgentSession, session, "recording")
        first = await self.store.session_events(session, after=-1, limit=1)
        found = await self.store.session_events(session, after=offset - 1, limit=1)
        return seconds(first[0], found[0]) if found else 0.0

    async def film(self, actor: Person, recording: RecordingId) -> AsyncGenerator[bytes]:
        """See `Commands.film`."""
        found = await self.recording(actor, recording)
        if found.kind == "session":
            async for chunk in self._session(SessionId(recording)):
                yield chunk
            return
        async with aclosing(self._terminal(TerminalId(recording), found)) as chunks:
            read = 0
            async for chunk in chunks:
                read += len(chunk)
                if read > READ_BYTES_MAX:
                    raise UserError(replies.TOO_MUCH, code="too_much")
                yield chunk

    async def _session(self, session: SessionId) -> AsyncGenerator[bytes]:
        film, after = Film(), -1
        while events := await self.store.session_events(session, after=after, limit=EVENTS_A_TIME):
            after = events[-1].offset
            if lines := await asyncio.to_thread(film.lines, events):
                yield lines.encode()

    def _terminal(self, terminal: TerminalId, found: RecordingView) -> AsyncGenerator[bytes]:
        match found.state:
            case "live":
                return self._read(
                    found.workspace_id, "recording", f"{found.workspace_id}/{terminal}"
                )
            case "kept":
                return self.files.get(found.sha256)
            case "expired":
                raise NotFoundError(replies.recording_expired(terminal), code="recording_expired")
        raise NotFoundError(replies.recording_lost(terminal, found.error), code="recording_lost")


async def _of_task(reader: Reader, task: TaskId) -> list[RecordingView]:
    await existing(reader, Task, task, "task")
    sessions = await reader.find(AgentSession, task_id=task)
    workspaces = {one.id: one for one in await reader.find(Workspace, task_id=task)}
    within = tuple(workspaces)
    terminals = await reader.find(Terminal, workspace_id=within) if within else ()
    kept = await reader.find(Recording, workspace_id=within) if within else ()
    by_terminal = {one.id: one for one in kept}
    shown = [
        _terminal(one, workspaces[one.workspace_id], by_terminal.get(one.id)) for one in terminals
    ]
    found = chain((_session(one) for one in sessions), (one for one in shown if one is not None))
    return sorted(found, key=lambda one: one.began_at)


async def _one(reader: Reader, recording: RecordingId) -> RecordingView:
    for session in await reader.find(AgentSession, id=recording):
        return _session(session)
    for terminal in await reader.find(Terminal, id=recording):
        workspace = await reader.get(Workspace, terminal.workspace_id)
        kept = await reader.find(Recording, id=terminal.id)
        if found := _terminal(terminal, workspace, kept[0] if kept else None):
            return found
    raise NotFoundError(replies.no_such("recording", recording))


def _session(session: AgentSession) -> RecordingView:
    return RecordingView(
        id=RecordingId(session.id),
        kind="session",
        title=replies.session_title(session.run_id),
        state="live" if session.state is not SessionState.ENDED else "kept",
        task_id=session.task_id,
        workspace_id=session.workspace_id,
        began_at=session.created_at,
    )


def _terminal(
    terminal: Terminal, workspace: Workspace, kept: Recording | None
) -> RecordingView | None:
    """Return the recording of a terminal; None where there is nothing to show."""
    is_settled = kept is not None and kept.state is not RecordingState.WANTED
    has_run = kept is not None or terminal.state is not TerminalState.OPENING
    if not has_run or (workspace.state is WorkspaceState.GONE and not is_settled):
        return None
    if kept is None and terminal.state is TerminalState.EXITED and terminal.error:
        return None
    view = RecordingView(
        id=RecordingId(terminal.id),
        kind="terminal",
        title=terminal.title,
        state="live",
        task_id=workspace.task_id,
        workspace_id=workspace.id,
        began_at=terminal.created_at,
    )
    if kept is None or not is_settled:
        return view
    return replace(
        view,
        state=str(kept.state),
        size_bytes=kept.size_bytes,
        sha256=kept.sha256,
        error=kept.error,
        expires_at=kept.expires_at,
    )
