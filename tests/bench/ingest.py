"""How fast events of agent sessions become durable: in groups, against one per transaction.

Both sides of a round write to the same database, SQLite and PostgreSQL with every commit on disk.
"""

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from adapters.store.migrate import migrate
from adapters.store.store import SqlStore, open_store
from core.ids import RunId, SessionId
from core.wire import SessionEvent
from tests.bench.row import ROUNDS, NotRun, Row, told, within
from tests.fakes.postgres import BIN, Postgres

PRODUCERS = 200
EVENTS_A_PRODUCER = 50
ALONE = 300
P99_MS = 30.0
TIMES_FASTER = 15
DATA = {"message": "m-1", "text": "What the coding agent says in one piece of its answer. " * 2}


@asynccontextmanager
async def databases() -> AsyncGenerator[dict[str, str]]:
    """Offer an empty, migrated database of each kind.

    Raises:
        NotRun: If there is no PostgreSQL.
    """
    if not (BIN / "initdb").exists():
        raise NotRun(f"no PostgreSQL in {BIN}: install postgresql-15 or set SAMOVAR_PG_BIN")
    folder = Path(tempfile.mkdtemp(prefix="samovar-bench-"))
    server = await asyncio.to_thread(lambda: Postgres(is_durable=True))
    try:
        urls = {
            "SQLite": f"sqlite:///{folder / 'bench.db'}",
            "PostgreSQL": await server.create(),
        }
        for url in urls.values():
            await migrate(url)
        yield urls
    finally:
        await asyncio.to_thread(server.remove)
        shutil.rmtree(folder)


def main() -> Sequence[Row]:
    """Return time per event against one event a transaction, and how long a producer waits."""
    return asyncio.run(_main())


async def _main() -> Sequence[Row]:
    rows: list[Row] = []
    async with databases() as urls:
        for name, url in urls.items():
            async with open_store(url) as store:
                rows += await _measure(name, store)
    return rows


async def _measure(name: str, store: SqlStore) -> Sequence[Row]:
    grouped, alone, waits = [], [], []
    for number in range(ROUNDS):
        took, waited = await _in_groups(store, f"g{number}")
        grouped.append(took)
        waits.append(sorted(waited)[int(len(waited) * 0.99)])
        alone.append(await _one_by_one(store, f"a{number}"))
    return [
        Row(
            name=f"B13 {name}: an event, {PRODUCERS} producers / one a transaction",
            ours=grouped,
            peer=alone,
            goal=1 / TIMES_FASTER,
        ),
        told(f"{name}: events in a second", [1000 / took for took in grouped], unit="1/s"),
        within(f"B13 {name}: wait p99 at {PRODUCERS} producers", waits, P99_MS),
    ]


async def _in_groups(store: SqlStore, name: str) -> tuple[float, list[float]]:
    """Return milliseconds per event, and how long each wait for durability was."""
    waits: list[float] = []

    async def produce(session: str) -> None:
        for offset in range(EVENTS_A_PRODUCER):
            began = time.perf_counter()
            await store.append([_event(session, offset)])
            waits.append((time.perf_counter() - began) * 1000)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(PRODUCERS):
            group.create_task(produce(f"{name}-{number}"))
    total = (time.perf_counter() - began) * 1000
    return total / (PRODUCERS * EVENTS_A_PRODUCER), waits


async def _one_by_one(store: SqlStore, session: str) -> float:
    began = time.perf_counter()
    for offset in range(ALONE):
        await store.append([_event(session, offset)])
    return (time.perf_counter() - began) * 1000 / ALONE


def _event(session: str, offset: int) -> SessionEvent:
    return SessionEvent(
        session=SessionId(session),
        run=RunId("T-1.1"),
        offset=offset,
        kind="message.text",
        at="2026-01-05T12:00:00+00:00",
        data=DATA,
    )
