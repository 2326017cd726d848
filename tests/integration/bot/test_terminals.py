"""What people can ask for of terminals, and what becomes of it in our records."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from bot.workspaces import TERMINALS_MAX
from core.access import Person
from core.errors import ForbiddenError, NotFoundError, QuotaError, UnavailableError, UserError
from core.ids import TerminalId, WorkspaceId
from core.order import NodeOrder
from core.ports.store import Wake
from core.reconcile.stuck import TERMINAL_STUCK, Stuck
from core.session import SessionState
from core.terminal import Terminal, TerminalState
from core.viewing import Beat, FromViewer, Input, Seen, View, encode
from core.workspace import Workspace, WorkspaceState
from tests.fakes.desk import REPLICA, Desk
from tests.fakes.nouns import CLOCKS, SESSION, a_session, a_terminal, a_workspace
from tests.fakes.serving import until

WORKSPACE = WorkspaceId("wabcdefg")


@pytest.fixture
async def ana(desk: Desk) -> Person:
    await desk.put(a_workspace(container="c1"))
    return await desk.person("ana")


async def opened(desk: Desk, by: Person, title: str = "") -> TerminalId:
    """Open a terminal, and let the node have it."""
    made = await desk.commands.open_terminal(by, WORKSPACE, title=title)
    await desk.work_off("terminal")
    await answer(desk, f"{made.id}/open")
    return made.id


async def answer(desk: Desk, order: str, *, ok: bool = True, text: str = "") -> None:
    found = await desk.store.get(NodeOrder, order)
    assert await desk.store.answer_order(found.id, ok=ok, text=text, at=desk.clock.now())
    await desk.work_off("terminal")


async def titles(desk: Desk, by: Person) -> list[str]:
    return [tab.title for tab in await desk.commands.terminals(by, WORKSPACE)]


async def kinds(desk: Desk, by: Person) -> list[str]:
    return [event.kind for event in await desk.commands.events(by, after=0)]


async def test_a_terminal_is_opened_looked_at_and_closed(desk: Desk, ana: Person) -> None:
    made = await desk.commands.open_terminal(ana, WORKSPACE)
    assert (made.title, made.position, made.state) == ("Shell", 0, "opening")
    await desk.work_off("terminal")
    order = await desk.store.get(NodeOrder, f"{made.id}/open")
    assert (order.kind, order.node_id, order.body["terminal"]) == (
        *("open_terminal", "node-1"),
        made.id,
    )
    await answer(desk, order.id)
    (tab,) = await desk.commands.terminals(ana, WORKSPACE)
    assert tab.state == "open"
    async with desk.commands.view_terminal(ana, made.id) as view:
        assert desk.logs.terminal is not None
        await desk.logs.terminal.send(b"B")
        assert await view.receive() == b"B"
    assert desk.logs.looked == [("node-1", WORKSPACE, made.id, "Ana", True)]
    await asyncio.gather(*(desk.commands.close_terminal(ana, made.id) for _ in range(3)))
    assert await desk.commands.terminals(ana, WORKSPACE) == []
    await desk.work_off("terminal")
    await answer(desk, f"{made.id}/close")
    over = await desk.store.get(Terminal, made.id)
    assert (over.state, over.is_hidden, over.error) == (TerminalState.EXITED, True, "")
    assert await kinds(desk, ana) == [
        *("terminal.opening", "terminal.open"),
        *("terminal.closing", "terminal.exited"),
    ]


async def test_n5_who_types_keeps_the_workspace_and_a_forgotten_page_does_not(
    desk: Desk, ana: Person
) -> None:
    terminal = await opened(desk, ana)
    known = await desk.store.get(Workspace, WORKSPACE)
    soon = desk.clock.now() + timedelta(seconds=60)
    await desk.put(replace(known, run_id=None, keep_until=soon))

    async def kept() -> float:
        found = await desk.store.get(Workspace, WORKSPACE)
        assert found.keep_until is not None
        return (found.keep_until - desk.clock.now()).total_seconds()

    async with desk.commands.view_terminal(ana, terminal) as view:
        for idle in (Beat(), Seen(40)):
            await says(desk, view, idle)
        assert await kept() == 60
        await says(desk, view, Input(b"ls\n"))
        assert await kept() == desk.commands.clocks.warm_s
        desk.clock.advance(10)
        await says(desk, view, Input(b"x"))
        assert await kept() == desk.commands.clocks.warm_s - 10, "not at every key"
        desk.clock.advance(30)
        await says(desk, view, Input(b"x"))
        assert await kept() == desk.commands.clocks.warm_s


async def test_who_types_does_not_undo_that_a_workspace_is_let_go(desk: Desk, ana: Person) -> None:
    terminal = await opened(desk, ana)
    known = await desk.store.get(Workspace, WORKSPACE)
    await desk.put(replace(known, run_id=None, base_commit="a" * 40))
    async with desk.commands.view_terminal(ana, terminal) as view:
        await desk.commands.delete_workspace(await desk.person("root", "admin"), WORKSPACE)
        await says(desk, view, Input(b"ls\n"))
    found = await desk.store.get(Workspace, WORKSPACE)
    assert (found.state, found.keep_until) == (WorkspaceState.STOPPING, None)


async def test_who_types_keeps_no_workspace_that_is_being_removed(desk: Desk, ana: Person) -> None:
    terminal = await opened(desk, ana)
    known = await desk.store.get(Workspace, WORKSPACE)
    gone = known.moved(WorkspaceState.DELETING, at=desk.clock.now(), run_id=None)
    async with desk.commands.view_terminal(ana, terminal) as view:
        await desk.put(gone)
        await says(desk, view, Input(b"ls\n"))
    assert (await desk.store.get(Workspace, WORKSPACE)).keep_until is None


async def says(desk: Desk, view: View, frame: FromViewer) -> None:
    assert desk.logs.terminal is not None
    await asyncio.gather(view.send(encode(frame)), desk.logs.terminal.receive())


async def test_what_is_closed_before_it_was_open_is_never_open(desk: Desk, ana: Person) -> None:
    made = await desk.commands.open_terminal(ana, WORKSPACE)
    await desk.work_off("terminal")
    await desk.commands.close_terminal(ana, made.id)
    await answer(desk, f"{made.id}/open")
    await answer(desk, f"{made.id}/close")
    assert "terminal.open" not in await kinds(desk, ana)


async def test_a_terminal_that_a_machine_refuses_says_why(desk: Desk, ana: Person) -> None:
    made = await desk.commands.open_terminal(ana, WORKSPACE)
    await desk.work_off("terminal")
    await answer(desk, f"{made.id}/open", ok=False, text="The container does not run.")
    with pytest.raises(UserError, match="The container does not run") as refused:
        async with desk.commands.view_terminal(ana, made.id):
            pass
    assert refused.value.code == "terminal_over"


async def test_who_looks_waits_until_it_is_open(desk: Desk, ana: Person) -> None:
    made = await desk.commands.open_terminal(ana, WORKSPACE)

    async def look() -> str:
        async with desk.commands.view_terminal(ana, made.id):
            return (await desk.store.get(Terminal, made.id)).state

    async def open_it() -> None:
        await until(lambda: desk.store.find(NodeOrder, id=f"{made.id}/open"))
        assert desk.logs.looked == []
        await answer(desk, f"{made.id}/open")

    assert (await asyncio.gather(look(), open_it()))[0] == "open"


async def test_a_terminal_that_has_exited_can_still_be_looked_at(desk: Desk, ana: Person) -> None:
    terminal = await opened(desk, ana)
    known = await desk.store.get(Terminal, terminal)
    await desk.put(known.moved(TerminalState.EXITED, at=desk.clock.now(), exit_code=7))
    async with desk.commands.view_terminal(ana, terminal):
        pass
    (tab,) = await desk.commands.terminals(ana, WORKSPACE)
    assert (tab.state, tab.exit_code) == ("exited", 7)


async def test_whoever_may_look_types_nothing(desk: Desk, ana: Person) -> None:
    terminal = await opened(desk, ana)
    eve = await desk.person("eve", "viewer")
    async with desk.commands.view_terminal(eve, terminal):
        pass
    assert desk.logs.looked == [("node-1", WORKSPACE, terminal, "Eve", False)]
    for asked in (
        desk.commands.open_terminal(eve, WORKSPACE),
        desk.commands.change_terminal(eve, terminal, title="Mine"),
        desk.commands.close_terminal(eve, terminal),
    ):
        with pytest.raises(ForbiddenError, match="Ask whoever runs Samovar"):
            await asked


async def test_a_machine_that_is_away_is_an_outage(desk: Desk, ana: Person) -> None:
    terminal = await opened(desk, ana)
    desk.logs.is_up = False
    with pytest.raises(UnavailableError):
        async with desk.commands.view_terminal(ana, terminal):
            pass


async def test_tabs_have_titles_of_their_own(desk: Desk, ana: Person) -> None:
    for title in ("", "", "Tests \x1b[31m\n", "", "   "):
        await desk.commands.open_terminal(ana, WORKSPACE, title=title)
    assert await titles(desk, ana) == ["Shell", "Shell 2", "Tests [31m", "Shell 3", "Shell 4"]
    (_, second, *_) = await desk.commands.terminals(ana, WORKSPACE)
    await desk.commands.close_terminal(ana, second.id)
    again = await desk.commands.open_terminal(ana, WORKSPACE)
    assert (again.title, again.position) == ("Shell 2", 5)
    long = await desk.commands.open_terminal(ana, WORKSPACE, title="x" * 500)
    assert len(long.title) == 60


async def test_tabs_are_renamed_and_make_room(desk: Desk, ana: Person) -> None:
    a, b, c = [
        (await desk.commands.open_terminal(ana, WORKSPACE, title=title)).id for title in "abc"
    ]
    await desk.commands.change_terminal(ana, c, position=0)
    assert await titles(desk, ana) == ["c", "a", "b"]
    await desk.commands.change_terminal(ana, c, position=99, title="last")
    assert await titles(desk, ana) == ["a", "b", "last"]
    await desk.commands.change_terminal(ana, a, title="")
    await desk.commands.change_terminal(ana, b, position=-1)
    assert await titles(desk, ana) == ["b", "a", "last"]
    assert (await kinds(desk, ana)).count("terminal.changed") == 3, "nothing changed, nothing told"
    await desk.commands.close_terminal(ana, b)
    with pytest.raises(NotFoundError, match="was closed"):
        await desk.commands.change_terminal(ana, b, title="x")
    with pytest.raises(NotFoundError, match="no terminal"):
        await desk.commands.change_terminal(ana, TerminalId("t-unknown"), title="x")


async def test_n12_a_workspace_has_so_many_terminals_and_no_more(desk: Desk, ana: Person) -> None:
    asked = [desk.commands.open_terminal(ana, WORKSPACE) for _ in range(TERMINALS_MAX + 3)]
    said = await asyncio.gather(*asked, return_exceptions=True)
    refused = [one for one in said if isinstance(one, QuotaError)]
    assert len(refused) == 3
    assert "Close one first" in str(refused[0])
    (first, *_) = await desk.commands.terminals(ana, WORKSPACE)
    known = await desk.store.get(Terminal, first.id)
    await desk.put(known.moved(TerminalState.EXITED, at=desk.clock.now()))
    await desk.commands.open_terminal(ana, WORKSPACE)


@pytest.mark.parametrize(
    ("state", "code", "said"),
    [
        (WorkspaceState.BUILDING, "workspace_not_ready", "Try again when it is"),
        (WorkspaceState.DELETING, "workspace_gone", "reply in the thread"),
        (WorkspaceState.GONE, "workspace_gone", "reply in the thread"),
    ],
)
async def test_a_workspace_that_cannot_have_one_says_what_to_do(
    desk: Desk, ana: Person, state: WorkspaceState, code: str, said: str
) -> None:
    await desk.put(replace(await desk.store.get(Workspace, WORKSPACE), state=state))
    with pytest.raises(UserError, match=said) as refused:
        await desk.commands.open_terminal(ana, WORKSPACE)
    assert refused.value.code == code
    assert (await desk.commands.workspace(ana, WORKSPACE)).state == state
    with pytest.raises(NotFoundError):
        await desk.commands.open_terminal(ana, WorkspaceId("unknown0"))


async def test_a_lost_workspace_ends_its_terminals(desk: Desk, ana: Person) -> None:
    terminal = await opened(desk, ana)
    workspace = await desk.store.get(Workspace, WORKSPACE)
    await desk.put(workspace.moved(WorkspaceState.DELETING, at=desk.clock.now()))
    with pytest.raises(UserError) as refused:
        async with desk.commands.view_terminal(ana, terminal):
            pass
    assert refused.value.code == "workspace_gone"


async def test_g2_no_terminal_stays_in_a_state_with_a_deadline(desk: Desk, ana: Person) -> None:
    """The machine is away: nobody answers the orders."""
    first, second = [await desk.commands.open_terminal(ana, WORKSPACE) for _ in "ab"]
    await desk.work_off("terminal")
    await desk.commands.close_terminal(ana, second.id)
    desk.clock.advance(CLOCKS.terminal_s)
    await desk.store.commit(Wake("terminal", first.id), Wake("terminal", second.id))
    await desk.work_off("terminal")
    found = await desk.store.find(Terminal)
    assert [terminal.state for terminal in found] == [TerminalState.EXITED] * 2
    with pytest.raises(UserError, match="when it is back"):
        async with desk.commands.view_terminal(ana, first.id):
            pass
    for terminal in found:
        assert await desk.store.find(NodeOrder, id=f"{terminal.id}/close", kind="close_terminal")


async def test_g2_a_terminal_that_is_given_up_ends_with_a_sentence(desk: Desk, ana: Person) -> None:
    terminal = await opened(desk, ana)
    stuck = Stuck(store=desk.store, clock=desk.clock, clocks=CLOCKS)
    for _ in range(2):
        await stuck("terminal", terminal, "RuntimeError: boom")
    (tab,) = await desk.commands.terminals(ana, WORKSPACE)
    assert (tab.state, tab.error) == ("exited", TERMINAL_STUCK)
    assert (await kinds(desk, ana)).count("terminal.exited") == 1


async def test_the_run_of_a_conversation_is_woken_when_its_terminal_is_given_up(
    desk: Desk, ana: Person
) -> None:
    await desk.put(a_session(state=SessionState.IN_TERMINAL, terminal_id=TerminalId("t-0000aaaa")))
    await desk.put(a_terminal(session_id=SESSION))
    await Stuck(store=desk.store, clock=desk.clock, clocks=CLOCKS)("terminal", "t-0000aaaa", "boom")
    assert [claim.key for claim in await desk.work.claim(REPLICA, ["run"], limit=9)] == ["T-1.1"]
