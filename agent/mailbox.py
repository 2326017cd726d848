"""The mailbox of one agent session: a FIFO in, an append-only journal out, in one directory.

The coding agent reads `in.fifo` and writes `out.jsonl`; nobody holds a pipe to it, so whoever
looks may die and come back. The directory belongs to the workspace's user, who is not trusted:
nothing in it is opened through a symbolic link, and everything is checked for what it is.
"""

import asyncio
import errno
import os
import stat
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from agent import disk
from agent.errors import NodeError

FIFO, JOURNAL, ERRORS, PID, EXIT = "in.fifo", "out.jsonl", "err.log", "pid", "exit"
READ_BYTES = 1 << 20
LINE_BYTES_MAX = 64 << 20
"""A prompt of 8 MB comes back as one line; eight times that is somebody filling the disk."""
JOURNAL_BYTES_MAX = 1 << 30
"""It is archived at a sixteenth of that, unless nobody was there to do it for half a day."""
SMALL_BYTES_MAX = 64 << 10
RESERVE_BYTES = 4 << 20
"""Some dozen turns of a coding agent."""
FULL_WAIT_S = 0.005
WRITE_S_MAX = 60.0
"""A process that reads nothing for a minute will not read."""


class GoneError(Exception):
    """Nobody reads the FIFO: the coding agent is dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the journal.

    Attributes:
        start: Its first byte in this generation.
        end: The byte after its newline.
        text: Without the newline; empty for a piece of a line longer than `LINE_BYTES_MAX`.
    """

    start: int
    end: int
    text: bytes


def open_below(root: Path, *parts: str, flags: int, mode: int = 0o600) -> int:
    """Open a file below `root` and follow no symbolic link on the way."""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            above = folder
            folder = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
            os.close(above)
        wanted = flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        return os.open(parts[-1], wanted, mode, dir_fd=folder)
    finally:
        os.close(folder)


def make_below(root: Path, *parts: str, uid: int, gid: int) -> None:
    """Make a directory below `root`, each part owned by the user and closed to others."""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts:
            with suppress(FileExistsError):
                os.mkdir(part, 0o700, dir_fd=folder)
            above = folder
            folder = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
            os.close(above)
            if os.fstat(folder).st_uid != uid:
                os.fchown(folder, uid, gid)
    finally:
        os.close(folder)


class Mailbox:
    """The node agent's side of one session's directory, `{run_dir}/s/{session}`."""

    def __init__(self, run_dir: Path, session: str, *, uid: int, gid: int) -> None:
        self._root = run_dir
        self._parts = ("s", session)
        self._owner = (uid, gid)
        self._writer = asyncio.Lock()
        self._reserved = 0

    def prepare(self) -> None:
        """Make the directory, the FIFO and the journal; what is there stays.

        Raises:
            NodeError: `mailbox_invalid`: something else lies where they should be.
        """
        uid, gid = self._owner
        try:
            make_below(self._root, *self._parts, uid=uid, gid=gid)
            folder = self._open("", os.O_RDONLY | os.O_DIRECTORY)
            try:
                with suppress(FileExistsError):
                    os.mkfifo(FIFO, 0o600, dir_fd=folder)
                    os.chown(FIFO, uid, gid, dir_fd=folder, follow_symlinks=False)
            finally:
                os.close(folder)
            journal = self._open(JOURNAL, os.O_RDWR | os.O_APPEND | os.O_CREAT)
            with os.fdopen(journal, "rb+") as file:
                size = _expect_journal(file, JOURNAL)
                os.fchown(file.fileno(), uid, gid)
            self.keep_room(size)
        except OSError as error:
            if disk.is_full(error):
                raise disk.full(self._root) from error
            raise NodeError(
                "mailbox_invalid",
                f"The session's folder cannot be used ({error}); restart the workspace.",
            ) from error

    def _open(self, name: str, flags: int) -> int:
        parts = (*self._parts, name) if name else self._parts
        return open_below(self._root, *parts, flags=flags)

    def is_there(self) -> bool:
        """Return whether the session has a journal."""
        try:
            os.close(self._open(JOURNAL, os.O_RDONLY))
        except FileNotFoundError:
            return False
        except OSError:
            return True  # Something that is none; `prepare` says so.
        return True

    # Out: what the coding agent wrote.

    def size(self) -> int:
        """Return how many bytes the journal has now."""
        file = self._open(JOURNAL, os.O_RDONLY)
        try:
            return os.fstat(file).st_size
        finally:
            os.close(file)

    def keep_room(self, size: int) -> None:
        """Keep room for what the coding agent will write to the journal, which has `size` bytes.

        It does not survive output that cannot be written (measured): it says nothing any more.
        """
        if size + RESERVE_BYTES // 2 <= self._reserved:
            return
        self._reserved = size + RESERVE_BYTES
        file = self._open(JOURNAL, os.O_RDWR)
        try:
            disk.reserve(file, self._reserved)
        finally:
            os.close(file)

    def lines(self, offset: int, *, generation: int | None = None) -> Generator[Line]:
        """Yield the whole lines from `offset` on; an unfinished last line is left for later.

        Raises:
            NodeError: `journal_damaged`: the journal is shorter than what was read of it, or
                larger than `JOURNAL_BYTES_MAX`.
        """
        name = JOURNAL if generation is None else archive(generation)
        with os.fdopen(self._open(name, os.O_RDONLY), "rb") as file:
            if _expect_journal(file, name) < offset:
                raise NodeError(
                    "journal_damaged",
                    "The session's journal lost its beginning; reply to start a new session.",
                )
            file.seek(offset)
            yield from whole_lines(file, offset)

    def append(self, line: bytes) -> None:
        """Write a line of our own, on a line of its own. Only while no coding agent writes."""
        with os.fdopen(self._open(JOURNAL, os.O_RDWR | os.O_APPEND), "rb+") as file:
            size = _expect(file.fileno(), stat.S_ISREG, JOURNAL).st_size
            cut = bool(size) and os.pread(file.fileno(), 1, size - 1) != b"\n"
            file.write((b"\n" if cut else b"") + line + b"\n")

    def small(self, name: str) -> str | None:
        """Return the end of a small file (`pid`, `exit`, `err.log`), None if there is none."""
        try:
            file = self._open(name, os.O_RDONLY)
        except OSError:
            return None
        try:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                return None
            start = max(0, status.st_size - SMALL_BYTES_MAX)
            return os.pread(file, SMALL_BYTES_MAX, start).decode(errors="replace")
        finally:
            os.close(file)

    def pid(self) -> int | None:
        """Return the process id as the process itself sees it, None before it was started."""
        text = (self.small(PID) or "").strip()
        return int(text) if text.isascii() and text.isdigit() and int(text) > 1 else None

    def exit_code(self) -> int | None:
        """Return the exit status that the launching shell wrote, None while there is none."""
        text = (self.small(EXIT) or "").strip()
        return int(text) if text.isascii() and text.isdigit() else None

    def has_reader(self) -> bool:
        """Return whether a process has the FIFO open: the cheapest sign of life."""
        try:
            os.close(self._open_fifo())
        except GoneError:
            return False
        return True

    # In: what we say to the coding agent.

    def _open_fifo(self) -> int:
        try:
            fifo = self._open(FIFO, os.O_WRONLY)
        except OSError as error:
            if error.errno in {errno.ENXIO, errno.ENOENT}:
                raise GoneError from error
            raise NodeError(
                "mailbox_invalid",
                f"The session's pipe on the node cannot be used ({error}); restart the workspace.",
            ) from error
        try:
            _expect(fifo, stat.S_ISFIFO, FIFO)
        except NodeError:
            os.close(fifo)
            raise
        return fifo

    async def write(self, line: bytes) -> None:
        """Write one line, whole, after whatever is being written.

        A malformed line ends the coding agent, so nothing may come between its parts: a write
        that was begun is finished even if the caller is cancelled.

        Raises:
            GoneError: Nobody reads; what was not read yet is lost with the reader.
            NodeError: `agent_stuck`: nothing was read for a minute.
        """
        async with self._writer:
            fifo = self._open_fifo()
            try:
                await _write_whole(fifo, line + b"\n")
            finally:
                os.close(fifo)

    # Rotation: copy, then truncate. Only while the coding agent is stopped or dead.

    def base(self, generation: int) -> int:
        """Return the bytes of all generations before this one."""
        return sum(self._archived(number) or 0 for number in range(generation))

    def _archived(self, generation: int) -> int | None:
        try:
            file = self._open(archive(generation), os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            return os.fstat(file).st_size
        finally:
            os.close(file)

    def rotate(self, generation: int) -> None:
        """Move the journal's text to the archive of `generation` and empty the journal.

        Repeated after a kill at any point, it ends in the same state.
        """
        whole = self.size()
        if self._archived(generation) is None and whole:
            self._copy(archive(generation))
        with os.fdopen(self._open(JOURNAL, os.O_RDWR | os.O_APPEND), "rb+") as file:
            os.ftruncate(file.fileno(), 0)
        self._reserved = 0
        self.keep_room(0)

    def rotation_was_cut(self, generation: int) -> bool:
        """Return whether a kill came between the archive and the cursor's move past it."""
        return self._archived(generation) is not None

    def _copy(self, name: str) -> None:
        folder = self._open("", os.O_RDONLY | os.O_DIRECTORY)
        part = f"{name}.part"
        try:
            with suppress(FileNotFoundError):
                os.unlink(part, dir_fd=folder)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with (
                os.fdopen(self._open(JOURNAL, os.O_RDONLY), "rb") as source,
                os.fdopen(self._open(part, flags), "wb") as target,
            ):
                while chunk := source.read(READ_BYTES):
                    target.write(chunk)
                target.flush()
                os.fsync(target.fileno())
            os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
        finally:
            os.close(folder)

    def remove_marks(self) -> None:
        """Forget `pid` and `exit` of the last process, before the next one is started."""
        folder = self._open("", os.O_RDONLY | os.O_DIRECTORY)
        try:
            for name in (PID, EXIT):
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=folder)
        finally:
            os.close(folder)


def archive(generation: int) -> str:
    """Return the name of a generation that is over."""
    return f"out.{generation}.jsonl"


def _expect(file: int, kind: Callable[[int], bool], name: str) -> os.stat_result:
    status = os.fstat(file)
    if not kind(status.st_mode):
        raise NodeError(
            "mailbox_invalid",
            f"{name} in the session's folder was replaced; restart the workspace.",
        )
    return status


def _expect_journal(file: BinaryIO, name: str) -> int:
    """Return the size of a journal that may be read, which its user can make as they like."""
    size = _expect(file.fileno(), stat.S_ISREG, name).st_size
    if size > JOURNAL_BYTES_MAX:
        raise NodeError(
            "journal_damaged",
            f"The session's journal has {size >> 20} MiB, more than any coding agent writes; "
            "reply to start a new session.",
        )
    return size


async def _write_whole(fifo: int, data: bytes) -> None:
    rest, waited_s, cancelled = memoryview(data), 0.0, False
    while rest:
        try:
            rest, waited_s = rest[os.write(fifo, rest[:65536]) :], 0.0
        except BlockingIOError:
            if waited_s >= WRITE_S_MAX:
                raise NodeError(
                    "agent_stuck", "The coding agent takes no words; stop it, then reply to go on."
                ) from None
            try:
                await asyncio.sleep(FULL_WAIT_S)
            except asyncio.CancelledError:
                cancelled = True  # Half a line would end the coding agent: finish it first.
            waited_s += FULL_WAIT_S
        except BrokenPipeError as error:
            raise GoneError from error
    if cancelled:
        raise asyncio.CancelledError


def whole_lines(file: BinaryIO, offset: int) -> Generator[Line]:
    """Yield the whole lines of a file that stands at `offset`.

    Of a line that is too long its pieces are passed over as they come: nobody reads it from its
    beginning again and again while it grows.
    """
    start, length, kept = offset, 0, bytearray()
    while chunk := file.read(READ_BYTES):
        at = 0
        while (end := chunk.find(b"\n", at) + 1) > 0:
            length += end - at
            yield Line(start=start, end=start + length, text=bytes(kept) + chunk[at : end - 1])
            start, length, at = start + length, 0, end
            kept.clear()
        length += len(chunk) - at
        kept += chunk[at:]
        if length > LINE_BYTES_MAX:
            yield Line(start=start, end=start + length, text=b"")
            start, length = start + length, 0
            kept.clear()
