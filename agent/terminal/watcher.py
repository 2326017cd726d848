"""One viewer of a terminal: where it is in the output, and what it has to be told.

Nothing waits in a queue for a viewer: output is read from the log when there is room for it, and
of everything else only the newest counts.
"""

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from core.viewing import (
    BEAT_S,
    CLOSE_SILENT,
    CLOSE_UNREADABLE,
    OUTPUT_BYTES_MAX,
    SEEN_BYTES,
    Beat,
    Exited,
    Fit,
    Input,
    Look,
    Output,
    Paint,
    Resized,
    Seen,
    Size,
    View,
    ViewClosedError,
    ViewError,
    decode,
    encode,
)

if TYPE_CHECKING:
    from agent.terminal.terminal import Terminal

WINDOW_BYTES = 256 * 1024
"""How far ahead of what a viewer has drawn it is sent output, on a short line."""
WINDOW_BYTES_MAX = 8 * WINDOW_BYTES
WINDOW_RTT_S = 0.025
"""A longer way there and back makes the window larger in proportion: about 10 MB/s."""
BEHIND_BYTES_MAX = 2 * 2**20
"""Who is further behind is shown the screen instead of what it missed."""
HOLD_S = 0.5
"""How long the first bytes of a character wait for the rest."""
REASON_BYTES_MAX = 120


class Watcher:
    """A viewer's connection to a terminal.

    Attributes:
        size: What fits on its screen.
        seen: Offset up to which it has drawn, as far as it said so.
        moved_at: When `seen` grew last, or output began to wait; on the loop's clock.
    """

    def __init__(self, view: View, terminal: "Terminal", *, name: str, writes: bool) -> None:
        self.name = name
        self.writes = writes
        self.size = Size(80, 24)
        self.seen = 0
        self.moved_at = 0.0
        self._view = view
        self._terminal = terminal
        self._sent: int | None = None
        self._window = WINDOW_BYTES
        self._rtt_s = float("inf")
        self._probe: tuple[int, float] | None = None
        self._held_since: float | None = None
        self._woken = asyncio.Event()
        self._beats = 0
        self._listens_since = float("inf")
        self._owes_size = self._owes_viewers = True
        self._has_told_end = False

    # What the terminal says

    def wake(self) -> None:
        """Look again whether there is something to send."""
        self._woken.set()

    def tell_size(self) -> None:
        """Have the size told."""
        self._owes_size = True
        self.wake()

    def tell_viewers(self) -> None:
        """Have it told who looks."""
        self._owes_viewers = True
        self.wake()

    def expect(self, end: int, now: float) -> None:
        """Take note that there will be output after `end`."""
        if self.seen >= end:
            self.moved_at = now

    def has_room(self, end: int) -> bool:
        """Whether the viewer keeps up with a shell that has written up to `end`."""
        return end - self.seen < self._window

    # What the viewer says

    async def greet(self) -> None:
        """Wait for its first frame.

        Raises:
            ViewClosedError: It ended, or said something else.
        """
        frame = await self._hear()
        if not isinstance(frame, Look):
            raise ViewClosedError(CLOSE_UNREADABLE, "a viewer says first what fits on its screen")
        self.size = frame.size
        output = self._terminal.output
        seen = frame.seen
        # After a crash of ours a viewer may have seen what the log has yet to get once more.
        ahead = BEHIND_BYTES_MAX if self._terminal.end is None else 0
        is_known = seen is not None and output.start <= seen <= output.end + ahead
        self._sent = seen if is_known else None
        self.seen = seen if is_known and seen is not None else output.end
        self.moved_at = _now_s()

    async def listen(self) -> None:
        """Take what the viewer says, until it ends.

        Raises:
            ViewClosedError: It did.
        """
        while True:
            match await self._hear():
                case Seen(offset):
                    self._take_seen(offset)
                case Input(data) if self.writes:
                    await self._terminal.type(self, data)
                case Fit(size):
                    self.size = size
                    self._terminal.fit(self)
                case Beat():
                    self._beats += 1
                    self.wake()
                case other:
                    what = "may only look" if isinstance(other, Input) else "does not say that"
                    raise ViewClosedError(CLOSE_UNREADABLE, f"this viewer {what}")

    async def expire(self) -> None:
        """Wait until nothing was heard for two beats. One task for it: a key must not cost a timer.

        Raises:
            ViewClosedError: That is so.
        """
        while True:
            left_s = self._listens_since + 2 * BEAT_S - _now_s()
            if left_s <= 0:
                raise ViewClosedError(CLOSE_SILENT, "silent for two beats")
            await asyncio.sleep(min(left_s, 2 * BEAT_S))

    async def _hear(self) -> object:
        self._listens_since = _now_s()
        message = await self._view.receive()
        self._listens_since = float("inf")
        try:
            return decode(message)
        except ViewError as error:
            reason = str(error).encode()[:REASON_BYTES_MAX].decode(errors="ignore")
            raise ViewClosedError(CLOSE_UNREADABLE, reason) from error

    def _take_seen(self, offset: int) -> None:
        if self._sent is None or not self.seen < offset <= self._sent:
            return
        now = _now_s()
        self.seen, self.moved_at = offset, now
        if self._probe is not None and offset >= self._probe[0]:
            self._rtt_s = min(self._rtt_s, now - self._probe[1])
            self._probe = None
            wanted = int(WINDOW_BYTES * self._rtt_s / WINDOW_RTT_S)
            self._window = min(max(wanted, WINDOW_BYTES), WINDOW_BYTES_MAX)
        self._terminal.moved()
        self.wake()

    # What the viewer is told

    async def send(self) -> None:
        """Send what there is, whenever there is something, until the view ends.

        Raises:
            ViewClosedError: It did.
        """
        while True:
            self._woken.clear()
            if self._terminal.closed:
                raise self._terminal.missing()
            await self._send_signs()
            wait_s = await self._send_output()
            if wait_s is None:
                await self._woken.wait()
            elif wait_s:
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._woken.wait()

    async def _send_signs(self) -> None:
        output = self._terminal.output
        if self._owes_size:
            self._owes_size = False
            await self._view.send(encode(Resized(output.size)))
        if self._sent is None:
            await self._paint()
        if self._owes_viewers:
            self._owes_viewers = False
            await self._view.send(encode(self._terminal.viewers()))
        while self._beats:
            self._beats -= 1
            await self._view.send(encode(Beat()))

    async def _paint(self) -> None:
        end, size, picture = await self._terminal.picture()
        offset = end - picture.unfinished
        self.seen, self.moved_at = offset, _now_s()
        self._sent, self._held_since = offset, None
        await self._view.send(encode(Paint(offset, size, picture.data)))

    async def _send_output(self) -> float | None:
        """Send the next piece; return 0 if there may be more, else how long to wait for news."""
        output, sent = self._terminal.output, self._sent
        if sent is None:
            return 0
        room = self.seen + self._window - sent
        if room <= 0:
            return None
        if sent < output.start or output.end - sent > BEHIND_BYTES_MAX:
            self._sent = None
            return 0
        data = output.read(sent, min(room, OUTPUT_BYTES_MAX))
        whole = data[: len(data) - _cut(data)]
        if data and not whole:
            wait_s = self._hold(is_last=sent + len(data) >= output.end)
            if wait_s != 0:
                return wait_s
            whole = data
        if whole:
            await self._send_piece(sent, whole)
            return 0
        if self._terminal.end is not None and not self._has_told_end and sent >= output.end:
            self._has_told_end = True
            await self._view.send(encode(Exited(self._terminal.end.code)))
        return None

    def _hold(self, *, is_last: bool) -> float | None:
        """Return how long to wait for the rest of a character; None for the viewer's sake."""
        if not is_last:
            return None
        now = _now_s()
        if self._held_since is None:
            self._held_since = now
        if self._terminal.end is not None:
            return 0
        return max(0.0, self._held_since + HOLD_S - now)

    async def _send_piece(self, offset: int, data: bytes) -> None:
        self._held_since = None
        self._sent = offset + len(data)
        if self._probe is None and len(data) >= SEEN_BYTES:  # What is less is told of later.
            self._probe = (self._sent, _now_s())
        await self._view.send(encode(Output(offset, data)))


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _cut(data: bytes) -> int:
    """Return how many bytes at the end are the beginning of a UTF-8 character without its rest."""
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return back if byte < 0xF8 and back < length else 0
        if byte < 0x80:
            return 0
    return 0
