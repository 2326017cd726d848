"""Shells for tests of terminals: real ones of this machine, and such that the test plays."""

import asyncio
import os
import shutil
import signal
import tempfile
from contextlib import suppress
from pathlib import Path

from agent.errors import NodeError
from agent.terminal.held_line import FOLDER
from agent.terminal.line import Line, Shell
from core.viewing import Size
from tests.fakes.terminals import HostLines, holders


class LocalLines(HostLines):
    """Shells of this machine behind the real holder, which outlive a node agent; `end` ends them.

    Lever: `fail_next` is raised by the next `open`. `opened` counts.
    """

    def __init__(self, run_dir: Path | None = None) -> None:
        self.run_dir = run_dir or Path(tempfile.mkdtemp(prefix="samovar-"))
        (self.run_dir / FOLDER).mkdir(exist_ok=True)
        self.fail_next: list[NodeError] = []
        self.opened = 0

    async def open(self, shell: Shell) -> Line:
        if self.fail_next:
            raise self.fail_next.pop(0)
        line = await super().open(shell)
        self.opened += 1
        return line

    def kill_holders(self) -> None:
        """End the holders, and with them all shells."""
        for pid in holders(self.run_dir):
            with suppress(ProcessLookupError):  # A shell to be goes with its holder.
                os.kill(pid, signal.SIGKILL)

    def end(self) -> None:
        self.kill_holders()
        shutil.rmtree(self.run_dir)


LINES = b"0123456789abcde\n" * 2048


class PlayedLine:
    """A line whose shell is the test: it writes as fast as it is read, or as the test says.

    `total` is how much there is to write before the shell ends, None for a shell that waits for
    `say` and `leave`; `wrote` counts what was read. Lever: `going` cleared, it writes nothing.
    """

    def __init__(self, total: int | None = None, *, chunk: bytes = LINES) -> None:
        self.total = total
        self.wrote = 0
        self.typed = b""
        self.sizes: list[Size] = []
        self.code: int | None = 0
        self.is_hung_up = self.is_closed = False
        self.going = asyncio.Event()
        self.going.set()
        self._chunk = chunk
        self._said: asyncio.Queue[bytes] = asyncio.Queue()

    def say(self, data: bytes) -> None:
        self._said.put_nowait(data)

    def leave(self, code: int | None = 0) -> None:
        self.code = code
        self._said.put_nowait(b"")

    async def read(self) -> tuple[int, bytes]:
        await asyncio.sleep(0)
        await self.going.wait()
        if self.total is None:
            data = await self._said.get()
        else:
            data = self._chunk[: max(0, self.total - self.wrote)]
        at = self.wrote
        self.wrote += len(data)
        return at, data

    async def write(self, data: bytes) -> None:
        self.typed += data

    async def resize(self, size: Size) -> None:
        self.sizes.append(size)

    async def exit_code(self) -> int | None:
        return self.code

    async def hang_up(self) -> None:
        self.is_hung_up = True
        self.leave(-1)

    async def close(self) -> None:
        self.is_closed = True


class PlayedLines:
    """Opens the lines that the test has laid out; finds those that are `there`."""

    def __init__(self, *lines: PlayedLine) -> None:
        self.lines = list(lines)
        self.there: dict[str, PlayedLine] = {}

    async def open(self, shell: Shell) -> Line:
        line = self.lines.pop(0)
        self.there[shell.terminal] = line
        line.sizes.append(shell.size)
        return line

    async def find(self, shell: Shell, *, after: int) -> Line | None:
        return self.there.get(shell.terminal)
