"""A terminal that is a PTY on this machine and speaks `core.viewing` in the simplest way.

What it keeps is raw, so a `Paint` is all that the shell wrote so far.
"""

import asyncio
import fcntl
import os
import signal
import struct
import termios
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress

from core.viewing import (
    CLOSE_AWAY,
    CLOSE_MISSING,
    OUTPUT_BYTES_MAX,
    Beat,
    Exited,
    Fit,
    Frame,
    FromTerminal,
    Input,
    Look,
    Output,
    Paint,
    Resized,
    Seen,
    Size,
    ViewClosedError,
    Viewer,
    Viewers,
    decode,
    encode,
)

KEPT_BYTES = 1024 * 1024
WINDOW_BYTES = 256 * 1024
READ_BYTES = 65536
SHELL = ("bash", "--norc", "--noprofile", "-i")
ENV = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8", "PS1": "$ "}


class FakeTerminal:
    """One PTY and who looks at it.

    Attributes:
        typed: All bytes that viewers typed.
        fits: Sizes that viewers asked for.
        beats: How many were heard.
        is_silent: Answers none of them.
    """

    def __init__(self, command: Sequence[str] = SHELL, env: Mapping[str, str] | None = None):
        self.command = command
        self.env = {**ENV, **(env or {})}
        self.size = Size(80, 24)
        self.kept = bytearray()
        self.end = 0
        self.views: list[FakeView] = []
        self.active: FakeView | None = None
        self.typed = bytearray()
        self.fits: list[Size] = []
        self.beats = 0
        self.is_silent = False
        self.exit_code: int | None = None
        self.has_ended = False
        self._unwritten = bytearray()
        self._reads = False
        self._master = -1
        self._process: asyncio.subprocess.Process | None = None

    @property
    def start(self) -> int:
        return self.end - len(self.kept)

    async def open(self) -> None:
        self._master, slave = os.openpty()
        os.set_blocking(self._master, False)
        self._resize(self.size)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *("setsid", "--ctty", *self.command),
                stdin=slave,
                stdout=slave,
                stderr=slave,
                env={"PATH": os.environ["PATH"], "HOME": "/tmp", **self.env},
                cwd="/tmp",
            )
        finally:
            os.close(slave)
        if self._master < 0:  # Closed while its shell started.
            self._process.kill()
            await self._process.wait()
        self._read_or_not()

    async def close(self) -> None:
        """Let all who look go; end the shell and what it started."""
        self.cut(CLOSE_MISSING, "This terminal was closed.")
        if self._process is not None and self._process.returncode is None:
            for number in (signal.SIGHUP, signal.SIGKILL):
                try:
                    os.killpg(self._process.pid, number)
                except ProcessLookupError:  # It has not made its group yet, or is over.
                    with suppress(ProcessLookupError):
                        self._process.kill()
            await self._process.wait()
        if self._master >= 0:
            self._ignore()
            os.close(self._master)
            self._master = -1

    def cut(self, code: int = CLOSE_AWAY, reason: str = "The node cannot be reached.") -> None:
        """Cut off everybody who looks."""
        for view in list(self.views):
            view.end(code, reason)

    def look(self, name: str, *, writes: bool) -> "FakeView":
        return FakeView(self, name, writes=writes)

    def screen(self) -> str:
        """All that was written, as text."""
        return self.kept.decode(errors="replace")

    # What views call

    def joined(self, view: "FakeView", look: Look) -> None:
        if view.writes:
            self._activate(view, look.size)
        self.views.append(view)
        view.tell(Resized(self.size))
        if look.seen is None or not self.start <= look.seen <= self.end:
            view.sent = view.seen = self.end
            view.tell(Paint(self.end, self.size, bytes(self.kept)))
        else:
            view.sent = view.seen = look.seen
        self.tell_viewers()

    def left(self, view: "FakeView") -> None:
        if view in self.views:
            self.views.remove(view)
        if self.active is view:
            self.active = None
        self.tell_viewers()
        self._read_or_not()

    def took(self, view: "FakeView", frame: Frame) -> None:
        match frame:
            case Input(data) if view.writes:
                self._activate(view, view.size)
                self.typed += data
                self._unwritten += data
                self._write()
            case Fit(size):
                self.fits.append(size)
                view.size = size
                if view.writes:
                    self._activate(view, size)
            case Seen(offset):
                view.seen = max(view.seen, offset)
                view.bell.set()
                self._read_or_not()
            case Beat():
                self.beats += 1
                if not self.is_silent:
                    view.tell(Beat())
            case _:
                pass

    def tell_viewers(self) -> None:
        rows = tuple(
            Viewer(name=view.name, writes=view.writes, is_active=view is self.active)
            for view in self.views
        )
        for view in self.views:
            view.tell(Viewers(rows))

    def _activate(self, view: "FakeView", size: Size | None) -> None:
        if size is not None and size != self.size:
            self._resize(size)
            for other in self.views:
                other.tell(Resized(size))
        if self.active is not view:
            self.active = view
            if view in self.views:
                self.tell_viewers()

    def _resize(self, size: Size) -> None:
        self.size = size
        if self._master >= 0 and not self.has_ended:
            packed = struct.pack("HHHH", size.rows, size.columns, 0, 0)
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, packed)

    # The PTY

    def _read_or_not(self) -> None:
        """Read while those who look keep up."""
        if self._master < 0 or self.has_ended:
            return
        wants = all(self.end - view.seen < WINDOW_BYTES for view in self.views)
        loop = asyncio.get_running_loop()
        if wants and not self._reads:
            loop.add_reader(self._master, self._readable)
        elif not wants and self._reads:
            loop.remove_reader(self._master)
        self._reads = wants

    def _ignore(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._master)
        loop.remove_writer(self._master)

    def _readable(self) -> None:
        try:
            data = os.read(self._master, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._ignore()
            self.has_ended = True
            asyncio.get_running_loop().create_task(self._reap())
            return
        self.kept += data
        self.end += len(data)
        del self.kept[:-KEPT_BYTES]
        for view in self.views:
            view.bell.set()
        self._read_or_not()

    async def _reap(self) -> None:
        assert self._process is not None
        self.exit_code = await self._process.wait()
        for view in self.views:
            view.bell.set()

    def _write(self) -> None:
        if self._master < 0:
            return
        loop = asyncio.get_running_loop()
        try:
            count = os.write(self._master, self._unwritten)
        except BlockingIOError:
            count = 0
        except OSError:
            self._unwritten.clear()
            return
        del self._unwritten[:count]
        if self._unwritten:
            loop.add_writer(self._master, self._write)
        else:
            loop.remove_writer(self._master)


class FakeView:
    """One viewer's end of a terminal, as the control plane holds it."""

    def __init__(self, terminal: FakeTerminal, name: str, *, writes: bool) -> None:
        self.terminal = terminal
        self.name = name
        self.writes = writes
        self.size: Size | None = None
        self.has_looked = False
        self.sent = self.seen = 0
        self.bell = asyncio.Event()
        self._news: deque[FromTerminal] = deque()
        self._over: ViewClosedError | None = None
        self._said_exit = False

    def tell(self, frame: FromTerminal) -> None:
        self._news.append(frame)
        self.bell.set()

    def end(self, code: int, reason: str) -> None:
        self._over = ViewClosedError(code, reason)
        self.bell.set()
        self.terminal.left(self)

    async def send(self, message: bytes) -> None:
        if self._over:
            raise self._over
        frame = decode(message)
        if isinstance(frame, Look):
            self.has_looked, self.size = True, frame.size
            self.terminal.joined(self, frame)
        else:
            self.terminal.took(self, frame)

    async def receive(self) -> bytes:
        while True:
            if self._over:
                raise self._over
            frame = self._next()
            if frame is not None:
                return encode(frame)
            self.bell.clear()
            await self.bell.wait()

    def _next(self) -> FromTerminal | None:
        if self._news:
            return self._news.popleft()
        if not self.has_looked:
            return None
        terminal = self.terminal
        if self.sent < terminal.start:
            self.sent = self.seen = terminal.end
            return Paint(terminal.end, terminal.size, bytes(terminal.kept))
        room = min(OUTPUT_BYTES_MAX, self.seen + WINDOW_BYTES - self.sent)
        first = self.sent - terminal.start
        data = bytes(terminal.kept[first : first + max(0, room)])
        if data:
            self.sent += len(data)
            return Output(self.sent - len(data), data)
        is_over = terminal.has_ended and terminal.exit_code is not None
        if is_over and self.sent == terminal.end and not self._said_exit:
            self._said_exit = True
            return Exited(terminal.exit_code)
        return None

    async def close(self, code: int, reason: str) -> None:
        if not self._over:
            self.end(code, reason)
