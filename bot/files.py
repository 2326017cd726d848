"""What people can ask for of a workspace's files: log, folders, files, changes, starts."""

import json
import posixpath
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from urllib.parse import quote

from bot import replies
from bot.deciding import check, existing
from core.access import Person
from core.browse import Changes, Listing
from core.errors import NotFoundError, UnavailableError, UserError
from core.ids import ProjectId, SessionId, WorkspaceId
from core.ledger import Start, start_of
from core.ports.nodes import Nodes
from core.ports.store import Store
from core.project import Project
from core.session import AgentSession
from core.wire import from_json
from core.workspace import Workspace

LOG_BYTES_MAX = 200_000
READ_BYTES_MAX = 1024 * 1024 * 1024
"""Of a build log; a node that tells more is not believed."""
JSON_BYTES_MAX = 16 * 1024 * 1024
"""Of a folder or a diff; a node that tells more is not believed."""
STARTS = 100
"""How many workspaces of a project its usual times are taken from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileCommands:
    """The part of `core.ports.commands.Commands` that reads what is on a node."""

    store: Store
    nodes_link: Nodes

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
        try:
            async with aclosing(self.nodes_link.stream(known.node_id, what, name)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except UnavailableError as error:
            sentence = replies.away(known.node_id, str(error))
            raise UserError(sentence, code="node_away") from error
