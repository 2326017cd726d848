"""What a terminal wrote, by offset, on the node's disk: bounded, and never in the shell's way.

The folder holds segments, `{offset of the first byte}.out`, each with a side file `.marks`: when
bytes came, which size the terminal had, and in which modes it was. A segment begins with the size
and the modes, so that it can be understood by itself when the ones before it are gone.
"""

import json
import os
import re
import struct
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from agent.terminal.modes import Modes
from core.viewing import Size, ViewError

BYTES_MAX = 16 * 2**20
"""What is kept of one terminal."""
SEGMENT_BYTES = 2**20
MARKS_BYTES = 256 * 1024
"""A segment is full when its marks are, too: somebody who types makes more marks than bytes."""
NEWEST_BYTES_MAX = 1024
"""What came last, if it is no more, is not read back from the disk: the echo of a key."""
HELD_BYTES_MAX = 256 * 1024
"""Kept in memory when the disk takes nothing at all."""
MODES_EVERY = 64 * 1024
"""Bytes between two notes of the modes: what is scanned again after a restart."""
MARK_S = 0.01
"""Bytes that come within this time of others share their mark."""
FLUSH_S = 1.0
FLUSH_BYTES = 2048

_HEAD = struct.Struct("!cQdH")
_SIZE = struct.Struct("!HH")
_NAME = re.compile(r"(\d{20})\.out")


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that is known of the byte at `offset`.

    Attributes:
        at: Seconds since 1970.
        what: None for the time alone, else the size or the modes from there on.
    """

    offset: int
    at: float
    what: Size | Modes | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes in one file, from `first` on."""

    first: int
    length: int

    @property
    def end(self) -> int:
        """Offset after the last byte."""
        return self.first + self.length


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept at one moment; may be read in another thread while the log goes on.

    What was dropped meanwhile reads as nothing, unless it is held open.
    """

    folder: Path
    segments: tuple[Segment, ...]
    held: bytes
    start: int
    end: int
    size: Size
    modes: Modes
    opened: Mapping[Path, int] = field(default_factory=dict)

    @contextmanager
    def held_open(self) -> Iterator["Kept"]:
        """Give the same, of which all that is there now can be read to the end of the block."""
        opened: dict[Path, int] = {}
        with ExitStack() as stack:
            for segment in self.segments:
                for path in (_file(self.folder, segment.first), _side(self.folder, segment.first)):
                    with suppress(OSError):
                        opened[path] = stack.enter_context(path.open("rb")).fileno()
            yield replace(self, opened=opened)

    def read(self, offset: int, count: int) -> bytes:
        """Return up to `count` bytes from `offset` on."""
        found = bytearray()
        for segment in self.segments:
            if segment.first <= offset < segment.end and len(found) < count:
                wanted = min(count - len(found), segment.end - offset)
                file = _file(self.folder, segment.first)
                piece = self._read(file, wanted, at=offset - segment.first)
                found += piece
                offset += len(piece)
                if len(piece) < wanted:
                    return bytes(found)
        at = offset - (self.end - len(self.held))
        if at >= 0 and len(found) < count:
            found += self.held[at : at + count - len(found)]
        return bytes(found)

    def marks(self, *, since: int = 0) -> Iterator[Mark]:
        """Yield what is known of the bytes, in order, from at least one segment's first on.

        Segments that end before `since` are left out.
        """
        for segment in (each for each in self.segments if each.end >= since):
            yield from _marks(self._read(_side(self.folder, segment.first)), segment)

    def _read(self, path: Path, count: int | None = None, *, at: int = 0) -> bytes:
        """Return what is in a file; nothing of one that is gone."""
        with suppress(OSError), ExitStack() as stack:
            found = self.opened.get(path) or stack.enter_context(path.open("rb")).fileno()
            return os.pread(found, os.fstat(found).st_size if count is None else count, at)
        return b""


class Log:
    """One terminal's output.

    Attributes:
        size: What the terminal has now.
        modes: What it is in after all that is kept.
    """

    def __init__(
        self,
        folder: Path,
        *,
        bytes_max: int = BYTES_MAX,
        segment_bytes: int = SEGMENT_BYTES,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._bytes_max = bytes_max
        self._segment_bytes = segment_bytes
        self._now = now
        self._segments = _segments(folder)
        self._held = bytearray()
        self._newest = b""
        self._unwritten = bytearray()
        self._marked_at = 0.0
        self._marks_bytes = 0
        self.size = Size(80, 24)
        self.modes = Modes()
        self._modes_at = 0
        self.start = self._segments[0].first if self._segments else 0
        self.end = self._segments[-1].end if self._segments else 0
        if self._segments:
            self._recall()

    def append(self, offset: int, data: bytes) -> None:
        """Keep what was written at `offset`; what is known already is left out.

        Never raises and never waits for room: what does not fit costs the oldest bytes. When bytes
        before `offset` are missing, the log begins anew there.
        """
        if offset > self.end:
            self._begin_anew(offset)
        data = data[self.end - offset :]
        while data:
            room = self._segment_bytes - (self._segments[-1].length if self._segments else 0)
            piece, data = data[: max(room, 1)], data[max(room, 1) :]
            self._append(piece)

    def read(self, offset: int, count: int) -> bytes:
        """Return up to `count` bytes from `offset` on; nothing outside of `start` to `end`."""
        if not self.start <= offset < self.end:
            return b""
        at = offset - (self.end - len(self._newest))
        if at >= 0:
            return self._newest[at : at + count]
        return self._kept().read(offset, count)

    def resize(self, size: Size) -> None:
        """Note the size that the terminal has from here on."""
        if size != self.size:
            self.size = size
            if self._segments:
                self._mark(b"s", self.end, _SIZE.pack(size.columns, size.rows))

    def kept(self) -> Kept:
        """Return what is kept now."""
        self.flush()
        return replace(self._kept(), modes=self.modes.copy())

    def flush(self) -> None:
        """Write the marks that are still in memory; those that find no room stay there."""
        with suppress(OSError):
            while self._unwritten and self._segments:
                written = _write(_side(self._folder, self._segments[-1].first), self._unwritten)
                self._marks_bytes += written
                del self._unwritten[:written]
        if len(self._unwritten) > MARKS_BYTES:
            self._unwritten.clear()

    def _kept(self) -> Kept:
        segments, held = tuple(self._segments), bytes(self._held)
        return Kept(self._folder, segments, held, self.start, self.end, self.size, self.modes)

    # Writing

    def _append(self, data: bytes) -> None:
        is_full = not self._segments or (
            self._segments[-1].length >= self._segment_bytes or self._marks_bytes >= MARKS_BYTES
        )
        if is_full and not self._held:
            self._begin_segment()
        at = self._now()
        if abs(at - self._marked_at) >= MARK_S:
            self._marked_at = at
            self._mark(b"t", self.end)
        self.modes.scan(self.end, data)
        self._held += data
        self.end += len(data)
        self._newest = data if len(data) <= NEWEST_BYTES_MAX else b""
        self._put()
        if self.end - self._modes_at >= MODES_EVERY:
            self._mark_modes()

    def _put(self) -> None:
        """Bring what is held to the disk; make room there as long as that helps."""
        while self._held:
            try:
                if not self._segments:
                    self._begin_segment()
                last = self._segments[-1]
                written = _write(_file(self._folder, last.first), self._held)
            except OSError:
                if len(self._segments) > 1 or len(self._held) > HELD_BYTES_MAX:
                    self._drop_oldest()
                if not self._segments:
                    del self._held[: -HELD_BYTES_MAX // 2]
                    self.start = self.end - len(self._held)
                    return
                if len(self._segments) == 1 and len(self._held) <= HELD_BYTES_MAX:
                    return
            else:
                self._segments[-1] = replace(last, length=last.length + written)
                del self._held[:written]
        while self.end - self.start > self._bytes_max and len(self._segments) > 1:
            self._drop_oldest()

    def _begin_segment(self) -> None:
        self.flush()
        self._unwritten.clear()  # Marks of a segment have no place in another one.
        first = self.end - len(self._held)
        self._segments.append(Segment(first, 0))
        if len(self._segments) == 1:
            self.start = first
        self._marks_bytes = 0
        self._marked_at = 0.0
        self._mark(b"s", first, _SIZE.pack(self.size.columns, self.size.rows))
        self._mark_modes()

    def _begin_anew(self, offset: int) -> None:
        while self._segments:
            self._drop_oldest()
        self._held.clear()
        self._newest = b""
        self.start = self.end = offset
        self.modes.pending = b""

    def _drop_oldest(self) -> None:
        if not self._segments:
            return
        dropped = self._segments.pop(0)
        self.start = self._segments[0].first if self._segments else self.end - len(self._held)
        for path in (_file(self._folder, dropped.first), _side(self._folder, dropped.first)):
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def _mark_modes(self) -> None:
        self._modes_at = self.end
        self._mark(b"m", self.end, json.dumps(self.modes.to_json()).encode())

    def _mark(self, kind: bytes, offset: int, payload: bytes = b"") -> None:
        at = self._now()
        self._unwritten += _HEAD.pack(kind, offset, at, len(payload)) + payload
        first_at: float = _HEAD.unpack_from(self._unwritten)[2]
        is_late = at - first_at > FLUSH_S or len(self._unwritten) > FLUSH_BYTES
        if kind != b"t" or is_late:
            self.flush()

    # Reading what an earlier life left

    def _recall(self) -> None:
        last = self._segments[-1]
        side, begin = _side(self._folder, last.first), last.first
        lost = _cut(side, last)
        self._marks_bytes = side.stat().st_size if side.exists() else 0
        for mark in self._kept().marks(since=last.end):
            if isinstance(mark.what, Size):
                self.size = mark.what
            elif isinstance(mark.what, Modes):
                self.modes, begin = mark.what, mark.offset
        for mark in lost:
            if isinstance(mark.what, Size):
                self.resize(mark.what)
        self._modes_at = begin
        while piece := self.read(begin, MODES_EVERY):
            self.modes.scan(begin, piece)
            begin += len(piece)


@lru_cache(maxsize=1024)
def _file(folder: Path, first: int) -> Path:
    return folder / f"{first:020d}.out"


def _side(folder: Path, first: int) -> Path:
    return folder / f"{first:020d}.marks"


def _segments(folder: Path) -> list[Segment]:
    """Return the newest segments that follow each other without a gap; remove all before them."""
    found: list[Segment] = []
    for path in sorted(folder.glob("*.out")):
        if match := _NAME.fullmatch(path.name):
            segment = Segment(int(match[1]), path.stat().st_size)
            if found and found[-1].end != segment.first:
                for old in found:
                    _file(folder, old.first).unlink(missing_ok=True)
                found.clear()
            found.append(segment)
    firsts = {segment.first for segment in found}
    for side in folder.glob("*.marks"):
        if side.stem.isdigit() and int(side.stem) not in firsts:
            side.unlink(missing_ok=True)
    return found


def _write(path: Path, data: bytes | bytearray) -> int:
    """Append; return how much of it there was room for, at least one byte."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        return os.write(descriptor, data)
    finally:
        os.close(descriptor)


def _cut(side: Path, segment: Segment) -> Sequence[Mark]:
    """Cut off what a crash left half written, and marks of bytes that it lost; return these."""
    with suppress(OSError):
        raw = side.read_bytes()
        kept = sum(_HEAD.size + _payload(raw, at) for at in _heads(raw, segment))
        endless = replace(segment, length=sys.maxsize)
        lost = [mark for mark in _marks(raw, endless) if mark.offset > segment.end]
        if kept < len(raw):
            os.truncate(side, kept)
        return lost
    return ()


def _payload(raw: bytes, at: int) -> int:
    length: int = _HEAD.unpack_from(raw, at)[3]
    return length


def _heads(raw: bytes, segment: Segment) -> Iterator[int]:
    """Yield where the whole marks of a segment begin, up to the first that is not."""
    at = 0
    while at + _HEAD.size <= len(raw):
        kind, offset, _, length = _HEAD.unpack_from(raw, at)
        is_whole = at + _HEAD.size + length <= len(raw)
        is_inside = segment.first <= offset <= segment.end
        if kind not in {b"t", b"s", b"m"} or not is_whole or not is_inside:
            return
        yield at
        at += _HEAD.size + length


def _marks(raw: bytes, segment: Segment) -> Iterator[Mark]:
    for start in _heads(raw, segment):
        kind, offset, at, length = _HEAD.unpack_from(raw, start)
        payload = raw[start + _HEAD.size : start + _HEAD.size + length]
        with suppress(ValueError, KeyError, TypeError, struct.error, ViewError):
            if kind == b"t":
                yield Mark(offset, at)
            elif kind == b"s":
                yield Mark(offset, at, Size(*_SIZE.unpack(payload)))
            else:
                yield Mark(offset, at, Modes.from_json(json.loads(payload)))
