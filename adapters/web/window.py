"""Frames of server-sent events, rendered once and shared by all viewers."""

import json
from bisect import bisect_right

FRAMES_MAX = 2000
"""Most frames that one window keeps; a viewer who falls out of it reads from the store."""
DRAFT_CHARS_MAX = 100_000
BYTES_MAX = 8 * 1024 * 1024


def frame(event: str, data: str, *, id_: str = "") -> bytes:
    """Return one server-sent event (https://html.spec.whatwg.org/multipage/server-sent-events.html).

    `data` may be of several lines. A carriage return would end a line too, so it becomes one.
    """
    lines = data.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    head = f"id: {id_}\n" if id_ else ""
    body = "".join(f"data: {line}\n" for line in lines)
    return f"{head}event: {event}\n{body}\n".encode(errors="backslashreplace")


class Window:
    """The newest frames of one log. Every viewer has an offset of its own and no queue.

    Attributes:
        start: The frames here follow this offset; what is at it or before it was dropped.
        end: Offset of the newest frame.
    """

    def __init__(self, start: int) -> None:
        self.start = start
        self.end = start
        self._offsets: list[int] = []
        self._frames: list[bytes] = []
        self._bytes = 0

    def add(self, offset: int, data: bytes) -> None:
        """Append the frame at `offset`; an empty one only moves the end."""
        self.end = offset
        if not data:
            return
        self._offsets.append(offset)
        self._frames.append(data)
        self._bytes += len(data)
        if len(self._frames) > FRAMES_MAX or self._bytes > BYTES_MAX:
            self._drop(len(self._frames) // 2)

    def _drop(self, count: int) -> None:
        """Forget the oldest frames: half at once, so that it costs little per frame."""
        count = max(count, 1)
        self.start = self._offsets[count - 1]
        self._bytes -= sum(len(data) for data in self._frames[:count])
        del self._offsets[:count], self._frames[:count]

    def after(self, offset: int) -> bytes | None:
        """Return all frames past `offset`, or None if some of them were dropped."""
        if offset < self.start:
            return None
        if offset >= self.end:
            return b""
        return b"".join(self._frames[bisect_right(self._offsets, offset) :])


class Parts:
    """Frames of which only the newest of each name counts: a card, a line of the thread."""

    def __init__(self) -> None:
        self.version = 0
        self._parts: dict[str, tuple[int, bytes]] = {}

    def put(self, name: str, data: bytes) -> bool:
        """Set the frame `name`; return whether that is news."""
        known = self._parts.get(name)
        if known is not None and known[1] == data:
            return False
        self.version += 1
        self._parts.pop(name, None)
        self._parts[name] = (self.version, data)
        return True

    def after(self, version: int) -> bytes:
        """Return the frames that changed since `version`."""
        if version >= self.version:
            return b""
        return b"".join(data for at, data in self._parts.values() if at > version)


class Drafts:
    """Text that is being written: pieces since its message began, until the message is stored.

    Attributes:
        number: How many pieces there were. A viewer keeps the number that it has seen.
    """

    def __init__(self) -> None:
        self.number = 0
        self._pieces: list[tuple[int, str, bytes]] = []
        self._lengths: dict[str, int] = {}

    def add(self, message: str, text: str) -> None:
        """Append `text` to the draft of `message`; past the limit people wait for the event."""
        at = self._lengths.get(message, 0)
        if at + len(text) > DRAFT_CHARS_MAX:
            return
        self._lengths[message] = at + len(text)
        self.number += 1
        body = json.dumps({"message": message, "at": at, "text": text})
        self._pieces.append((self.number, message, frame("draft", body)))

    def drop(self, message: str | None = None) -> None:
        """Forget the draft of `message`, or all of them."""
        kept = [] if message is None else [p for p in self._pieces if p[1] != message]
        self._pieces = kept
        self._lengths = {
            name: n for name, n in self._lengths.items() if message not in {None, name}
        }

    def after(self, number: int) -> bytes:
        """Return the pieces past `number`."""
        return b"".join(data for at, _, data in self._pieces if at > number)
