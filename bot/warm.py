"""What people type in a workspace keeps it: a view that notices."""

from collections.abc import Awaitable, Callable

from core.clocks import Clock
from core.viewing import Fit, Input, Look, View

KEEP_EVERY_S = 30.0
_ACTS = frozenset({Look.TAG, Input.TAG, Fit.TAG})
"""What a person does. What is drawn and signs of life come from a forgotten page too."""


class WarmView:
    """A view of a terminal; `keep` is awaited when somebody acts, not more often than needed."""

    def __init__(self, view: View, keep: Callable[[], Awaitable[None]], *, clock: Clock) -> None:
        self._view = view
        self._keep = keep
        self._clock = clock
        self._kept_at = float("-inf")

    async def send(self, message: bytes) -> None:
        """See `View.send`."""
        await self._view.send(message)
        now = self._clock.now().timestamp()
        if message[:1] in _ACTS and abs(now - self._kept_at) >= KEEP_EVERY_S:
            self._kept_at = now
            await self._keep()

    async def receive(self) -> bytes:
        """See `View.receive`."""
        return await self._view.receive()

    async def close(self, code: int, reason: str) -> None:
        """See `View.close`."""
        await self._view.close(code, reason)
