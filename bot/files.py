"""What people can ask for of a workspace's files: log, folders, files, changes, starts."""

import json
import posixpath
from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import timedelta
from urllib.parse import quote, unquote_to_bytes

import structlog

from bot import replies
from bot.deciding import check, existing, write
from bot.lifecycle import OVER, gone, not_ready
from bot.warm import WarmView
from core.access import Person
from core.browse import UPLOAD_BYTES_MAX, Changes, Listing
from core.clocks import Clock, Clocks
from core.errors import ConflictError, NotFoundError, UnavailableError, UserError
from core.ids import ProjectId, SessionId, WorkspaceId
from core.ledger import Start, start_of
from core.ports.nodes import Nodes
from core.ports.store import Change, Store, Update
from core.project import Project
from core.session import AgentSession
from core.viewing import View, ViewClosedError
from core.wire import CLOSE_MISSING, STREAM_CHUNK_BYTES, PutFile, from_json
from core.workspace import Workspace, WorkspaceState

log = structlog.get_logger(__name__)

LOG_BYTES_MAX = 200_000
READ_BYTES_MAX = 1024 * 1024 * 1024
"""Of a build log; a node that tells more is not believed."""
JSON_BYTES_MAX = 16 * 1024 * 1024
"""Of a folder or a diff; a node that tells more is not believed."""
LIMIT = f"{UPLOAD_BYTES_MAX >> 30} GB"
STARTS = 100
"""How many workspaces of a project its usual times are taken from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileCommands:
    """The part of `core.ports.commands.Commands` that reads and writes files of a node."""

    store: Store
    nodes_link: Nodes
    clock: Clock
    clocks: Clocks

    async def build_log(self, actor: Person, workspace: WorkspaceId) -> str:
        """See `Commands.build_log`."""
        check(actor, "look")
        tail, read = bytearray(), 0
        async with aclosing(self._read(workspace, "build_log", workspace)) as chunks:
            async for chunk in chunks:
                tail += chunk
                read += len(chunk)
                if len(tail) > 2 * LOG_BYTES_MAX:
                    del tail[:-LOG_BYTES_MAX]
                if read > READ_BYTES_MAX:
                    break
        return tail[-LOG_BYTES_MAX:].decode("utf-8", "replace")

    async def folder(self, actor: Person, workspace: WorkspaceId, path: str) -> Listing:
        """See `Commands.folder`."""
        check(actor, "look")
        return from_json(Listing, await self._json(workspace, "folder", f"{workspace}/{path}"))

    async def file(self, actor: Person, workspace: WorkspaceId, path: str) -> AsyncGenerator[bytes]:
        """See `Commands.file`."""
        check(actor, "look")
        async with aclosing(self._read(workspace, "file", f"{workspace}/{path}")) as chunks:
            async for chunk in chunks:
                yield chunk

    async def put_file(
        self,
        actor: Person,
        workspace: WorkspaceId,
        path: str,
        chunks: AsyncIterable[bytes],
        *,
        size_bytes: int = -1,
        replaces: bool = False,
    ) -> None:
        """See `Commands.put_file`."""
        check(actor, "steer")
        known = await existing(self.store, Workspace, workspace, "workspace")
        if known.state is not WorkspaceState.READY:  # Its copy, which is made now, would miss it.
            raise gone(known) if known.state in OVER else not_ready(known)
        wanted = PutFile(
            ticket="", workspace=workspace, path=path, size_bytes=size_bytes, replaces=replaces
        )
        try:
            async with self.nodes_link.pipe(known.node_id, wanted) as pipe:
                await pipe.receive()
                warm = WarmView(
                    pipe, lambda: self.keep(workspace), clock=self.clock, is_act=lambda _: True
                )
                async for chunk in chunks:
                    for at in range(0, len(chunk), STREAM_CHUNK_BYTES):
                        await _send(warm, chunk[at : at + STREAM_CHUNK_BYTES])
                await _send(warm, b"")
                await pipe.receive()
        except UnavailableError as error:
            raise away(known, error) from error
        except ViewClosedError as closed:
            if closed.code != CLOSE_MISSING:
                raise away(known, closed) from closed
            name = unquote_to_bytes(path).decode("utf-8", "replace")
            sentence = replies.not_put(closed.reason, name, LIMIT)
            raise UserError(sentence, code=closed.reason) from closed

    async def keep(self, workspace: WorkspaceId) -> None:
        """Note that somebody does something in a workspace.

        One that no run works in stays as long as one whose run has just ended.
        """

        async def changes() -> Sequence[Change]:
            found = await existing(self.store, Workspace, workspace, "workspace")
            now, kept = self.clock.now(), found.keep_until
            if found.state is not WorkspaceState.READY or (kept is not None and kept <= now):
                return []  # Let go already.
            if kept is not None:
                kept = max(kept, now + timedelta(seconds=self.clocks.warm_s))
            return [Update(replace(found, keep_until=kept, active_at=now))]

        try:
            await write(self.store, changes)
        except (UnavailableError, ConflictError) as error:  # The next key tries again.
            log.warning("workspace.not_kept", workspace_id=workspace, error=str(error))

    async def locate(self, actor: Person, session: SessionId, path: str) -> tuple[WorkspaceId, str]:
        """See `Commands.locate`."""
        check(actor, "look")
        known = await existing(self.store, AgentSession, session, "session")
        workspace = await existing(self.store, Workspace, known.workspace_id, "workspace")
        whole = posixpath.normpath(posixpath.join(workspace.folder, path))
        inside = whole.removeprefix(f"{workspace.folder}/")
        if inside == whole:
            raise NotFoundError(replies.not_in_checkout(path), code="no_such_file")
        return workspace.id, quote(inside, errors="surrogatepass")

    async def changes(self, actor: Person, workspace: WorkspaceId) -> Changes:
        """See `Commands.changes`."""
        check(actor, "look")
        return from_json(Changes, await self._json(workspace, "changes", workspace))

    async def starts(self, actor: Person, project: ProjectId) -> Sequence[Start]:
        """See `Commands.starts`."""
        check(actor, "look")
        known = await existing(self.store, Project, project, "project")
        made = await self.store.find(Workspace, project=known.id, limit=STARTS, newest_first=True)
        return [start for one in made if (start := start_of(one)) is not None]

    async def project(self, project: ProjectId) -> Project:
        """Return one project, or say which there are."""
        try:
            return await self.store.get(Project, project)
        except NotFoundError:
            sentence = replies.unknown_project(project, await self.store.find(Project))
            raise NotFoundError(sentence, code="unknown_project") from None

    async def _json(self, workspace: WorkspaceId, what: str, name: str) -> object:
        text = bytearray()
        async for chunk in self._read(workspace, what, name):
            text += chunk
            if len(text) > JSON_BYTES_MAX:
                raise UserError(replies.TOO_MUCH, code="too_much")
        return json.loads(text)

    async def _read(self, workspace: WorkspaceId, what: str, name: str) -> AsyncGenerator[bytes]:
        """Read something of a workspace from its node; see `Nodes.stream`."""
        known = await existing(self.store, Workspace, workspace, "workspace")
        if not known.node_id:
            raise not_ready(known)
        try:
            async with aclosing(self.nodes_link.stream(known.node_id, what, name)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except UnavailableError as error:
            raise away(known, error) from error


async def _send(pipe: View, data: bytes) -> None:
    try:
        await pipe.send(data)
    except ViewClosedError:
        await pipe.receive()  # Why it was closed is known to whoever receives.
        raise


def away(workspace: Workspace, error: Exception) -> UserError:
    """Return what is said while a workspace's machine does not answer."""
    return UserError(replies.away(workspace.node_id, str(error)), code="node_away")
