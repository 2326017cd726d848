"""How long work stands still when a replica is killed: two replicas on one PostgreSQL.

One replica holds the work, the other waits. The first is killed (SIGKILL); measured until the
other has begun on the first and on the last object. The durations are those of the program; with
`watches_sessions` the lost connection tells, without it the lease of 15 s has to end.
"""

import asyncio
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from adapters.store.migrate import migrate
from adapters.store.store import open_store
from adapters.store.work import SqlWork
from adapters.system import SystemClock, boottime
from core.clocks import Clocks
from core.engine import Engine
from core.ids import ReplicaId
from core.ports.store import Wake
from core.ports.work import Claim
from tests.bench.outside import postgres
from tests.bench.row import ROUNDS, Row, within

OBJECTS = 40
SETTLED_S = 2.5
"""A new replica is not judged by its connection before this."""
SOON_S = 2.0
LEASE_S = Clocks().lease_s
LIMIT_S = 60


async def _live(url: str, log: str, kind: str, name: str, watches: str) -> None:
    """Be a replica that takes what is due of a kind and holds it until it is killed."""

    async def hold(claim: Claim) -> float | None:
        _write(log, at=time.time(), by=name, key=claim.key)
        await asyncio.Event().wait()
        return None

    def report(_: str, /, **__: object) -> None:
        """Nobody reads it."""

    async with open_store(url, watches_sessions=watches == "watches") as store:
        engine = Engine(
            work=SqlWork(store.database),
            clock=SystemClock(),
            clocks=Clocks(),
            reconcilers={kind: hold},
            replica=ReplicaId(name),
            report=report,
            boottime=boottime,
        )
        async with engine.running():
            _write(log, at=time.time(), by=name, key="")
            await asyncio.Event().wait()


def _write(path: str, **line: object) -> None:
    with Path(path).open("a") as file:
        file.write(json.dumps(line) + "\n")


@dataclass(kw_only=True)
class _Pair:
    url: str
    log: Path
    watches: bool
    started: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)

    def lines(self, name: str) -> list[tuple[float, str]]:
        rows = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [(row["at"], row["key"]) for row in rows if row["by"] == name]

    async def start(self, kind: str, name: str) -> None:
        watches = "watches" if self.watches else "leases"
        self.started[name] = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.bench.takeover"),
            *(self.url, str(self.log), kind, name, watches),
        )
        await self.until(name, 1)

    async def until(self, name: str, count: int) -> list[float]:
        """Wait until a replica wrote so many lines; return when each was written."""
        async with asyncio.timeout(LIMIT_S):
            while len(found := self.lines(name)) < count:
                await asyncio.sleep(0.02)
        return [at for at, _ in found]

    async def kill(self, name: str) -> float:
        process = self.started.pop(name)
        at = time.time()
        process.send_signal(signal.SIGKILL)
        await process.wait()
        return at

    async def round(self, number: int) -> tuple[float, float]:
        """Kill the owner; return seconds until the first and the last object."""
        kind, owner, heir = f"job{number}", f"a{number}", f"b{number}"
        async with open_store(self.url) as store:
            await store.commit(*(Wake(kind, f"j{one}") for one in range(OBJECTS)))
        await self.start(kind, owner)
        await self.until(owner, 1 + OBJECTS)
        await self.start(kind, heir)
        await asyncio.sleep(SETTLED_S)
        killed = await self.kill(owner)
        _, *taken = await self.until(heir, 1 + OBJECTS)
        await self.kill(heir)
        return min(taken) - killed, max(taken) - killed

    async def end(self) -> None:
        for name in [*self.started]:
            await self.kill(name)


async def _measure(url: str, *, watches: bool) -> Sequence[tuple[float, float]]:
    await migrate(url)
    folder = Path(tempfile.mkdtemp(prefix="samovar-bench-"))
    (folder / "log").touch()
    pair = _Pair(url=url, log=folder / "log", watches=watches)
    try:
        if watches:
            return [await pair.round(number) for number in range(ROUNDS)]
        return await asyncio.gather(*(pair.round(number) for number in range(ROUNDS)))
    finally:
        await pair.end()
        await asyncio.to_thread(shutil.rmtree, folder)


async def _run() -> Sequence[Row]:
    with postgres() as server:
        watched = await _measure(await server.create(), watches=True)
        leased = await _measure(await server.create(), watches=False)
    firsts, lasts = ([one[part] for one in watched] for part in (0, 1))
    by_lease = [last for _, last in leased]
    return [
        within("take-over, first of 40 objects, connections watched", firsts, SOON_S, unit="s"),
        within("take-over, last of 40, connections watched", lasts, SOON_S, unit="s"),
        within("take-over, last of 40, by lease alone", by_lease, LEASE_S + SOON_S, unit="s"),
    ]


def main() -> Sequence[Row]:
    """Kill one of two replicas, in turn."""
    return asyncio.run(_run())


if __name__ == "__main__":
    asyncio.run(_live(*sys.argv[1:]))
