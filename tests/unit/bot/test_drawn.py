"""What a viewer says that it has drawn."""

import asyncio

from bot.drawn import Drawn
from core.viewing import SEEN_BYTES, SEEN_S, Seen, decode
from tests.fakes.clock import LoopClock
from tests.fakes.serving import until
from tests.fakes.viewer import Wire


async def test_many_keys_are_told_of_in_one_frame_soon() -> None:
    wire, clock = Wire(), LoopClock()
    drawn = Drawn(wire, 100)
    telling = asyncio.create_task(drawn.tell())
    for offset in range(101, 131):
        await drawn.up_to(offset)
        await asyncio.sleep(0)
    clock.advance(SEEN_S)
    assert decode(await wire.out.get()) == Seen(130)
    clock.advance(SEEN_S)
    for _ in range(5):
        await asyncio.sleep(0)
    assert wire.out.empty(), "nothing was drawn since"
    await drawn.up_to(131)
    await asyncio.sleep(0)
    clock.advance(SEEN_S)
    assert decode(await wire.out.get()) == Seen(131)
    telling.cancel()


async def test_much_is_told_of_at_once() -> None:
    wire = Wire()
    drawn = Drawn(wire, None)
    await drawn.up_to(SEEN_BYTES)
    assert decode(wire.out.get_nowait()) == Seen(SEEN_BYTES)
    await drawn.up_to(SEEN_BYTES + 1)
    assert wire.out.empty()
    await drawn.up_to(2 * SEEN_BYTES)
    assert decode(wire.out.get_nowait()) == Seen(2 * SEEN_BYTES)


async def test_a_picture_of_an_earlier_place_is_told_of() -> None:
    wire = Wire()
    drawn = Drawn(wire, 5000)
    telling = asyncio.create_task(drawn.tell())
    await drawn.up_to(100)
    await until(lambda: not wire.out.empty())
    assert decode(wire.out.get_nowait()) == Seen(100)
    telling.cancel()
