"""Between a viewer and a terminal: frames, which the control plane passes on untouched.

One frame is one binary WebSocket message: a tag byte, numbers in network order, then bytes.
Offsets count the bytes that the terminal has written since it was opened. The viewer speaks first
and says `Look`; the terminal answers with `Resized`, with `Paint` if the viewer has not seen what
is still kept, with `Viewers`, and then with `Output`, in order, without a gap and without a repeat.

A viewer says with `Seen` what it has drawn: at once after `SEEN_BYTES`, else within `SEEN_S`, so
that a key's echo is not followed by a frame of its own. The terminal sends at most a window ahead
of that, and a shell that writes faster waits. A viewer that stops saying so holds nobody up: it is
left behind and gets a `Paint` when it says `Seen` again.
"""

import json
import struct
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

INPUT_BYTES_MAX = 64 * 1024
"""Most bytes in one `Input`; a longer paste is several."""
OUTPUT_BYTES_MAX = 64 * 1024
"""Most bytes in one `Output`."""
FRAME_BYTES_MAX = 4 * 1024 * 1024
"""Largest frame; a `Paint` with its history is below it. A larger one ends the stream."""
COLUMNS_MAX = 1000
ROWS_MAX = 500
BEAT_S = 10.0
"""How often a viewer says `Beat`; each is answered. Two missed ones end the stream."""

SEEN_BYTES = 32 * 1024
SEEN_S = 0.5

CLOSE_UNREADABLE = 4400
"""Something that is no frame, is too large, or must not come from this side."""
CLOSE_MISSING = 4404
"""There is no such terminal; the reason says why. Dialling again is of no use."""
CLOSE_SILENT = 4408
"""Nothing was heard for two beats."""
CLOSE_AWAY = 4503
"""The node cannot be reached now; dial again."""

_NOTHING = 2**64 - 1
_OFFSET = struct.Struct("!Q")
_SIZE = struct.Struct("!HH")
_PLACE = struct.Struct("!QHH")
_CODE = struct.Struct("!i")


class ViewError(ValueError):
    """The other side sent what is no frame."""


@dataclass(frozen=True, slots=True)
class Size:
    """Of a terminal, in cells: 1 by 1 to `COLUMNS_MAX` by `ROWS_MAX`."""

    columns: int
    rows: int

    def __post_init__(self) -> None:
        if not (1 <= self.columns <= COLUMNS_MAX and 1 <= self.rows <= ROWS_MAX):
            raise ViewError(f"a terminal has no {self.columns} by {self.rows} cells")


@dataclass(frozen=True, slots=True)
class Look:
    """The viewer's first frame.

    Attributes:
        size: What fits on the viewer's screen.
        seen: Offset up to which it has drawn everything; None for a new viewer.
    """

    TAG: ClassVar[bytes] = b"L"
    size: Size
    seen: int | None = None

    def pack(self) -> bytes:
        """Return the frame's body."""
        place = _NOTHING if self.seen is None else self.seen
        return _PLACE.pack(place, self.size.columns, self.size.rows)

    @classmethod
    def unpack(cls, body: bytes) -> Self:
        """Read the frame's body."""
        place, columns, rows = _PLACE.unpack(body)
        return cls(Size(columns, rows), None if place == _NOTHING else place)


@dataclass(frozen=True, slots=True)
class Input:
    """What a person typed or pasted."""

    TAG: ClassVar[bytes] = b"I"
    data: bytes

    def pack(self) -> bytes:
        """Return the frame's body."""
        return self.data

    @classmethod
    def unpack(cls, body: bytes) -> Self:
        """Read the frame's body."""
        if len(body) > INPUT_BYTES_MAX:
            raise ViewError(f"{len(body)} bytes of input in one frame")
        return cls(body)


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything up to this offset is drawn."""

    TAG: ClassVar[bytes] = b"S"
    offset: int

    def pack(self) -> bytes:
        """Return the frame's body."""
        return _OFFSET.pack(self.offset)

    @classmethod
    def unpack(cls, body: bytes) -> Self:
        """Read the frame's body."""
        return cls(*_OFFSET.unpack(body))


@dataclass(frozen=True, slots=True)
class Fit:
    """The viewer's screen has this size now, or its window came to the front."""

    TAG: ClassVar[bytes] = b"F"
    size: Size

    def pack(self) -> bytes:
        """Return the frame's body."""
        return _SIZE.pack(self.size.columns, self.size.rows)

    @classmethod
    def unpack(cls, body: bytes) -> Self:
        """Read the frame's body."""
        return cls(Size(*_SIZE.unpack(body)))


@dataclass(frozen=True, slots=True)
class Beat:
    """A sign of life, from either side; the terminal answers each with one."""

    TAG: ClassVar[bytes] = b"B"

    def pack(self) -> bytes:
        """Return the frame's body."""
        return b""

    @classmethod
    def unpack(cls, body: bytes) -> Self:
        """Read the frame's body."""
        if body:
            raise ViewError("a beat with a body")
        return cls()


@dataclass(frozen=True, slots=True)
class Output:
    """Bytes as the shell wrote them. `offset` is that of the first."""

    TAG: ClassVar[bytes] = b"O"
    offset: int
    data: bytes

    def pack(self) -> bytes:
        """Return the frame's body."""
        return _OFFSET.pack(self.offset) + self.data

    @classmethod
    def unpack(cls, body: bytes) -> Self:
        """Read the frame's body."""
        (offset,) = _OFFSET.unpack_from(body)
        return cls(offset, body[_OFFSET.size :])


@dataclass(frozen=True, slots=True)
class Paint:
    """Reset the screen, give it this size, draw `data`. `Output` goes on at `offset`."""

    TAG: ClassVar[bytes] = b"P"
    offset: int
    size: Size
    data: bytes

    def pack(self) -> bytes:
        """Return the frame's body."""
        return _PLACE.pack(self.offset, self.size.columns, self.size.rows) + self.data

    @classmethod
    def unpack(cls, body: bytes) -> Self:
        """Read the frame's body."""
        offset, columns, rows = _PLACE.unpack_from(body)
        return cls(offset, Size(columns, rows), body[_PLACE.size :])


@dataclass(frozen=True, slots=True)
class Resized:
    """The terminal has this size now; the viewer that types decides."""

    TAG: ClassVar[bytes] = b"R"
    size: Size

    def pack(self) -> bytes:
        """Return the frame's body."""
        return _SIZE.pack(self.size.columns, self.size.rows)

    @classmethod
    def unpack(cls, body: bytes) -> Self:
        """Read the frame's body."""
        return cls(Size(*_SIZE.unpack(body)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """Somebody who looks.

    Attributes:
        writes: Whether they may type.
        is_active: Whether the size is theirs.
    """

    name: str
    writes: bool
    is_active: bool = False


@dataclass(frozen=True, slots=True)
class Viewers:
    """Everybody who looks now, in the order in which they came. Its body is JSON."""

    TAG: ClassVar[bytes] = b"V"
    viewers: tuple[Viewer, ...] = ()

    def pack(self) -> bytes:
        """Return the frame's body."""
        rows = [[each.name, each.writes, each.is_active] for each in self.viewers]
        return json.dumps(rows).encode()

    @classmethod
    def unpack(cls, body: bytes) -> Self:
        """Read the frame's body."""
        return cls(
            tuple(
                Viewer(name=str(name), writes=bool(writes), is_active=bool(is_active))
                for name, writes, is_active in json.loads(body)
            )
        )


@dataclass(frozen=True, slots=True)
class Exited:
    """The shell has ended, and all that it wrote was sent.

    Attributes:
        code: Exit code, minus a signal's number; None where nobody knows.
    """

    TAG: ClassVar[bytes] = b"X"
    code: int | None

    def pack(self) -> bytes:
        """Return the frame's body."""
        return b"" if self.code is None else _CODE.pack(self.code)

    @classmethod
    def unpack(cls, body: bytes) -> Self:
        """Read the frame's body."""
        return cls(_CODE.unpack(body)[0] if body else None)


FromViewer = Look | Input | Seen | Fit | Beat
FromTerminal = Output | Paint | Resized | Viewers | Exited | Beat
Frame = FromViewer | FromTerminal
_KINDS: dict[bytes, type[Frame]] = {
    kind.TAG: kind
    for kind in (Look, Input, Seen, Fit, Beat, Output, Paint, Resized, Viewers, Exited)
}


def encode(frame: Frame) -> bytes:
    """Return the message that carries `frame`."""
    return frame.TAG + frame.pack()


def decode(message: bytes) -> Frame:
    """Read a message.

    Raises:
        ViewError: It is no frame.
    """
    if len(message) > FRAME_BYTES_MAX:
        raise ViewError(f"a frame of {len(message)} bytes")
    kind = _KINDS.get(message[:1])
    if kind is None:
        raise ViewError(f"no frame: {message[:40]!r}")
    try:
        return kind.unpack(message[1:])
    except (struct.error, ValueError, TypeError, RecursionError) as error:
        raise ViewError(f"no {kind.__name__}: {message[:40]!r}") from error


class ViewClosedError(Exception):
    """A view is over.

    Attributes:
        code: WebSocket close code; 1006 when the connection just ended.
    """

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"{code} {reason}".strip())
        self.code = code
        self.reason = reason


class View(Protocol):
    """One viewer's connection, seen from either end."""

    async def send(self, message: bytes) -> None:
        """Send one frame; wait while the other side does not read. Raises `ViewClosedError`."""
        ...

    async def receive(self) -> bytes:
        """Return the next frame. Raises `ViewClosedError`."""
        ...

    async def close(self, code: int, reason: str) -> None:
        """Say why, and end it. Never raises."""
        ...
