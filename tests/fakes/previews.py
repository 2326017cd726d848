"""Port `Previews` in memory; what listens in a workspace listens on this machine's loopback."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from adapters.memory.nodes import a_view
from agent.ports import pass_on
from core.access import Person
from core.errors import AppError, ForbiddenError, UserError
from core.ids import WorkspaceId
from core.ports.previews import PreviewView, Visit
from core.preview import Audience
from core.viewing import View

Place = tuple[WorkspaceId, int]


@dataclass
class FakePreviews:
    """Levers: `apps` says where an app of a port really is, `fail_next` what the next connection
    meets, `strangers` may see nothing. `connections` counts, `kept` is what was kept."""

    apps: dict[Place, int] = field(default_factory=dict)
    names: dict[Place, str] = field(default_factory=dict)
    audiences: dict[Place, Audience] = field(default_factory=dict)
    strangers: set[str] = field(default_factory=set)
    links: dict[str, Visit] = field(default_factory=dict)
    passes: dict[str, Visit] = field(default_factory=dict)
    cookies: dict[str, Visit] = field(default_factory=dict)
    fail_next: AppError | None = None
    connections: int = 0
    live: int = 0
    kept: list[WorkspaceId] = field(default_factory=list)
    _group: asyncio.TaskGroup | None = None
    _count: int = 0

    @asynccontextmanager
    async def connecting(self) -> AsyncIterator[None]:
        """Connections may be made for the length of a `with` block."""
        async with asyncio.TaskGroup() as self._group:
            try:
                yield
            finally:
                for task in list(self._tasks):
                    task.cancel()

    def __post_init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def cut(self, of: dict[str, Visit], kind: str, visit: Visit) -> str:
        self._count += 1
        secret = f"{kind}-{self._count}"
        of[secret] = visit
        return secret

    def let_in(self, workspace: str, port: int, person: Person | None = None) -> str:
        """Return a cookie for a port."""
        visit = Visit(workspace=WorkspaceId(workspace), port=port, person=person)
        return self.cut(self.cookies, "cookie", visit)

    def _view(self, place: Place) -> PreviewView:
        return PreviewView(
            workspace_id=place[0],
            port=place[1],
            name=self.names.get(place, ""),
            is_open=place in self.apps,
            audience=self.audiences.get(place, "owner"),
            may_share=True,
        )

    def _check(self, actor: Person) -> None:
        if actor.name in self.strangers:
            raise ForbiddenError("That port is not open to you.")

    async def ports(self, actor: Person, workspace: WorkspaceId) -> Sequence[PreviewView]:
        self._check(actor)
        return [self._view(place) for place in sorted(self.apps) if place[0] == workspace]

    async def port(self, actor: Person, workspace: WorkspaceId, port: int) -> PreviewView:
        self._check(actor)
        return self._view((workspace, port))

    async def open_to(
        self, actor: Person, workspace: WorkspaceId, port: int, audience: Audience
    ) -> None:
        self._check(actor)
        self.audiences[workspace, port] = audience

    async def share(self, actor: Person, workspace: WorkspaceId, port: int, *, hours: int) -> str:
        self._check(actor)
        visit = Visit(workspace=workspace, port=port, person=None)
        return f"/preview?link={self.cut(self.links, 'link', visit)}"

    async def whose(self, link: str) -> Visit | None:
        return self.links.get(link)

    async def spend(self, link: str) -> str | None:
        visit = self.links.pop(link, None)
        return None if visit is None else self.cut(self.passes, "pass", visit)

    async def hand_over(self, actor: Person, workspace: WorkspaceId, port: int) -> str:
        self._check(actor)
        visit = Visit(workspace=workspace, port=port, person=actor)
        return self.cut(self.passes, "pass", visit)

    async def enter(self, handed: str) -> str | None:
        visit = self.passes.pop(handed, None)
        return None if visit is None else self.cut(self.cookies, "cookie", visit)

    async def visit(self, cookie: str) -> Visit | None:
        return self.cookies.get(cookie)

    @asynccontextmanager
    async def connect(self, workspace: WorkspaceId, port: int) -> AsyncIterator[View]:
        if self.fail_next is not None:
            error, self.fail_next = self.fail_next, None
            raise error
        try:
            sock = socket.create_connection(("127.0.0.1", self.apps[workspace, port]))
        except (KeyError, OSError):
            sentence = f"Nothing listens on port {port} yet."
            raise UserError(sentence, code="nothing_listens") from None
        sock.setblocking(False)
        ours, theirs = a_view()
        assert self._group is not None
        task = self._group.create_task(pass_on(theirs, sock))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await ours.receive()
        self.connections += 1
        self.live += 1
        try:
            yield ours
        finally:
            self.live -= 1
            await ours.close(1000, "")

    async def keep(self, workspace: WorkspaceId) -> None:
        self.kept.append(workspace)
