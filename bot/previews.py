"""Previews: see `core.ports.previews.Previews`."""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace

from bot import replies
from bot.deciding import check, existing, write
from bot.files import away
from bot.lifecycle import OVER
from bot.preview_keys import PreviewKeys
from core.access import Person, may
from core.browse import Ports
from core.clocks import Clock
from core.errors import ForbiddenError, NotFoundError, UnavailableError, UserError
from core.ids import WorkspaceId
from core.plan.step import told
from core.ports.nodes import Nodes
from core.ports.previews import PreviewView, Visit
from core.ports.store import Change, Insert, Store, Update
from core.preview import LINK_HOURS_MAX, Audience, Preview, PreviewKey, preview_id
from core.task import Task
from core.viewing import View, ViewClosedError
from core.wire import CLOSE_MISSING, ConnectPort, from_json
from core.workspace import Workspace, WorkspaceState

PORT_MAX = 65535
JSON_BYTES_MAX = 1024 * 1024
"""Of what listens; a node that tells more is not believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspacePreviews:
    """See `core.ports.previews.Previews`.

    Attributes:
        keeps: Lets a workspace that is looked at stay for a while.
    """

    store: Store
    nodes_link: Nodes
    clock: Clock
    keys: PreviewKeys
    keeps: Callable[[WorkspaceId], Awaitable[None]]

    async def ports(self, actor: Person, workspace: WorkspaceId) -> Sequence[PreviewView]:
        """See `Previews.ports`."""
        check(actor, "look")
        known = await existing(self.store, Workspace, workspace, "workspace")
        if known.state is not WorkspaceState.READY:
            return []
        shares = await self._shares(actor, known)
        rows = await self.store.find(Preview, workspace_id=workspace)
        open_to = {row.port: row.audience for row in rows}
        views = [
            PreviewView(
                workspace_id=workspace,
                port=port.number,
                name=port.name,
                is_open=True,
                audience=open_to.get(port.number, "owner"),
                may_share=shares,
            )
            for port in (await self._listening(known)).ports
        ]
        return [view for view in views if shares or view.audience == "project"]

    async def port(self, actor: Person, workspace: WorkspaceId, port: int) -> PreviewView:
        """See `Previews.port`."""
        known, audience, shares = await self._seen_by(actor, workspace, port)
        found = {}
        if known.state is WorkspaceState.READY:
            found = {one.number: one.name for one in (await self._listening(known)).ports}
        return PreviewView(
            workspace_id=workspace,
            port=port,
            name=found.get(port, ""),
            is_open=port in found,
            audience=audience,
            may_share=shares,
        )

    async def open_to(
        self, actor: Person, workspace: WorkspaceId, port: int, audience: Audience
    ) -> None:
        """See `Previews.open_to`."""

        async def changes() -> Sequence[Change]:
            known = await self._shared_by(actor, workspace, port)
            rows = await self.store.find(Preview, id=preview_id(workspace, port))
            now = self.clock.now()
            fresh = Preview(
                id=preview_id(workspace, port),
                workspace_id=workspace,
                port=port,
                audience=audience,
                created_at=now,
            )
            row = Update(replace(rows[0], audience=audience)) if rows else Insert(fresh)
            ended = await self.keys.withdrawn(workspace, port) if audience == "owner" else []
            fact = told(
                "preview.opened",
                f"workspace:{workspace}",
                at=now,
                task_id=known.task_id or None,
                by=actor.id,
                port=port,
                audience=audience,
            )
            return [row, *ended, fact]

        await write(self.store, changes)

    async def share(self, actor: Person, workspace: WorkspaceId, port: int, *, hours: int) -> str:
        """See `Previews.share`."""
        if not 1 <= hours <= LINK_HOURS_MAX:
            raise UserError(
                f"A link is good for 1 to {LINK_HOURS_MAX} hours, not {hours}.", code="bad_hours"
            )
        known = await self._shared_by(actor, workspace, port)
        if known.state in OVER:
            raise _refused("workspace_gone", known, port)
        fact = told(
            "preview.shared",
            f"workspace:{workspace}",
            at=self.clock.now(),
            task_id=known.task_id or None,
            by=actor.id,
            port=port,
            hours=hours,
        )
        await self.store.commit(fact)
        return f"/preview?link={await self.keys.link(workspace, port, hours=hours)}"

    async def whose(self, link: str) -> Visit | None:
        """See `Previews.whose`."""
        key = await self.keys.good(link, "link")
        return None if key is None else await self._visit(key)

    async def spend(self, link: str) -> str | None:
        """See `Previews.spend`."""
        key = await self.keys.good(link, "link")
        return None if key is None else await self.keys.turn(key, into="pass")

    async def hand_over(self, actor: Person, workspace: WorkspaceId, port: int) -> str:
        """See `Previews.hand_over`."""
        known, _, _ = await self._seen_by(actor, workspace, port)
        if known.state in OVER:
            raise _refused("workspace_gone", known, port)
        return await self.keys.handed(actor.id, workspace, port)

    async def enter(self, handed: str) -> str | None:
        """See `Previews.enter`."""
        key = await self.keys.good(handed, "pass")
        return None if key is None else await self.keys.turn(key, into="cookie")

    async def visit(self, cookie: str) -> Visit | None:
        """See `Previews.visit`."""
        key = await self.keys.good(cookie, "cookie")
        return None if key is None else await self._visit(key)

    @asynccontextmanager
    async def connect(self, workspace: WorkspaceId, port: int) -> AsyncGenerator[View]:
        """See `Previews.connect`."""
        known = await existing(self.store, Workspace, workspace, "workspace")
        if known.state in OVER:
            raise _refused("workspace_gone", known, port)
        if known.state is not WorkspaceState.READY:
            raise _refused("workspace_stopped", known, port)
        wanted = ConnectPort(ticket="", workspace=workspace, port=port)
        try:
            async with self.nodes_link.pipe(known.node_id, wanted) as view:
                await _opened(view, known, port)
                yield view
        except UnavailableError as error:
            raise away(known, error) from error

    async def keep(self, workspace: WorkspaceId) -> None:
        """See `Previews.keep`."""
        await self.keeps(workspace)

    async def _visit(self, key: PreviewKey) -> Visit | None:
        person = None
        if key.person_id is not None:
            found = await self.store.find(Person, id=key.person_id)
            try:
                await self._seen_by(found[0], key.workspace_id, key.port)
            except (IndexError, UserError):
                return None
            person = found[0]
        return Visit(workspace=key.workspace_id, port=key.port, person=person)

    async def _seen_by(
        self, actor: Person, workspace: WorkspaceId, port: int
    ) -> tuple[Workspace, Audience, bool]:
        """Return the workspace, the port's audience, and whether the person may change it."""
        check(actor, "look")
        known = await existing(self.store, Workspace, workspace, "workspace")
        if not 1 <= port <= PORT_MAX:
            raise NotFoundError(f"There is no port {port}: they go from 1 to {PORT_MAX}.")
        rows = await self.store.find(Preview, id=preview_id(workspace, port))
        audience: Audience = rows[0].audience if rows else "owner"
        shares = await self._shares(actor, known)
        if not shares and audience == "owner":
            raise ForbiddenError(replies.not_your_preview(port))
        return known, audience, shares

    async def _shared_by(self, actor: Person, workspace: WorkspaceId, port: int) -> Workspace:
        known, _, shares = await self._seen_by(actor, workspace, port)
        check(actor, "steer")
        if not shares:
            raise ForbiddenError(replies.not_your_preview(port))
        return known

    async def _shares(self, actor: Person, workspace: Workspace) -> bool:
        if may(actor, "manage"):
            return True
        task = await self.store.find(Task, id=workspace.task_id)
        return bool(task) and task[0].asked_by == actor.id

    async def _listening(self, workspace: Workspace) -> Ports:
        text = bytearray()
        stream = self.nodes_link.stream(workspace.node_id, "ports", workspace.id)
        try:
            async with aclosing(stream) as chunks:
                async for chunk in chunks:
                    text += chunk
                    if len(text) > JSON_BYTES_MAX:
                        raise UserError(replies.TOO_MUCH, code="too_much")
        except NotFoundError:  # Its container is gone or does not run.
            return Ports()
        except UnavailableError as error:
            raise away(workspace, error) from error
        return from_json(Ports, json.loads(text))


async def _opened(view: View, workspace: Workspace, port: int) -> None:
    try:
        await view.receive()
    except ViewClosedError as closed:
        if closed.code == CLOSE_MISSING:
            raise _refused(closed.reason, workspace, port) from closed
        raise away(workspace, closed) from closed


def _refused(code: str, workspace: Workspace, port: int) -> UserError:
    return UserError(replies.no_preview(code, workspace.id, port), code=code)
