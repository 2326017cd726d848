"""PTYs that outlive the node agent: `agent/terminal/holder.py` holds them inside the container.

We reach it through a socket in the run directory. That belongs to the workspace's user, who is not
trusted: whatever answers there may lie, and then harms its own terminal alone.
"""

import asyncio
import hashlib
import os
import socket
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.errors import NodeError
from agent.mailbox import open_below
from agent.terminal.holder import FRAME_BYTES, GRACE_S, HEAD
from agent.terminal.line import Shell
from core.viewing import Size

FOLDER = "t"
"""Below the run directory; the user's own."""
SENTENCE_BYTES_MAX = 500
ANSWER_S_MAX = 10.0
RECEIVE_BYTES = 2 * FRAME_BYTES
STEPS_MAX = 16
"""So often in a row there may be something to go on with before others get their turn."""
OFFSET_MAX = 1 << 62


class AwayError(Exception):
    """Nobody listens there."""


class LyingError(Exception):
    """What came is not what a holder says."""


class SaidNoError(Exception):
    """The holder said no; the text says why, in its words."""


@dataclass(frozen=True, slots=True)
class Door:
    """Where the holder of one container and user listens.

    Attributes:
        run_dir: Host side of `/run/samovar`.
        name: Of the socket.
    """

    run_dir: Path
    name: str

    @classmethod
    def of(cls, shell: Shell) -> "Door":
        """Return the door of a shell's container and user."""
        which = hashlib.sha256(f"{shell.container} {shell.user}".encode()).hexdigest()
        return cls(shell.run_dir, f"{which[:16]}.sock")

    def knock(self) -> socket.socket:
        """Connect; a Unix socket does so at once or not at all.

        Raises:
            AwayError: Nobody listens, or it is something else than a socket.
        """
        knocking = socket.socket(socket.AF_UNIX)
        knocking.setblocking(False)
        try:
            file = open_below(self.run_dir, FOLDER, self.name, flags=os.O_PATH)
            try:
                if not stat.S_ISSOCK(os.fstat(file).st_mode):
                    raise AwayError(f"{self.name} is no socket")
                # By what was opened: neither a long path nor a link put there since matters.
                knocking.connect(f"/proc/self/fd/{file}")
            finally:
                os.close(file)
        except OSError as error:
            knocking.close()
            raise AwayError(str(error)) from error
        except AwayError:
            knocking.close()
            raise
        return knocking


class _Connection:
    """A connection to a holder. One frame is read, and one piece sent, at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._heard = bytearray()
        self._hearing: asyncio.Future[None] | None = None
        self._saying: asyncio.Future[None] | None = None
        self._steps = 0
        self._is_over = self._is_closed = False
        self._is_reading = False

    async def frame(self, bytes_max: int = FRAME_BYTES) -> tuple[bytes, int, bytes] | None:
        """Return tag, number and body of the next frame; None at the end. Cancelled, it loses none.

        Raises:
            LyingError: It is too long.
        """
        await self._step()
        while True:
            if len(self._heard) >= HEAD.size:
                tag, number, size = HEAD.unpack_from(self._heard)
                if size > bytes_max:
                    raise LyingError(f"a frame of {size} bytes")
                end = HEAD.size + size
                if len(self._heard) >= end:
                    body = bytes(memoryview(self._heard)[HEAD.size : end])
                    del self._heard[:end]
                    return tag, number, body
            if self._is_over or self._is_closed:
                return None
            self._resume()
            self._steps = 0
            self._hearing = self._loop.create_future()
            await self._hearing

    async def _step(self) -> None:
        """Leave others their turn now and then: a holder may never be short of small frames."""
        self._steps += 1
        if self._steps >= STEPS_MAX:
            self._steps = 0
            await asyncio.sleep(0)

    def _resume(self) -> None:
        """Have what comes heard, until it is more than somebody takes."""
        if not self._is_reading:
            self._is_reading = True
            self._loop.add_reader(self._sock.fileno(), self._hear)

    def _hear(self) -> None:
        if len(self._heard) >= RECEIVE_BYTES:
            self._pause()
            return
        try:
            data = self._sock.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._heard += data
        if not data:
            self._is_over = True
            self._pause()
        _wake(self._hearing)

    def _pause(self) -> None:
        self._is_reading = False
        self._loop.remove_reader(self._sock.fileno())

    async def send(self, data: bytes) -> None:
        """Send all; what nobody will read any more is dropped."""
        rest = memoryview(data)
        while rest and not self._is_closed:
            try:
                rest = rest[self._sock.send(rest) :]
            except BlockingIOError:
                await self._has_room()
            except OSError:
                return

    async def _has_room(self) -> None:
        self._saying = self._loop.create_future()
        self._loop.add_writer(self._sock.fileno(), _wake, self._saying)
        try:
            await self._saying
        finally:
            if not self._is_closed:
                self._loop.remove_writer(self._sock.fileno())

    def close(self) -> None:
        """Close it; who waits goes on and finds the end."""
        if self._is_closed:
            return
        self._is_closed = True
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        _wake(self._hearing)
        _wake(self._saying)


def _wake(waiting: "asyncio.Future[None] | None") -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)


async def _ask(
    door: Door, tag: bytes, number: int, *fields: str, later_s: float = 0.0
) -> tuple[_Connection, int]:
    """Say a request and return the connection, and the number that came back.

    Raises:
        AwayError: Nobody listens.
        LyingError: The answer is none, or does not come.
        SaidNoError: It cannot be.
    """
    body = b"\0".join(os.fsencode(field) for field in fields)
    connection = _Connection(door.knock())
    try:
        async with asyncio.timeout(ANSWER_S_MAX + later_s):
            await connection.send(HEAD.pack(tag, number, len(body)) + body)
            answer = await connection.frame(SENTENCE_BYTES_MAX)
    except TimeoutError as error:
        connection.close()
        raise LyingError(f"no answer within {ANSWER_S_MAX + later_s:.0f} s") from error
    except BaseException:
        connection.close()
        raise
    match answer:
        case (b"A", number, _) if 0 <= number <= OFFSET_MAX:
            return connection, number
        case (b"N", _, sentence):
            connection.close()
            raise SaidNoError(sentence.decode(errors="replace"))
    connection.close()
    raise LyingError("no answer" if answer is None else f"answered {answer[0]!r}")


class HeldLine:
    """A terminal behind a holder; see `Line`."""

    def __init__(self, door: Door, name: str, connection: _Connection, at: int) -> None:
        self._door = door
        self._name = name
        self._connection = connection
        self._at = at
        self._code: int | None = None
        self._is_over = False
        self._has_begun = False
        self._typing = asyncio.Lock()

    @classmethod
    async def open(cls, shell: Shell) -> "HeldLine":
        """Start a shell; one that is there already is gone on with, from its beginning.

        Raises:
            AwayError: Nobody listens.
            NodeError: It cannot be started.
        """
        for value in (shell.folder, *shell.command, *shell.env, *shell.env.values()):
            if "\0" in value:
                raise _failed("its command or environment has a NUL in it")
        words = (str(len(shell.command)), *shell.command)
        pairs = (f"{name}={value}" for name, value in shell.env.items())
        door = Door.of(shell)
        try:
            connection, at = await _ask(
                door, b"O", _packed(shell.size), shell.terminal, shell.folder, *words, *pairs
            )
        except (LyingError, SaidNoError) as error:
            raise _failed(str(error)) from error
        return cls(door, shell.terminal, connection, at)

    @classmethod
    async def find(cls, shell: Shell, *, after: int) -> "HeldLine | None":
        """See `Lines.find`."""
        door = Door.of(shell)
        try:
            connection, at = await _ask(door, b"F", after, shell.terminal)
        except (AwayError, LyingError, SaidNoError):
            return None
        return cls(door, shell.terminal, connection, at)

    async def read(self) -> tuple[int, bytes]:
        """See `Line`."""
        if not self._is_over:
            try:
                match await self._connection.frame():
                    case (b"O", offset, data) if data and self._may_begin_at(offset):
                        self._at, self._has_begun = offset + len(data), True
                        return offset, data
                    case (b"X", code, _) if -255 <= code <= 255:
                        self._code = code
            except LyingError:
                pass
            self._is_over = True
        return self._at, b""

    def _may_begin_at(self, offset: int) -> bool:
        """Whether output goes on there: what nobody read is thrown away only before we look."""
        return offset == self._at or (not self._has_begun and self._at < offset <= OFFSET_MAX)

    async def write(self, data: bytes) -> None:
        """See `Line`."""
        async with self._typing:
            await self._connection.send(data)

    async def resize(self, size: Size) -> None:
        """See `Line`."""
        await self._request(b"S", _packed(size))

    async def exit_code(self) -> int | None:
        """See `Line`."""
        return self._code

    async def hang_up(self) -> None:
        """See `Line`. Returns when the processes are gone."""
        await self._request(b"H", later_s=2 * GRACE_S)

    async def close(self) -> None:
        """See `Line`. What has ended, and was read to its end, is forgotten."""
        self._connection.close()
        if self._code is not None:
            await self._request(b"D")

    async def _request(self, tag: bytes, number: int = 0, later_s: float = 0.0) -> None:
        """Ask for something that does not matter if the terminal is not there any more."""
        with suppress(AwayError, LyingError, SaidNoError):
            connection, _ = await _ask(self._door, tag, number, self._name, later_s=later_s)
            connection.close()


def _packed(size: Size) -> int:
    return size.columns << 16 | size.rows


def _failed(reason: str) -> NodeError:
    return NodeError(
        "terminal_failed",
        f"The terminal could not be opened ({reason}); close some others or restart the workspace.",
    )
