"""One terminal: its shell's output goes to the log, and from there to everybody who looks."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass

from agent.errors import NodeError
from agent.terminal.line import Line
from agent.terminal.log import Log
from agent.terminal.screen import Picture, paint
from agent.terminal.watcher import Watcher
from core.viewing import CLOSE_MISSING, Size, View, ViewClosedError, Viewer, Viewers

log = logging.getLogger(__name__)

STALL_S = 2.0
"""A viewer for whom output waits and who has drawn nothing for so long holds up nobody."""
TYPED_MAX = 16
"""Frames of input that wait for the shell; further ones wait at their viewer."""
UNKNOWN_END = (
    "The shell is gone: its container was stopped, or its node was started again. Open another one."
)


@dataclass(frozen=True, slots=True)
class End:
    """How a shell ended.

    Attributes:
        code: Exit code, minus a signal's number; None where nobody knows.
        text: How else it ended, as a sentence.
    """

    code: int | None = None
    text: str = ""


class Terminal:
    """A shell and its viewers. Viewers may look before the shell is there and after its end.

    Args:
        paints: Bounds how many screens are drawn at the same time; others wait.

    Attributes:
        output: What the shell wrote.
        end: How it ended; None until then.
        watchers: Who looks, in the order in which they came.
        closed: Why it is gone; empty while it is there.
    """

    def __init__(self, output: Log, *, paints: asyncio.Semaphore, end: End | None = None) -> None:
        self.output = output
        self.end = end
        self.watchers: list[Watcher] = []
        self.closed = ""
        self._active: Watcher | None = None
        self._paints = paints
        self._typed: asyncio.Queue[bytes] = asyncio.Queue(TYPED_MAX)
        self._moved = asyncio.Event()
        self._is_resized = asyncio.Event()
        self._fitting = asyncio.Lock()

    # The shell's side

    async def drive(self, line: Line) -> End:
        """Read the shell's output until it ends, and type what is typed; return how it ended.

        The end is not told before `finish`.
        """
        self._is_resized.set()  # An earlier life may have noted a size that it did not pass on.
        async with asyncio.TaskGroup() as group:
            others = [group.create_task(self._type(line)), group.create_task(self._resize(line))]
            end = await self._pump(line)
            for task in others:
                task.cancel()
        return end

    def finish(self, end: End) -> None:
        """Tell the end, and forget what was typed for nobody."""
        self.end = end
        self.output.flush()
        while not self._typed.empty():
            self._typed.get_nowait()
        self._wake()

    def close(self, reason: str) -> None:
        """End all views; it is gone."""
        self.closed = reason
        self._wake()

    async def _pump(self, line: Line) -> End:
        try:
            while True:
                await self._wait_for_viewers()
                offset, data = await line.read()
                if not data:
                    break
                now = asyncio.get_running_loop().time()
                for watcher in self.watchers:
                    watcher.expect(self.output.end, now)
                self.output.append(offset, data)
                self._wake()
            code = await line.exit_code()
        except (NodeError, OSError) as error:
            return End(text=error.text if isinstance(error, NodeError) else UNKNOWN_END)
        return End(code) if code is not None else End(text=UNKNOWN_END)

    async def _wait_for_viewers(self) -> None:
        """Wait as long as nobody who keeps up has room for more."""
        while True:
            now, end = asyncio.get_running_loop().time(), self.output.end
            stalls = [
                watcher.moved_at + STALL_S
                for watcher in self.watchers
                if watcher.seen >= end or now < watcher.moved_at + STALL_S
            ]
            if not stalls or any(watcher.has_room(end) for watcher in self.watchers):
                return
            self._moved.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, min(stalls) - now)):
                    await self._moved.wait()

    async def _type(self, line: Line) -> None:
        while True:
            data = await self._typed.get()
            await self._fit(line)
            with suppress(NodeError, OSError):
                await line.write(data)

    async def _resize(self, line: Line) -> None:
        while True:
            await self._is_resized.wait()
            await self._fit(line)

    async def _fit(self, line: Line) -> None:
        """Have the shell's size be ours; what is typed afterwards waits for that."""
        async with self._fitting:
            if self._is_resized.is_set():
                self._is_resized.clear()
                with suppress(NodeError, OSError):
                    await line.resize(self.output.size)

    def _wake(self) -> None:
        for watcher in self.watchers:
            watcher.wake()

    # The viewers' side

    async def view(self, view: View, *, name: str, writes: bool) -> None:
        """Serve a viewer until one side ends it. Never raises."""
        watcher = Watcher(view, self, name=name, writes=writes)
        try:
            await _first(watcher.greet, watcher.expire)
            self.watchers.append(watcher)
            if self._active is None and writes:
                self._activate(watcher)
            self._tell_viewers()
            await _first(watcher.listen, watcher.send, watcher.expire)
        except ViewClosedError as closed:
            await view.close(closed.code, closed.reason)
        finally:
            if watcher in self.watchers:
                self._leave(watcher)

    async def type(self, watcher: Watcher, data: bytes) -> None:
        """Type what a viewer typed; the size is theirs from now on."""
        if self.end is None and not self.closed:
            if self._active is not watcher:
                self._activate(watcher)
                self._tell_viewers()
            await self._typed.put(data)

    def fit(self, watcher: Watcher) -> None:
        """Take note that a viewer's own size changed."""
        if watcher is self._active:
            self._set_size(watcher.size)

    def moved(self) -> None:
        """Take note that a viewer has drawn something."""
        self._moved.set()

    def viewers(self) -> Viewers:
        """Return who looks."""
        return Viewers(
            tuple(
                Viewer(name=each.name, writes=each.writes, is_active=each is self._active)
                for each in self.watchers
            )
        )

    async def picture(self) -> tuple[int, Size, Picture]:
        """Return a picture of the screen, of which offset it is, and of which size."""
        async with self._paints:
            kept = self.output.kept()
            return kept.end, kept.size, await asyncio.to_thread(paint, kept)

    def _activate(self, watcher: Watcher) -> None:
        self._active = watcher
        self._set_size(watcher.size)

    def _set_size(self, size: Size) -> None:
        if size != self.output.size and self.end is None:
            self.output.resize(size)
            self._is_resized.set()
            for watcher in self.watchers:
                watcher.tell_size()

    def _leave(self, watcher: Watcher) -> None:
        self.watchers.remove(watcher)
        if watcher is self._active:
            self._active = None
            for other in self.watchers:
                if other.writes:
                    self._activate(other)
                    break
        self._moved.set()
        self._tell_viewers()

    def _tell_viewers(self) -> None:
        for watcher in self.watchers:
            watcher.tell_viewers()

    def missing(self) -> ViewClosedError:
        """Return what to say to a viewer of a terminal that is gone."""
        return ViewClosedError(CLOSE_MISSING, self.closed)


async def _first(*doing: Callable[[], Coroutine[object, object, None]]) -> None:
    """Do all until the first raises `ViewClosedError` or returns."""
    closed: list[ViewClosedError] = []
    async with asyncio.TaskGroup() as group:

        async def watched(one: Callable[[], Coroutine[object, object, None]]) -> None:
            try:
                await one()
            except ViewClosedError as error:
                closed.append(error)
            for task in tasks:
                if task is not asyncio.current_task():
                    task.cancel()

        tasks = [group.create_task(watched(one)) for one in doing]
    if closed:
        raise closed[0]
