"""A viewer of a terminal over a connection in memory, with levers."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from core.viewing import (
    Beat,
    Exited,
    FromViewer,
    Look,
    Output,
    Paint,
    Resized,
    Seen,
    Size,
    View,
    ViewClosedError,
    Viewers,
    decode,
    encode,
)
from tests.fakes.serving import until

T = TypeVar("T")
Serve = Callable[[View], Awaitable[None]]


class Wire:
    """The terminal's end of the connection; the viewer takes and puts at the queues."""

    def __init__(self) -> None:
        self.out: asyncio.Queue[bytes] = asyncio.Queue(1)
        self.back: asyncio.Queue[bytes] = asyncio.Queue(64)
        self.over: ViewClosedError | None = None
        self._is_over = asyncio.Event()

    async def send(self, message: bytes) -> None:
        await self._or_over(self.out.put(message))

    async def receive(self) -> bytes:
        return await self._or_over(self.back.get())

    async def close(self, code: int, reason: str) -> None:
        self.end(code, reason)

    def end(self, code: int = 1006, reason: str = "") -> None:
        self.over = self.over or ViewClosedError(code, reason)
        self._is_over.set()

    async def _or_over(self, doing: Awaitable[T]) -> T:
        task = asyncio.ensure_future(doing)
        over = asyncio.ensure_future(self._is_over.wait())
        try:
            await asyncio.wait({task, over}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
        finally:
            over.cancel()
            task.cancel()
        assert self.over is not None
        raise self.over


class Watching:
    """What one viewer has got.

    Levers: `is_reading` cleared takes nothing off the connection; `draws` off never says `Seen`;
    `pause_s` between two frames.
    """

    def __init__(self, wire: Wire, size: Size, seen: int | None) -> None:
        self.wire = wire
        self.size = size
        self.at = seen
        self.output = bytearray()
        self.pieces: list[bytes] = []
        self.first = seen
        self.paints: list[Paint] = []
        self.order: list[str] = []
        self.viewers: Viewers | None = None
        self.shown: Size | None = None
        self.exit: Exited | None = None
        self.beats = 0
        self.received = 0
        self.keeps = True
        self.draws = True
        self.pause_s = 0.0
        self.is_reading = asyncio.Event()
        self.is_reading.set()

    @property
    def text(self) -> str:
        painted = self.paints[-1].data if self.paints else b""
        return (painted + bytes(self.output)).decode(errors="replace")

    @property
    def closed(self) -> tuple[int, str] | None:
        over = self.wire.over
        return None if over is None else (over.code, over.reason)

    async def say(self, frame: FromViewer) -> None:
        await self.wire.back.put(encode(frame))

    async def sees(self, text: str) -> None:
        await until(lambda: text in self.text)

    async def run(self) -> None:
        while True:
            await self.is_reading.wait()
            frame = decode(await self.wire.out.get())
            self.order.append(type(frame).__name__)
            match frame:
                case Output(offset, data):
                    assert offset == self.at, f"at {offset} instead of {self.at}"
                    self.at = offset + len(data)
                    self.received += len(data)
                    if self.keeps:
                        self.output += data
                        self.pieces.append(data)
                case Paint(offset, _, _):
                    self.at = self.first = offset
                    self.output.clear()
                    self.paints.append(frame)
                case Resized(size):
                    self.shown = size
                case Viewers():
                    self.viewers = frame
                case Exited():
                    self.exit = frame
                case Beat():
                    self.beats += 1
            if self.draws and self.at is not None and isinstance(frame, Output | Paint):
                await self.say(Seen(self.at))
            if self.pause_s:
                await asyncio.sleep(self.pause_s)


@asynccontextmanager
async def watching(
    serve: Serve, *, size: Size | None = None, seen: int | None = None
) -> AsyncGenerator[Watching]:
    """Look at what `serve` shows, until the end of the block; then the connection is cut."""
    wire = Wire()
    viewer = Watching(wire, size or Size(80, 24), seen)
    async with asyncio.TaskGroup() as group:
        served = group.create_task(serve(wire))  # type: ignore[arg-type]
        running = group.create_task(viewer.run())
        await viewer.say(Look(viewer.size, seen))
        try:
            yield viewer
        finally:
            wire.end()
            with suppress(asyncio.CancelledError):
                await asyncio.wait({served}, timeout=20)
            running.cancel()
