"""T6: one periodic job that raises stops no other, each has a heartbeat, and silence is told."""

from collections.abc import Callable

import pytest
import sqlalchemy as sa
import structlog

from adapters.store.schema import WORK
from adapters.store.store import SqlStore
from adapters.store.transaction import Tx
from adapters.store.work import SqlWork
from adapters.system import SystemClock
from bot.pulse import PERIODS, Pulse
from bot.wiring import SWEEPS
from core.clocks import Clocks
from core.engine import Engine, Reconciler
from core.ids import ReplicaId
from core.ports.store import Wake
from core.ports.work import Claim
from tests.fakes.clock import FakeClock
from tests.fakes.serving import until

PERIOD_S = 30.0
LONG_S = PERIODS * PERIOD_S + 1
CLOCKS = Clocks(lease_s=3, beat_s=0.5, poll_s=0.05, sweep_s=PERIOD_S)


def a_pulse(store: SqlStore) -> Pulse:
    return Pulse(
        work=SqlWork(store.database),
        clock=FakeClock(),
        sweeps=SWEEPS,
        period_s=PERIOD_S,
        boottime=float,
    )


def reconcilers(broken: str, looks: list[str]) -> dict[str, Reconciler]:
    def of(kind: str) -> Callable[[Claim], object]:
        async def look(_: Claim) -> float | None:
            looks.append(kind)
            if kind == broken:
                raise ZeroDivisionError(kind)
            return None

        return look

    return {kind: of(kind) for kind in SWEEPS}  # type: ignore[misc]


async def age(store: SqlStore, seconds: float) -> None:
    """Let all looks be so much longer ago."""
    older = sa.update(WORK).values(looked_ms=WORK.c.looked_ms - round(seconds * 1000))

    async def job(tx: Tx) -> None:
        await tx.run(older)

    await store.database.write(job)


@pytest.mark.parametrize("broken", SWEEPS)
async def test_t6_a_sweep_that_raises_stops_no_other_and_its_silence_is_told_once(
    store: SqlStore, broken: str
) -> None:
    looks: list[str] = []
    engine = Engine(
        work=SqlWork(store.database),
        clock=SystemClock(),
        clocks=CLOCKS,
        reconcilers=reconcilers(broken, looks),
        replica=ReplicaId("r"),
        report=lambda *_, **__: None,
    )
    pulse = a_pulse(store)
    async with engine.running():
        await store.commit(*(Wake(kind, "all") for kind in SWEEPS))
        await until(lambda: set(looks) == set(SWEEPS))
        others = set(SWEEPS) - {broken}
        await until(lambda: _has_looked(store, others))
    with structlog.testing.capture_logs() as told:
        await pulse.look(up_s=PERIOD_S)
        assert pulse.silent == set(), "a process that has just begun gives them time"
        await pulse.look(up_s=LONG_S)
        await pulse.look(up_s=LONG_S)
    assert pulse.silent == {broken}
    assert [(line["event"], line["sweep"]) for line in told] == [("sweep.silent", broken)]


async def test_t6_all_fall_silent_when_nothing_fires_them_and_are_heard_again(
    store: SqlStore,
) -> None:
    pulse, work = a_pulse(store), SqlWork(store.database)
    await work.join(ReplicaId("r"), url="", version="", lease_s=3600)
    for _ in range(2):
        await store.commit(*(Wake(kind, "all") for kind in SWEEPS))
        for claim in await work.claim(ReplicaId("r"), SWEEPS, limit=9):
            await work.give_back(claim, due_in_s=None)
        await pulse.look(up_s=10 * LONG_S)
        assert pulse.silent == set()
        await age(store, LONG_S)
        await pulse.look(up_s=10 * LONG_S)
        assert pulse.silent == set(SWEEPS)


async def _has_looked(store: SqlStore, kinds: set[str]) -> bool:
    return set(await SqlWork(store.database).looked(SWEEPS, "all")) == kinds
