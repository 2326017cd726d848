"""`samovar attach`: a terminal of a workspace in one's own terminal."""

import asyncio
import os
import signal
import sys
import termios
import tty
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

from bot.client import Client, ServerError
from bot.drawn import Drawn
from core.errors import NotFoundError, OutsideError, UserError
from core.viewing import (
    BEAT_S,
    CLOSE_MISSING,
    CLOSE_SILENT,
    CLOSE_UNREADABLE,
    COLUMNS_MAX,
    INPUT_BYTES_MAX,
    ROWS_MAX,
    Beat,
    Exited,
    Fit,
    Input,
    Look,
    Output,
    Paint,
    Size,
    View,
    ViewClosedError,
    ViewError,
    decode,
    encode,
)

LET_GO = 0x1D
"""Ctrl-], as telnet has it."""
HOW = "Ctrl-] twice lets go of it; it goes on."
RETRY_S_MIN, RETRY_S_MAX = 0.2, 5.0
NOTICE_S = 1.0
"""An interruption that is shorter than this is not worth a line on the screen."""
WRITE_BYTES = 64 * 1024
_MOUSE = "".join(f"\x1b[?{mode}l" for mode in (1000, 1002, 1003, 1004, 1005, 1006, 1015, 2004))
PLAIN = f"\x1b[?1049l\x1b[!p{_MOUSE}\x1b[?25h\x1b[0m".encode()
"""Leave the alternate screen, forget modes and colours, show the cursor."""
CLEAN = PLAIN + b"\x1b[H\x1b[2J"


async def chosen(
    client: Client, workspace: str, *, terminal: str | None, new: bool
) -> Mapping[str, Any]:
    """Return the terminal that is meant: a named one, a new one, or the first that is open.

    Args:
        client: The way to the server.
        workspace: Where it is.
        terminal: Id or title of a tab.
        new: Open another shell in any case.

    Raises:
        UserError: There is none, and the sentence says which there are.
    """
    if not new:
        tabs = (await client.get("workspaces", workspace, "terminals"))["terminals"]
        if terminal is not None:
            return _named(tabs, terminal)
        for tab in tabs:
            if tab["state"] in {"opening", "open"}:
                found: Mapping[str, Any] = tab
                return found
    return await client.post("workspaces", workspace, "terminals", body={})


def _named(tabs: list[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    for tab in tabs:
        if name in {tab["id"], tab["title"]}:
            return tab
    there = ", ".join(f"{tab['id']} ({tab['title']})" for tab in tabs) or "none; try --new"
    raise NotFoundError(f"There is no terminal {name}. There is: {there}.")


async def attach(client: Client, terminal: Mapping[str, Any], *, read_only: bool) -> int:
    """Show a terminal here until it ends or is let go of; return the exit status.

    Raises:
        UserError: This is no terminal, or there is no such terminal any more.
        OutsideError: Nobody answers, at the beginning. Later it is waited for.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UserError("samovar attach needs a terminal: its input or output is none.")
    how = "Read only. " if read_only else ""
    say(f"{terminal['title']} ({terminal['id']}). {how}{HOW}")
    shown = _Attached(client, str(terminal["id"]), read_only=read_only)
    with _raw(sys.stdin.fileno()):
        return await shown.until_over()


def say(text: str) -> None:
    """Say something beside what the shell says; the line feeds are for a raw terminal."""
    sys.stderr.write(f"samovar: {text}\r\n")
    sys.stderr.flush()


@contextmanager
def _raw(fd: int) -> Iterator[None]:
    """Pass every key on as it is; afterwards the terminal is as it was, whatever happens."""
    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd)
        yield
    finally:
        with suppress(OSError):
            os.write(sys.stdout.fileno(), PLAIN + b"\r\n")
        with suppress(termios.error):
            termios.tcsetattr(fd, termios.TCSADRAIN, before)


class Keys:
    """What is typed, but for the two keys in a row that let go."""

    def __init__(self) -> None:
        self._held = False

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Return what the shell gets of `data`, and whether to let go. One of the two waits."""
        passed = bytearray()
        for key in data:
            if key == LET_GO and self._held:
                return bytes(passed), True
            if self._held:
                passed.append(LET_GO)
            self._held = key == LET_GO
            if not self._held:
                passed.append(key)
        return bytes(passed), False


class _Attached:
    """One terminal on this screen, over as many connections as it takes."""

    def __init__(self, client: Client, terminal: str, *, read_only: bool) -> None:
        self._client = client
        self._terminal = terminal
        self._read_only = read_only
        self._keys = Keys()
        self._typed = bytearray()
        self._has_typed = asyncio.Event()
        self._has_resized = asyncio.Event()
        self._seen: int | None = None
        self._heard_s = 0.0
        self._is_up = False
        self._lost_s: float | None = None
        self._is_told = False
        self._over: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def until_over(self) -> int:
        with self._signals():
            async with asyncio.TaskGroup() as group:
                staying = group.create_task(self._stay())
                await asyncio.wait((staying, self._over), return_when=asyncio.FIRST_COMPLETED)
                staying.cancel()
        return self._over.result() if self._over.done() else staying.result()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGWINCH, self._has_resized.set)
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._end, 128 + number)
        self._listen()
        try:
            yield
        finally:
            loop.remove_reader(sys.stdin.fileno())
            for number in (signal.SIGWINCH, signal.SIGTERM, signal.SIGHUP):
                loop.remove_signal_handler(number)

    def _end(self, status: int) -> None:
        if not self._over.done():
            self._over.set_result(status)

    # Keys

    def _listen(self) -> None:
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), self._read)

    def _read(self) -> None:
        data = os.read(sys.stdin.fileno(), INPUT_BYTES_MAX)
        passed, lets_go = self._keys.feed(data)
        if lets_go or not data:
            self._end(0)
        if self._is_up and not self._read_only and passed:
            self._typed += passed
            self._has_typed.set()
            if len(self._typed) >= INPUT_BYTES_MAX:  # The shell reads slowly: so do we.
                asyncio.get_running_loop().remove_reader(sys.stdin.fileno())

    async def _type(self, view: View) -> None:
        while True:
            await self._has_typed.wait()
            data = bytes(self._typed[:INPUT_BYTES_MAX])
            await view.send(encode(Input(data)))
            del self._typed[: len(data)]
            if not self._typed:
                self._has_typed.clear()
                self._listen()

    # Connections

    async def _stay(self) -> int:
        """Look at it, again after each interruption; return the exit status once it has ended."""
        wait_s = RETRY_S_MIN
        while True:
            try:
                async with self._looking() as (view, drawn):
                    return _status(await self._draw(view, drawn))
            except ViewClosedError as closed:
                _judge(closed, is_first=self._seen is None)
            except OutsideError:
                if self._seen is None:
                    raise
            if self._lost_s is None:
                wait_s = RETRY_S_MIN
            self._note_lost()
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, RETRY_S_MAX)

    @asynccontextmanager
    async def _looking(self) -> AsyncGenerator[tuple[View, Drawn]]:
        """Open a view and serve its other tasks for the length of a `with` block."""
        try:
            async with (
                self._client.view(self._terminal, read_only=self._read_only) as view,
                asyncio.TaskGroup() as group,
            ):
                await view.send(encode(Look(_size(), self._seen)))
                self._heard_s = _now_s()
                drawn = Drawn(view, self._seen)
                tasks = [
                    group.create_task(work)
                    for work in (self._type(view), self._fit(view), self._beat(view), drawn.tell())
                ]
                yield view, drawn
                for task in tasks:
                    task.cancel()
        except BaseExceptionGroup as errors:
            raise _first(errors) from None
        finally:
            self._is_up = False
            self._typed.clear()
            self._has_typed.clear()
            self._listen()

    async def _draw(self, view: View, drawn: Drawn) -> int | None:
        while True:
            frame = decode(await view.receive())
            self._heard_s = _now_s()
            self._note_up()
            match frame:
                case Paint(offset, _, data):
                    await _write(CLEAN + data)
                    await self._drew(drawn, offset)
                case Output(offset, data):
                    await _write(data)
                    await self._drew(drawn, offset + len(data))
                case Exited(code):
                    return code
                case _:
                    pass

    async def _drew(self, drawn: Drawn, offset: int) -> None:
        self._seen = offset
        await drawn.up_to(offset)

    async def _fit(self, view: View) -> None:
        while True:
            await self._has_resized.wait()
            self._has_resized.clear()
            if not self._read_only:
                await view.send(encode(Fit(_size())))

    async def _beat(self, view: View) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            if _now_s() - self._heard_s > 2 * BEAT_S:
                await view.close(CLOSE_SILENT, "nothing was heard")
                raise ViewClosedError(CLOSE_SILENT)
            await view.send(encode(Beat()))

    def _note_lost(self) -> None:
        if self._lost_s is None:
            self._lost_s = _now_s()
        elif not self._is_told and _now_s() - self._lost_s >= NOTICE_S:
            self._is_told = True
            sys.stderr.write("\r\n")
            say("The connection is lost; what you type goes nowhere. Waiting for it. " + HOW)

    def _note_up(self) -> None:
        if self._is_told:
            say("It is back.")
        self._is_up, self._lost_s, self._is_told = True, None, False


def _status(code: int | None) -> int:
    """Return the exit status for a shell's end, as shells have it: 128 plus a signal's number."""
    if code is None:
        say("It has ended, and nobody knows how.")
        return 1
    return code if code >= 0 else 128 - code


def _judge(closed: ViewClosedError, *, is_first: bool) -> None:
    """Return if dialling again may help.

    Raises:
        NotFoundError: There is no such terminal, or it was closed.
        ServerError: It does not work, from the beginning.
    """
    if closed.code == CLOSE_MISSING:
        raise NotFoundError(closed.reason or "The terminal is gone.")
    if closed.code == CLOSE_UNREADABLE or (is_first and closed.code != CLOSE_SILENT):
        raise ServerError(closed.reason or f"The connection ended ({closed.code}). Try again.")


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, ViewError):
        return ServerError(f"Samovar is of another version than this program: {error}")
    return error


def _size() -> Size:
    found = os.get_terminal_size(sys.stdout.fileno())
    columns, rows = max(1, found.columns), max(1, found.lines)
    return Size(min(columns, COLUMNS_MAX), min(rows, ROWS_MAX))


def _now_s() -> float:
    return asyncio.get_running_loop().time()


async def _write(data: bytes) -> None:
    """Write to the screen, in a thread: a screen that was stopped must not stop the beats."""
    await asyncio.to_thread(_write_all, data)


def _write_all(data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(sys.stdout.fileno(), rest[:WRITE_BYTES]) :]
