"""Watches that the sweeps go on: a periodic job that falls silent is noticed by somebody else."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from core.clocks import Clock
from core.errors import UnavailableError
from core.ports.work import Work

log = structlog.get_logger(__name__)

PERIODS = 5
"""After so many periods without a look that came back, a sweep is silent."""


@dataclass(slots=True, kw_only=True)
class Pulse:
    """Looks after the sweeps once in a period; tells of each silence and its end once.

    It asks the records, so that a sweep by any replica counts, and it is no job of the clock that
    fires them. A process that has just begun gives them time.

    Attributes:
        sweeps: Kinds of objects with the key `all`.
        period_s: How often each is looked at.
        boottime: Seconds on a clock that never steps.
        silent: The sweeps that are silent now.
    """

    work: Work
    clock: Clock
    sweeps: Sequence[str]
    period_s: float
    boottime: Callable[[], float]
    silent: frozenset[str] = field(default=frozenset(), init=False)

    async def run(self) -> None:
        """Watch until cancelled."""
        began = self.boottime()
        while True:
            await self.clock.sleep(self.period_s)
            try:
                await self.look(up_s=self.boottime() - began)
            except UnavailableError as error:
                log.warning("pulse.failed", error=str(error))

    async def look(self, *, up_s: float) -> None:
        """Compare once; `up_s` is how long this process has been able to do the sweeps itself."""
        limit_s = PERIODS * self.period_s
        ages = await self.work.looked(self.sweeps, "all")
        silent = frozenset(
            kind for kind in self.sweeps if min(ages.get(kind, up_s), up_s) > limit_s
        )
        for kind in sorted(silent - self.silent):
            log.error("sweep.silent", sweep=kind, for_s=round(min(ages.get(kind, up_s), up_s)))
        for kind in sorted(self.silent - silent):
            log.info("sweep.heard_again", sweep=kind)
        self.silent = silent
