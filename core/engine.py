"""The loop: claim what is due, look at it, give it back. It lives by rows, leases and fences.

A look that fails is tried again later and stops no other. A replica that cannot renew its lease
in time stops what it does and starts nothing, before others may take over.

An object gets stuck by its own looks alone. One that comes back with an error is an attempt, and
`ATTEMPTS_MAX` of them in a row are the end. One that does not come back, because its replica
died, froze or was starved, is a loss, and says little: whatever kills a replica takes all along
that it looks at. So losses are forgotten as soon as any look comes back, and an object with
`SUSPECT` of them is looked at while its replica looks at no other suspect, later each time. An
innocent one soon comes back; one that kills does so `LOSSES_MAX` times, minutes apart in all,
and is given up without a look. Leaving in peace is no loss, and neither is a look that was cut
by a lost lease if nobody took over meanwhile.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Protocol
from zlib import crc32

from core.clocks import Clock, Clocks
from core.errors import ConflictError, LostLease, UnavailableError
from core.ids import ReplicaId
from core.ports.work import SUSPECT, Claim, Work

Reconciler = Callable[[Claim], Awaitable[float | None]]
"""Looks at one object; returns in how many seconds to look again, None to wait for a wake-up."""
OnStuck = Callable[[str, str, str], Awaitable[None]]
"""Gives an object up: kind, key and the last error. Called instead of its reconciler."""

ATTEMPTS_MAX = 5
"""Failed looks without progress after which an object is stuck."""
LOSSES_MAX = 10
"""Losses in a row after which it is. The first ones may be due to others that were looked at at
the same time; from then on it waits three minutes in all."""
CONFLICTS_MAX = 50
"""Conflicts in a row that are taken for a crowd around one row."""
CONFLICT_S_MAX = 1.0
LOOK_S = 300.0
"""Longest look. Each call to the outside has its own, shorter limit; this one catches bugs."""
IN_A_ROW = 10
"""Most looks at one object under one claim."""
BACK_OFF_S_MAX = 60.0
_OWN_LEASE = 0.8
"""Part of the lease that we count as ours, so that we stop before others may take over."""
_Hold = tuple[str, str, int]
"""Kind, key and fence: what stays the same of a claim while its object is woken."""
_BATCH = 100
_SOON_S = 0.05


class Report(Protocol):
    """Where the engine says what happened: a name in the past tense, and values."""

    def __call__(self, event: str, /, **values: object) -> object:
        """Take one fact."""
        ...


async def _give_up_silently(kind: str, key: str, error: str) -> None:
    """Leave a stuck object as it is: whoever wakes it tries again."""


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


class Engine:
    """One replica's loop.

    Args:
        reconcilers: By kind of object. Other kinds are left to replicas that know them.
        boottime: Seconds on a clock that never steps and goes on while the process is frozen.
        at_once: How many objects of one kind are looked at at once.
        on_stuck: Told when an object is stuck; afterwards the object rests until it is woken.
    """

    def __init__(
        self,
        *,
        work: Work,
        clock: Clock,
        clocks: Clocks,
        reconcilers: Mapping[str, Reconciler],
        replica: ReplicaId,
        report: Report,
        on_stuck: OnStuck = _give_up_silently,
        boottime: Callable[[], float] = _loop_time,
        at_once: int = 50,
        url: str = "",
        version: str = "",
    ) -> None:
        self._work = work
        self._clock = clock
        self._clocks = clocks
        self._reconcilers = reconcilers
        self._replica = replica
        self._report = report
        self._on_stuck = on_stuck
        self._boottime = boottime
        self._at_once = at_once
        self._url, self._version = url, version
        self._beat_at: float | None = None
        self._is_draining = False
        self._poke = asyncio.Event()
        self._looks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._busy: Counter[str] = Counter()
        self._outages: Counter[tuple[str, str]] = Counter()
        self._conflicts: Counter[tuple[str, str]] = Counter()

    async def run(self) -> None:
        """Work until cancelled; then finish the looks at hand, give everything back and leave."""
        async with self.running():
            await asyncio.Event().wait()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Work while the body runs; on leaving, drain."""
        await self._join()
        async with asyncio.TaskGroup() as group:
            loops = [
                group.create_task(self._beat(), name="engine.beat"),
                group.create_task(self._watch_lease(), name="engine.lease"),
                group.create_task(self._listen(), name="engine.listen"),
                group.create_task(self._look(group), name="engine.look"),
                group.create_task(self._rescue(), name="engine.rescue"),
                group.create_task(self._sweep(), name="engine.sweep"),
            ]
            try:
                yield
            finally:
                await self.drain()
                for loop in loops:
                    loop.cancel()

    async def drain(self) -> None:
        """Claim nothing more, let the looks at hand finish for at most a lease, give back, go."""
        self._is_draining = True
        await self._wait_for_looks(self._clocks.lease_s)
        self._cancel_looks()
        await self._wait_for_looks(self._clocks.beat_s)
        try:
            await self._work.leave(self._replica)
        except UnavailableError as error:  # Our lease will end by itself.
            self._report("replica.not_left", error=str(error))

    async def _wait_for_looks(self, limit_s: float) -> None:
        looks = list(self._looks.values())
        if looks:
            await asyncio.wait(looks, timeout=limit_s)

    # The lease

    async def _join(self) -> None:
        sent = self._boottime()
        await self._work.join(
            self._replica, url=self._url, version=self._version, lease_s=self._clocks.lease_s
        )
        self._beat_at = sent
        self._poke.set()

    def _left_s(self) -> float:
        """Return for how long the lease is ours; counted from before the beat was sent."""
        if self._beat_at is None:
            return 0.0
        return self._clocks.lease_s * _OWN_LEASE - (self._boottime() - self._beat_at)

    async def _beat(self) -> None:
        while True:
            await self._clock.sleep(self._clocks.beat_s)
            try:
                async with asyncio.timeout(self._clocks.beat_s):
                    await self._renew()
            except Exception as error:  # noqa: BLE001  a beat is lost; the lease is watched
                self._report("beat.failed", error=_sentence(error))

    async def _renew(self) -> None:
        if self._beat_at is None:
            await self._join()
            self._report("replica.joined_again", replica=self._replica)
            return
        sent = self._boottime()
        if not await self._work.beat(self._replica, lease_s=self._clocks.lease_s):
            self._lose()
        elif self._beat_at is not None:  # Else the answer came too late: the next beat joins.
            self._beat_at = sent

    async def _watch_lease(self) -> None:
        while True:
            left = self._left_s()
            if left <= 0 and self._beat_at is not None:
                self._lose()
            await self._clock.sleep(left if left > 0 else self._clocks.poll_s)

    def _lose(self) -> None:
        """Stop everything: what we own may be somebody else's. The next beat joins again."""
        if self._beat_at is None:
            return
        self._beat_at = None
        self._report("replica.lost_lease", replica=self._replica, looks=len(self._looks))
        self._cancel_looks()

    def _cancel_looks(self) -> None:
        for look in self._looks.values():
            if not look.cancelling():  # A second cancel would hit the clean-up.
                look.cancel()

    # What is due

    async def _listen(self) -> None:
        while True:
            try:
                await self._work.wait(poll_s=self._clocks.poll_s)
            except Exception as error:  # noqa: BLE001  polling goes on whatever happens
                self._report("wait.failed", error=_sentence(error))
                await self._clock.sleep(self._clocks.poll_s)
            self._poke.set()

    async def _look(self, group: asyncio.TaskGroup) -> None:
        while True:
            await self._poke.wait()
            self._poke.clear()
            try:
                while await self._claim_some(group):
                    pass
            except Exception as error:  # noqa: BLE001  the next poll claims again
                self._report("claim.failed", error=_sentence(error))

    async def _claim_some(self, group: asyncio.TaskGroup) -> bool:
        """Claim and start a batch; True when there may be more."""
        room = {kind: self._at_once - self._busy[kind] for kind in self._reconcilers}
        kinds = [kind for kind, free in room.items() if free > 0]
        if self._is_draining or self._left_s() <= 0 or not kinds:
            return False
        limit = min(_BATCH, *(room[kind] for kind in kinds))
        claims = await self._work.claim(self._replica, kinds, limit=limit)
        for claim in claims:
            self._start(group, claim)
        return len(claims) == limit

    def _start(self, group: asyncio.TaskGroup, claim: Claim) -> None:
        which = (claim.kind, claim.key)
        if which in self._looks or self._left_s() <= 0:
            return  # An old look still cleans up, or we are late: the row comes back by `_sweep`.
        look = group.create_task(self._look_at(claim), name=f"{claim.kind} {claim.key}")
        self._looks[which] = look
        self._busy[claim.kind] += 1
        look.add_done_callback(lambda _: self._ended(claim))

    def _ended(self, claim: Claim) -> None:
        del self._looks[claim.kind, claim.key]
        if self._busy[claim.kind] == self._at_once or claim.losses >= SUSPECT:
            self._poke.set()  # Others waited for this one.
        self._busy[claim.kind] -= 1

    # One look

    async def _look_at(self, claim: Claim) -> None:
        try:
            if claim.attempts > ATTEMPTS_MAX or claim.losses >= LOSSES_MAX:
                await self._give_up(claim)
            else:
                await self._try(claim)
        except LostLease:
            self._report("work.lost", kind=claim.kind, key=claim.key)
        except Exception as error:  # noqa: BLE001  not given back: `_sweep` finds the row
            self._report("work.kept", kind=claim.kind, key=claim.key, error=_sentence(error))

    async def _try(self, claim: Claim) -> None:
        which = (claim.kind, claim.key)
        try:
            due_in_s = await self._looked(claim)
        except UnavailableError as error:
            await self._passes(claim, error)
        except ConflictError as error:
            await self._overtaken(claim, error)
        except Exception as error:  # noqa: BLE001  one that fails stops no other
            await self._failed(claim, error)
        else:
            self._outages.pop(which, None)
            self._conflicts.pop(which, None)
            await self._work.give_back(claim, due_in_s=due_in_s)

    async def _looked(self, claim: Claim) -> float | None:
        """Look once; again at once while the object asks for it and others need not wait long."""
        due_in_s: float | None = 0
        for _ in range(IN_A_ROW):
            async with asyncio.timeout(LOOK_S):
                due_in_s = await self._reconcilers[claim.kind](claim)
            if due_in_s != 0 or self._is_draining or self._left_s() <= 0:
                break
        return due_in_s

    async def _passes(self, claim: Claim, error: UnavailableError) -> None:
        """Wait until the outside is back: its outage is no fault of the object."""
        which = (claim.kind, claim.key)
        self._outages[which] += 1
        wait_s = error.retry_after_s or _back_off(self._outages[which], claim)
        if self._outages[which] == 1:
            self._report("work.waits", kind=claim.kind, key=claim.key, error=str(error))
        await self._work.give_back(claim, due_in_s=wait_s, error=str(error))

    async def _overtaken(self, claim: Claim, error: ConflictError) -> None:
        """Look again soon: somebody else wrote first, and so got on.

        Among many who want the same row one may lose often; whoever always loses is at fault.
        """
        which = (claim.kind, claim.key)
        self._conflicts[which] += 1
        tries = self._conflicts[which]
        wait_s = min(CONFLICT_S_MAX, _SOON_S * 2 ** min(tries, 10)) * _chance(claim)
        is_normal = tries <= CONFLICTS_MAX
        await self._work.give_back(claim, due_in_s=wait_s, error=str(error), progress=is_normal)

    async def _failed(self, claim: Claim, error: Exception) -> None:
        self._report_failure(claim, error)
        wait_s = _back_off(claim.attempts, claim)
        await self._work.give_back(claim, due_in_s=wait_s, error=_sentence(error), progress=False)

    def _report_failure(self, claim: Claim, error: Exception) -> None:
        self._report(
            "work.failed",
            kind=claim.kind,
            key=claim.key,
            attempts=claim.attempts,
            error=_sentence(error),
            exc_info=error,
        )

    async def _give_up(self, claim: Claim) -> None:
        """Give an object up; a failure of that is a loss, so that it is tried again, no look."""
        is_failing = claim.attempts > ATTEMPTS_MAX
        unsaid = "It stopped us again and again without saying why."
        error = (is_failing and claim.error) or unsaid
        self._report("work.stuck", kind=claim.kind, key=claim.key, error=error)
        try:
            await self._on_stuck(claim.kind, claim.key, error)
        except Exception as failure:  # noqa: BLE001  tried again
            self._report_failure(claim, failure)
            await self._work.drop(claim)
        else:
            await self._work.give_back(claim, due_in_s=None, error=error)

    # What was left behind

    async def _rescue(self) -> None:
        """Take over what dead replicas owned."""
        while True:
            try:
                count = await self._work.take_over() if self._left_s() > 0 else 0
            except Exception as error:  # noqa: BLE001  tried again
                self._report("rescue.failed", error=_sentence(error))
            else:
                if count:
                    self._report("work.taken_over", count=count)
            await self._clock.sleep(self._clocks.poll_s)

    async def _sweep(self) -> None:
        """Return rows that we own for two beats although nothing of ours works on them."""
        idle: Mapping[_Hold, Claim] = {}
        while True:
            await self._clock.sleep(self._clocks.beat_s)
            try:
                idle = await self._orphans(idle)
            except LostLease:
                idle = {}
            except Exception as error:  # noqa: BLE001  tried again
                self._report("sweep.failed", error=_sentence(error))

    async def _orphans(self, before: Mapping[_Hold, Claim]) -> Mapping[_Hold, Claim]:
        """Drop what was idle before and is; return what is idle and was not."""
        idle = {
            (claim.kind, claim.key, claim.fence): claim
            for claim in await self._work.owned(self._replica)
            if (claim.kind, claim.key) not in self._looks
        }
        for hold in idle.keys() & before.keys():
            claim = idle.pop(hold)
            self._report("work.orphaned", kind=claim.kind, key=claim.key)
            await self._work.drop(claim)
        return idle


def _sentence(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _chance(claim: Claim) -> float:
    """Return a number from 0.5 to 1 that spreads objects and is the same for the same claim."""
    return 0.5 + crc32(f"{claim.kind}:{claim.key}:{claim.fence}".encode()) / 2**33


def _back_off(tries: int, claim: Claim) -> float:
    return float(min(BACK_OFF_S_MAX, 2 ** min(tries, 10)) * _chance(claim))
