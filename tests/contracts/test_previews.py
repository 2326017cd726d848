"""Promises of the port `previews`: what people decided is in our records, on both databases."""

import asyncio
from dataclasses import dataclass

import pytest

from adapters.store.store import SqlStore
from agent.errors import NodeError
from bot.preview_keys import PreviewKeys
from bot.previews import WorkspacePreviews
from core.access import Person, Role
from core.browse import Port, Ports
from core.errors import ForbiddenError, NotFoundError, UserError
from core.ids import PersonId, WorkspaceId
from core.ports.previews import Previews, PreviewView, Visit
from core.ports.store import Insert, Update
from core.viewing import View, ViewClosedError
from core.wire import ConnectPort, Pipe
from core.workspace import Workspace, WorkspaceState
from tests.fakes.clock import FakeClock
from tests.fakes.nouns import CLOCKS, a_task, a_workspace
from tests.fakes.pipes import PipeNodes

SPACE, PORT = WorkspaceId("wabcdefg"), 5173
HOUR_S = 3600.0


@dataclass
class World:
    store: SqlStore
    nodes: PipeNodes
    clock: FakeClock
    previews: Previews
    kept: list[WorkspaceId]

    async def person(self, name: str, role: Role = "member") -> Person:
        person = Person(id=PersonId(name), name=name, role=role, created_at=self.clock.now())
        await self.store.commit(Insert(person, once=True))
        return await self.store.get(Person, name)

    async def link(self, *, hours: int = 24) -> str:
        path = await self.previews.share(await self.person("ana"), SPACE, PORT, hours=hours)
        return path.removeprefix("/preview?link=")

    async def by_link(self, *, hours: int = 24) -> str:
        """Return a cookie of somebody who came by a link."""
        handed = await self.previews.spend(await self.link(hours=hours))
        return await self.entered(handed)

    async def signed_in(self, name: str) -> str:
        """Return a cookie of a person."""
        person = await self.person(name)
        return await self.entered(await self.previews.hand_over(person, SPACE, PORT))

    async def entered(self, handed: str | None) -> str:
        assert handed is not None
        cookie = await self.previews.enter(handed)
        assert cookie is not None
        return cookie

    async def move(self, state: WorkspaceState) -> None:
        known = await self.store.get(Workspace, SPACE)
        await self.store.commit(Update(known.moved(state, at=self.clock.now())))


@pytest.fixture
async def world(store: SqlStore) -> World:
    await store.commit(Insert(a_task()), Insert(a_workspace()))
    clock, kept = FakeClock(), list[WorkspaceId]()
    nodes = PipeNodes(listening=Ports(ports=(Port(number=80), Port(number=PORT, name="Shop"))))

    async def keep(workspace: WorkspaceId) -> None:
        kept.append(workspace)

    previews = WorkspacePreviews(
        store=store,
        nodes_link=nodes,
        clock=clock,
        keys=PreviewKeys(store=store, clock=clock, clocks=CLOCKS),
        keeps=keep,
    )
    return World(store, nodes, clock, previews, kept)


async def test_1_a_port_is_its_owners_until_it_is_opened(world: World) -> None:
    ana, bo = await world.person("ana"), await world.person("bo")
    admin = await world.person("root", "admin")
    viewer = await world.person("vi", "viewer")
    for who in (ana, admin):
        seen = await world.previews.ports(who, SPACE)
        assert [(one.port, one.name, one.may_share) for one in seen] == [
            (80, "", True),
            (PORT, "Shop", True),
        ]
    for who in (bo, viewer):
        assert await world.previews.ports(who, SPACE) == []
        with pytest.raises(ForbiddenError):
            await world.previews.port(who, SPACE, PORT)
        with pytest.raises(ForbiddenError):
            await world.previews.hand_over(who, SPACE, PORT)
        with pytest.raises(ForbiddenError):
            await world.previews.open_to(who, SPACE, PORT, "project")
    await world.previews.open_to(ana, SPACE, PORT, "project")
    assert await world.previews.port(bo, SPACE, PORT) == PreviewView(
        workspace_id=SPACE,
        port=PORT,
        name="Shop",
        is_open=True,
        audience="project",
        may_share=False,
    )
    assert [one.port for one in await world.previews.ports(viewer, SPACE)] == [PORT]
    with pytest.raises(ForbiddenError):
        await world.previews.share(bo, SPACE, PORT, hours=1)
    with pytest.raises(NotFoundError):
        await world.previews.port(ana, WorkspaceId("nowhere"), PORT)
    for port in (0, 65536):
        with pytest.raises(NotFoundError):
            await world.previews.port(ana, SPACE, port)


async def test_2_links_and_passes_are_good_once_and_for_their_time(world: World) -> None:
    link = await world.link()
    for _ in range(3):
        assert await world.previews.whose(link) == Visit(workspace=SPACE, port=PORT, person=None)
    passes = await asyncio.gather(*(world.previews.spend(link) for _ in range(5)))
    (handed,) = [one for one in passes if one is not None]
    cookies = await asyncio.gather(*(world.previews.enter(handed) for _ in range(5)))
    (cookie,) = [one for one in cookies if one is not None]
    assert await world.previews.whose(link) is None
    assert await world.previews.visit(cookie) == Visit(workspace=SPACE, port=PORT, person=None)
    for secret in (link, handed, "forged"):
        assert await world.previews.visit(secret) is None
        assert await world.previews.enter(secret) is None
        assert await world.previews.spend(secret) is None
    old = await world.link(hours=1)
    handed = await world.previews.spend(await world.link())
    assert handed is not None
    world.clock.advance(CLOCKS.enter_s)
    assert await world.previews.enter(handed) is None
    assert await world.previews.whose(old) is not None
    world.clock.advance(HOUR_S - CLOCKS.enter_s)
    assert await world.previews.whose(old) is None
    for hours in (0, 169):
        with pytest.raises(UserError, match="1 to 168 hours"):
            await world.previews.share(await world.person("ana"), SPACE, PORT, hours=hours)


async def test_3_a_cookie_lasts_as_long_as_was_said_and_its_person_may_look(world: World) -> None:
    short = await world.by_link(hours=1)
    ana = await world.signed_in("ana")
    world.clock.advance(HOUR_S - 1)
    assert await world.previews.visit(short) is not None
    world.clock.advance(1)
    assert await world.previews.visit(short) is None
    seen = await world.previews.visit(ana)
    assert seen is not None
    assert seen.person == await world.person("ana")
    world.clock.advance(CLOCKS.guest_s)
    assert await world.previews.visit(ana) is None


async def test_3_closing_a_port_to_the_project_ends_its_peoples_cookies(world: World) -> None:
    ana = await world.person("ana")
    await world.previews.open_to(ana, SPACE, PORT, "project")
    bo, mine = await world.signed_in("bo"), await world.signed_in("ana")
    assert await world.previews.visit(bo) is not None
    await world.previews.open_to(ana, SPACE, PORT, "owner")
    assert await world.previews.visit(bo) is None
    assert await world.previews.visit(mine) is not None


async def test_4_open_to_the_owner_ends_every_link_and_what_came_of_it(world: World) -> None:
    ana = await world.person("ana")
    cookie, link = await world.by_link(), await world.link()
    handed = await world.previews.spend(await world.link())
    elsewhere = await world.previews.share(ana, SPACE, 80, hours=1)
    await world.previews.open_to(ana, SPACE, PORT, "owner")
    assert await world.previews.visit(cookie) is None
    assert await world.previews.whose(link) is None
    assert await world.previews.enter(handed or "") is None
    assert await world.previews.whose(elsewhere.partition("=")[2]) is not None


async def test_5_connect_is_a_connection_or_says_why_not(world: World) -> None:
    async with world.previews.connect(SPACE, PORT) as view:
        await view.send(b"ping")
        assert await view.receive() == b"ping"
    assert world.nodes.asked == [ConnectPort(ticket="", workspace=SPACE, port=PORT)]

    async def say_and_end(_: Pipe, pipe: View) -> None:
        await pipe.send(b"")
        await pipe.send(b"all")
        await pipe.close(1000, "")

    world.nodes.served = say_and_end
    async with world.previews.connect(SPACE, PORT) as view:
        assert await view.receive() == b"all"
        with pytest.raises(ViewClosedError) as closed:
            await view.receive()
        assert closed.value.code == 1000

    async def refuse(_: Pipe, pipe: View) -> None:
        raise NodeError("nothing_listens", "")

    world.nodes.served = refuse
    await refused(world, "nothing_listens")
    world.nodes.is_up = False
    await refused(world, "node_away")
    await world.move(WorkspaceState.STOPPING)
    await refused(world, "workspace_stopped")
    await world.move(WorkspaceState.DELETING)
    await refused(world, "workspace_gone")


async def refused(world: World, code: str) -> None:
    with pytest.raises(UserError) as error:
        async with world.previews.connect(SPACE, PORT):
            pass
    assert error.value.code == code


async def test_a_workspace_that_is_gone_lets_nobody_in_and_one_that_sleeps_has_no_ports(
    world: World,
) -> None:
    ana = await world.person("ana")
    world.nodes.listening = None
    assert await world.previews.ports(ana, SPACE) == []
    await world.move(WorkspaceState.DELETING)
    assert not (await world.previews.port(ana, SPACE, PORT)).is_open
    for asking in (
        world.previews.share(ana, SPACE, PORT, hours=1),
        world.previews.hand_over(ana, SPACE, PORT),
    ):
        with pytest.raises(UserError) as error:
            await asking
        assert error.value.code == "workspace_gone"
