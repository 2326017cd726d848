"""Ways into workspaces: one person, one workspace, once, for a while."""

import asyncio

import pytest

from bot.doors import WorkspaceDoors
from bot.people import fingerprint
from core.access import DoorKey, Person
from core.errors import ForbiddenError, NotFoundError, UserError
from core.ids import WorkspaceId
from core.ports.commands import Guest
from core.ports.store import Update
from core.workspace import Workspace, WorkspaceState
from tests.fakes.desk import Desk
from tests.fakes.nouns import CLOCKS, a_workspace

WORKSPACE = WorkspaceId("wabcdefg")


@pytest.fixture
async def doors(desk: Desk) -> WorkspaceDoors:
    await desk.put(a_workspace())
    return desk.commands.doors


async def link_of(desk: Desk, person: Person) -> str:
    path = await desk.commands.workspace_link(person, WORKSPACE)
    return path.removeprefix("/enter?link=")


async def inside(desk: Desk, person: Person) -> str:
    """Return a cookie of the workspace."""
    handed = await desk.commands.doors.hand_over(person, WORKSPACE)
    cookie = await desk.commands.doors.enter(handed)
    assert cookie is not None
    return cookie


async def test_a_link_becomes_a_pass_and_a_pass_a_cookie(desk: Desk, doors: WorkspaceDoors) -> None:
    ana = await desk.person("ana")
    link = await link_of(desk, ana)
    assert await doors.whose(link) == Guest(person=ana, workspace=WORKSPACE)
    handed = await doors.spend(link)
    assert handed is not None
    cookie = await doors.enter(handed)
    assert cookie is not None
    assert await doors.guest(cookie) == Guest(person=ana, workspace=WORKSPACE)
    assert len({link, handed, cookie}) == 3


async def test_c9_looking_whose_a_link_is_spends_nothing(desk: Desk, doors: WorkspaceDoors) -> None:
    link = await link_of(desk, await desk.person("ana"))
    for _ in range(3):
        assert await doors.whose(link) is not None
    assert await doors.spend(link) is not None
    assert await doors.whose(link) is None


async def test_c3_of_many_who_spend_at_once_one_gets_in(desk: Desk, doors: WorkspaceDoors) -> None:
    link = await link_of(desk, await desk.person("ana"))
    passes = await asyncio.gather(*(doors.spend(link) for _ in range(5)))
    (handed,) = [one for one in passes if one is not None]
    cookies = await asyncio.gather(*(doors.enter(handed) for _ in range(5)))
    (cookie,) = [one for one in cookies if one is not None]
    assert await doors.guest(cookie) is not None
    assert await doors.spend(link) is None
    assert await doors.enter(handed) is None
    assert len(await desk.store.find(DoorKey)) == 3


async def test_c2_links_and_passes_are_good_for_a_minute_and_cookies_for_their_time(
    desk: Desk, doors: WorkspaceDoors
) -> None:
    ana = await desk.person("ana")
    link, handed = await link_of(desk, ana), await doors.hand_over(ana, WORKSPACE)
    cookie = await inside(desk, ana)
    desk.clock.advance(CLOCKS.enter_s)
    assert await doors.whose(link) is None
    assert await doors.spend(link) is None
    assert await doors.enter(handed) is None
    desk.clock.advance(CLOCKS.guest_s - CLOCKS.enter_s - 1)
    assert await doors.guest(cookie) is not None
    desk.clock.advance(1)
    assert await doors.guest(cookie) is None


async def test_c9_each_secret_is_good_for_its_own_step_alone(
    desk: Desk, doors: WorkspaceDoors
) -> None:
    ana = await desk.person("ana")
    link, handed = await link_of(desk, ana), await doors.hand_over(ana, WORKSPACE)
    cookie = await inside(desk, ana)
    assert [await doors.enter(link), await doors.guest(link)] == [None, None]
    assert [await doors.spend(handed), await doors.guest(handed)] == [None, None]
    assert [await doors.spend(cookie), await doors.enter(cookie)] == [None, None]
    assert await desk.people.redeem(link) is None
    assert await desk.people.person(cookie) is None
    token = (await desk.people.sign_in(ana.id)).reveal()
    assert [await doors.whose(token), await doors.spend(token)] == [None, None]


async def test_c9_a_link_is_its_persons_whoever_finds_it(desk: Desk, doors: WorkspaceDoors) -> None:
    ana, eve = await desk.person("ana"), await desk.person("eve", "viewer")
    guests = [await doors.whose(await link_of(desk, one)) for one in (ana, eve)]
    assert [guest and guest.person for guest in guests] == [ana, eve]


async def test_nobody_enters_where_nothing_is(desk: Desk, doors: WorkspaceDoors) -> None:
    ana = await desk.person("ana")
    link, cookie = await link_of(desk, ana), await inside(desk, ana)
    workspace = await desk.store.get(Workspace, WORKSPACE)
    for state in (WorkspaceState.DELETING, WorkspaceState.GONE):
        workspace = workspace.moved(state, at=desk.clock.now())
        await desk.store.commit(Update(workspace))
        workspace = await desk.store.get(Workspace, WORKSPACE)
    assert await doors.spend(link) is None
    assert await doors.guest(cookie) is None
    with pytest.raises(UserError, match="reply in the thread of T-1") as gone:
        await desk.commands.workspace_link(ana, WORKSPACE)
    assert gone.value.code == "workspace_gone"
    with pytest.raises(NotFoundError):
        await desk.commands.workspace_link(ana, WorkspaceId("unknown0"))


@pytest.mark.parametrize("wrong", ["", "x", "\x00", "ä" * 100])
async def test_what_was_never_given_out_opens_nothing(
    desk: Desk, doors: WorkspaceDoors, wrong: str
) -> None:
    assert await doors.whose(wrong) is None
    assert await doors.spend(wrong) is None
    assert await doors.enter(wrong) is None
    assert await doors.guest(wrong) is None


async def test_c7_secrets_are_kept_as_hashes_alone(desk: Desk, doors: WorkspaceDoors) -> None:
    link = await link_of(desk, await desk.person("ana"))
    (key,) = await desk.store.find(DoorKey)
    assert key.id == fingerprint(link)
    assert link not in repr(key)


async def test_who_may_only_look_opens_nothing(desk: Desk, doors: WorkspaceDoors) -> None:
    del doors
    eve = await desk.person("eve", "viewer")
    assert await desk.commands.terminals(eve, WORKSPACE) == []
    with pytest.raises(ForbiddenError):
        await desk.commands.open_terminal(eve, WORKSPACE)
