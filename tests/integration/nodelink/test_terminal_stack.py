"""Terminals from a viewer's WebSocket to a PTY: all real parts in the two processes of life."""

import asyncio
import os
import random
from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from tests.fakes.terminal_stack import Plan, Stack, Viewer, stack, viewing

READY = "stty raw -echo; printf 'ready\\n'; "
COUNTED = 40_000
PROGRAMS = {
    "e": f"{READY}exec cat",
    "c": f"{READY}head -c 1 >/dev/null; stty -raw; seq -f '漢 %.0f' 1 {COUNTED}",
}
TERMINALS = 200
KB_EACH_MAX = 512
"""Of both processes, for a terminal that somebody looks at and that does nothing."""


@pytest.fixture(scope="module")
def parts() -> Generator[Stack]:
    with stack(Plan(programs=PROGRAMS)) as running:
        yield running


@pytest.fixture
async def client() -> AsyncGenerator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as made:
        yield made


async def draw_all(viewer: Viewer, count: int) -> bytes:
    async with asyncio.timeout(60):
        while len(viewer.output) < count:
            await viewer.draw()
    return bytes(viewer.output)


async def test_more_than_a_megabyte_of_every_kind_of_character_comes_back_as_it_was(
    parts: Stack, client: aiohttp.ClientSession
) -> None:
    text = "".join(f"{number:06d} 漢字🙂é\n" for number in range(64_000)).encode()
    assert len(text) == 1_280_000
    async with viewing(client, f"{parts.url}t-e0000001") as viewer:
        await viewer.draw_until(b"ready")
        viewer.output.clear()
        async with asyncio.TaskGroup() as group:
            drawing = group.create_task(draw_all(viewer, len(text)))
            for at in range(0, len(text), 10_001):  # Cuts characters anywhere.
                await viewer.type(text[at : at + 10_001])
        assert drawing.result() == text


async def test_a_key_that_is_held_comes_as_often_as_it_was_sent(
    parts: Stack, client: aiohttp.ClientSession
) -> None:
    async with viewing(client, f"{parts.url}t-e0000002") as viewer:
        await viewer.draw_until(b"ready")
        viewer.output.clear()
        async with asyncio.TaskGroup() as group:
            drawing = group.create_task(draw_all(viewer, 1800))
            for _ in range(1800):
                await viewer.type(b"k")
        assert drawing.result() == b"k" * 1800


async def test_w9_a_hundred_reconnects_at_any_moment_lose_nothing_and_repeat_nothing(
    parts: Stack, client: aiohttp.ClientSession
) -> None:
    url, chance = f"{parts.url}t-c0000003", random.Random(7)
    got, seen = bytearray(), None
    for number in range(100):
        async with viewing(client, url, seen=seen) as viewer:
            if number == 0:
                await viewer.draw_until(b"ready")
                viewer.output.clear()
                await viewer.type(b"x")
            for _ in range(chance.randrange(1, 4)):
                if not viewer.has_ended:
                    await viewer.draw()
            got += viewer.output
            seen = viewer.at
    async with viewing(client, url, seen=seen) as viewer:
        async with asyncio.timeout(60):
            while not viewer.has_ended:
                await viewer.draw()
        got += viewer.output
        assert viewer.paints == 0
    wanted = "".join(f"漢 {number}\r\n" for number in range(1, COUNTED + 1))
    assert got.decode() == wanted


def memory_kb(parts: Stack) -> float:
    page_kb = os.sysconf("SC_PAGE_SIZE") / 1024
    pids = (parts.control, parts.node)
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids) * page_kb


async def test_two_hundred_terminals_at_once_each_answer_their_own_and_take_little(
    parts: Stack, client: aiohttp.ClientSession
) -> None:
    async with AsyncExitStack() as looks:
        before = memory_kb(parts)
        viewers = [
            await looks.enter_async_context(viewing(client, f"{parts.url}t-e1{number:06x}"))
            for number in range(TERMINALS)
        ]
        await asyncio.gather(*(viewer.draw_until(b"ready") for viewer in viewers))
        each_kb = (memory_kb(parts) - before) / TERMINALS
        print(f"{each_kb:.0f} KB for each idle terminal")
        assert each_kb < KB_EACH_MAX

        async def talk(number: int, viewer: Viewer) -> None:
            for said in range(5):
                await viewer.type(b"<%d.%d>" % (number, said))
                await viewer.draw_until(b"<%d.%d>" % (number, said))

        await asyncio.gather(*(talk(number, viewer) for number, viewer in enumerate(viewers)))
