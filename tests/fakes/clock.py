"""Time that a test moves: of a `Clock`, which stands still otherwise, and of the event loop."""

import asyncio
from datetime import UTC, datetime, timedelta


class FakeClock:
    """A `Clock`, and a boot-time clock, moved by `advance`.

    Attributes:
        skew: How wrong the wall clock is; sleeping and boot time do not notice.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 5, 12, tzinfo=UTC)) -> None:
        self.start = start
        self.elapsed = 0.0
        self.skew = timedelta()
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self.start + timedelta(seconds=self.elapsed) + self.skew

    def boottime(self) -> float:
        return self.elapsed

    async def sleep(self, seconds: float) -> None:
        until = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.elapsed + seconds, until))
        await until

    def advance(self, seconds: float) -> None:
        """Let time pass; whoever slept until then wakes."""
        self.elapsed += seconds
        waking = [one for one in self._sleepers if one[0] <= self.elapsed]
        self._sleepers = [one for one in self._sleepers if one[0] > self.elapsed]
        for _, until in waking:
            if not until.done():
                until.set_result(None)


class LoopClock:
    """The clock of the running event loop, put forward by `advance`: a long limit is over at once.

    What is left of a limit is as long as it says, however slow the machine is.
    """

    def __init__(self) -> None:
        self._ahead_s = 0.0
        loop = asyncio.get_running_loop()
        now = loop.time
        loop.time = lambda: now() + self._ahead_s  # type: ignore[method-assign]

    def advance(self, seconds: float) -> None:
        """Let time pass for all that waits."""
        self._ahead_s += seconds
