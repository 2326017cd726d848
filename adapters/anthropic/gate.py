"""One pause for all calls when the model's supplier says that we ask too often."""

import asyncio
import random
from dataclasses import dataclass, field

RANDOM = random.SystemRandom()


@dataclass(slots=True, kw_only=True)
class Gate:
    """Closed after a refusal, for longer each time until a call passes.

    Attributes:
        first_s: The first pause; it doubles with each storm of refusals.
        longest_s: The longest pause, also when the supplier asks for more.
    """

    first_s: float
    longest_s: float
    _storms: int = 0
    _opens_at: float = 0.0
    _pause_s: float = field(default=0.0)

    def wait_s(self) -> float:
        """Return the seconds to wait before asking, spread so that not all ask at once."""
        left = self._opens_at - _now()
        return left + RANDOM.uniform(0, self._pause_s / 4) if left > 0 else 0.0

    def refused(self, *, asked_at: float, retry_after_s: float | None) -> bool:
        """Close after a refusal of a call that was sent at `asked_at`, in the loop's time.

        Returns:
            Whether this is the first refusal after a call that passed.
        """
        if asked_at < self._opens_at:
            return False  # It was under way when another one closed the gate: the same storm.
        wanted = self.first_s * 2**self._storms if retry_after_s is None else retry_after_s
        self._pause_s = min(wanted, self.longest_s)
        self._opens_at = _now() + self._pause_s
        self._storms += 1
        return self._storms == 1

    def passed(self) -> bool:
        """Open after a call that was answered. Returns whether that ends an outage."""
        was_closed, self._storms = self._storms > 0, 0
        return was_closed


def _now() -> float:
    return asyncio.get_running_loop().time()
