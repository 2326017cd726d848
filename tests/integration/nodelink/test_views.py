"""Views of terminals at the edges: no frames, nodes that do not come, viewers that go."""

import asyncio
from pathlib import Path

import aiohttp
import pytest

from adapters.nodelink.streams import Tickets
from agent.dial import dial
from core.errors import UnavailableError
from core.ids import TerminalId, WorkspaceId
from core.link import LinkClosedError
from core.viewing import CLOSE_UNREADABLE, FRAME_BYTES_MAX, View, ViewClosedError
from core.wire import ViewTerminal
from tests.fakes.node_link import NODE, attached, control_plane
from tests.fakes.serving import until

ASKED = (NODE, WorkspaceId("wabcdefg"), TerminalId("t-0000aaaa"))


async def test_what_is_no_frame_ends_the_view_on_both_sides(tmp_path: Path) -> None:
    told: list[ViewClosedError] = []

    async def shown(_: ViewTerminal, view: View) -> None:
        try:
            await view.send(b"x" * FRAME_BYTES_MAX)
            await view.send(b"x" * (FRAME_BYTES_MAX + 1))
            await view.receive()
        except ViewClosedError as closed:
            told.append(closed)

    async with control_plane() as plane:
        token = plane.store.add_node(NODE)
        async with attached(plane.url, token, tmp_path / "n", shown=shown):
            await until(plane.link.connected)
            async with plane.link.view(*ASKED, viewer="Ana", writes=True) as view:
                assert len(await view.receive()) == FRAME_BYTES_MAX
                with pytest.raises(ViewClosedError) as closed:
                    await view.receive()
                assert closed.value.code == CLOSE_UNREADABLE
            await until(lambda: told)
    assert told[0].code == CLOSE_UNREADABLE


async def test_a_node_that_does_not_dial_in_time_is_an_outage() -> None:
    asked: list[str] = []

    async def ask(ticket: str) -> None:
        asked.append(ticket)

    tickets = Tickets(ticket_s_max=0.05)
    with pytest.raises(UnavailableError, match="in time"):
        async with tickets.dialled(NODE, ask):
            pass
    assert len(asked) == 1


async def test_the_ticket_of_a_viewer_who_left_opens_nothing(tmp_path: Path) -> None:
    waiting = asyncio.Event()
    dialled: list[int] = []

    async with control_plane() as plane, aiohttp.ClientSession() as client:
        token = plane.store.add_node(NODE)

        async def look() -> None:
            async with plane.link.view(*ASKED, viewer="Ana", writes=True):
                raise AssertionError("nobody dialled")

        def late(asked: ViewTerminal) -> None:
            tickets.append(asked.ticket)
            waiting.set()

        tickets: list[str] = []
        async with asyncio.TaskGroup() as group:
            node = attached(plane.url, token, tmp_path / "n", look=late)
            async with node:
                await until(plane.link.connected)
                looking = group.create_task(look())
                await waiting.wait()
                looking.cancel()
                await asyncio.wait((looking,))
                with pytest.raises(LinkClosedError) as refused:
                    async with dial(client, f"{plane.url}/node/v1/stream/{tickets[0]}", token):
                        dialled.append(1)
    assert refused.value.code == 404
    assert dialled == []
