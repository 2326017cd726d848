"""What people type in a workspace, or send into it, keeps it: a view that notices."""

from collections.abc import Awaitable, Callable

from core.clocks import Clock
from core.viewing import Fit, Input, Look, View

KEEP_EVERY_S = 30.0
_ACTS = frozenset({Look.TAG, Input.TAG, Fit.TAG})
"""What a person does. What is drawn and signs of life come from a forgotten page too."""


def _is_act(message: bytes) -> bool:
    return message[:1] in _ACTS


class WarmView:
    """A view; `keep` is awaited when somebody acts, not more often than needed.

    What an act is in what is sent differs; without a word it is one in a terminal.
    """

    def __init__(
        self,
        view: View,
        keep: Callable[[], Awaitable[None]],
        *,
        clock: Clock,
        is_act: Callable[[bytes], bool] = _is_act,
    ) -> None:
        self._view = view
        self._is_act = is_act
        self._keep = keep
        self._clock = clock
        self._kept_at = float("-inf")

    async def send(self, message: bytes) -> None:
        """See `View.send`."""
        await self._view.send(message)
        now = self._clock.now().timestamp()
        if self._is_act(message) and abs(now - self._kept_at) >= KEEP_EVERY_S:
            self._kept_at = now
            await self._keep()

    async def receive(self) -> bytes:
        """See `View.receive`."""
        return await self._view.receive()

    async def close(self, code: int, reason: str) -> None:
        """See `View.close`."""
        await self._view.close(code, reason)
