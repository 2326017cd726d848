"""A person's own terminal: a real PTY in which a program runs, with what it shows and its state."""

import asyncio
import fcntl
import os
import struct
import termios
import tty
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from tests.fakes.serving import until


class Screen:
    """A PTY and the program in it.

    Attributes:
        shown: All that was written to it.
        before: Its modes before the program began.
    """

    def __init__(self, rows: int = 30, columns: int = 100) -> None:
        self.shown = bytearray()
        self._master, self._slave = os.openpty()
        os.set_blocking(self._master, False)
        self.resize(rows, columns)
        self.before = self.modes()
        self.process: asyncio.subprocess.Process | None = None

    def modes(self) -> list[Any]:
        return termios.tcgetattr(self._slave)

    def resize(self, rows: int, columns: int) -> None:
        packed = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, packed)

    def type(self, keys: bytes) -> None:
        assert os.write(self._master, keys) == len(keys)

    def unread(self) -> bytes:
        """Return what was typed and nobody has read: the shell after the program gets it."""
        tty.setraw(self._slave, termios.TCSANOW)
        os.set_blocking(self._slave, False)
        with suppress(BlockingIOError):
            return os.read(self._slave, 4096)
        return b""

    async def shows(self, text: str, *, within_s: float = 60) -> None:
        try:
            await until(lambda: text.encode() in self.shown, within_s=within_s)
        except AssertionError:
            raise AssertionError(f"{text!r} is not in {bytes(self.shown)!r}") from None

    async def ended(self) -> int:
        assert self.process is not None
        return await self.process.wait()

    async def start(self, *words: str, env: Mapping[str, str]) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *("setsid", "--ctty", *words),
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            env={**os.environ, **env},
        )
        asyncio.get_running_loop().add_reader(self._master, self._read)

    def _read(self) -> None:
        with suppress(BlockingIOError):
            self.shown += os.read(self._master, 65536)

    async def close(self) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()
            asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._slave)
        os.close(self._master)


@asynccontextmanager
async def a_screen() -> AsyncGenerator[Screen]:
    screen = Screen()
    try:
        yield screen
    finally:
        await screen.close()
