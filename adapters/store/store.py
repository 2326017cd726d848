"""Port `Store` in SQL."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from adapters.store import changes as writing
from adapters.store.database import Database
from adapters.store.events import number, unnumbered
from adapters.store.journal import Journal
from adapters.store.lock import only_process
from adapters.store.migrate import check
from adapters.store.reader import SqlReader, Unreadable
from adapters.store.rows import shape
from adapters.store.schema import COUNTER, EVENT, MODEL_COST
from adapters.store.transaction import Tx, now_ms
from core.event import Event
from core.ids import OrderId, TaskId
from core.order import NodeOrder
from core.ports.store import Change, Look
from core.ports.work import Claim
from core.wire import SessionEvent

T = TypeVar("T")


class SqlStore(SqlReader):
    """See `Store`."""

    def __init__(self, database: Database) -> None:
        super().__init__(database.read, Unreadable())
        self.database = database
        self.journal = Journal(database)

    @property
    def unreadable(self) -> Mapping[str, int]:
        """How many rows could not be read, by table, since the start."""
        return self._unreadable.counts

    async def snapshot(self, look: Look[T]) -> T:
        """See `Store.snapshot`."""

        async def job(tx: Tx) -> T:
            return await look(SqlReader(tx.rows, self._unreadable))

        return await self.database.snapshot(job)

    async def commit(self, *changes: Change, claim: Claim | None = None) -> None:
        """See `Store.commit`."""

        async def job(tx: Tx) -> None:
            await writing.write(tx, changes, claim)

        await self.database.write(job)

    async def answer_order(
        self,
        order_id: OrderId,
        *,
        ok: bool,
        result: dict[str, Any] | None = None,
        code: str = "",
        text: str = "",
        at: datetime,
    ) -> bool:
        """Answer an open order and wake its subject; False if it was answered or is unknown."""
        values = answered(ok=ok, result=result, code=code, text=text, at=at)
        return await self.database.write(lambda tx: writing.answer(tx, order_id, values))

    async def next_number(self, name: str) -> int:
        """See `Store.next_number`."""

        async def job(tx: Tx) -> int:
            insert = tx.insert(COUNTER).values(name=name, value=1)
            statement = insert.on_conflict_do_update(
                index_elements=["name"], set_={"value": COUNTER.c.value + 1}
            ).returning(COUNTER.c.value)
            return int((await tx.run(statement)).scalar_one())

        return await self.database.write(job)

    async def events(
        self, *, after: int, limit: int, task_id: TaskId | None = None
    ) -> Sequence[Event]:
        """See `Store.events`. The newest are numbered first."""
        if await self.database.read(unnumbered()):
            await self.database.write(number)
        query = sa.select(EVENT).where(EVENT.c.seq > after).order_by(EVENT.c.seq).limit(limit)
        if task_id is not None:
            query = query.where(EVENT.c.task_id == task_id)
        return self.readable(Event, EVENT, await self.database.read(query))

    async def append(self, events: Sequence[SessionEvent]) -> None:
        """See `Store.append`."""
        await self.journal.append(events)

    async def book(
        self, run_id: str, model: str, *, usd_micros: int, tokens: dict[str, int]
    ) -> None:
        """See `Store.book`."""
        amounts = {"usd_micros": usd_micros, **tokens}
        rows = [
            {"run_id": run_id, "model": model, "what": what, "amount": amount}
            for what, amount in sorted(amounts.items())
        ]

        async def job(tx: Tx) -> None:
            insert = tx.insert(MODEL_COST)
            added = MODEL_COST.c.amount + insert.excluded.amount
            key = [column.name for column in MODEL_COST.primary_key]
            await tx.run(
                insert.on_conflict_do_update(index_elements=key, set_={"amount": added}), rows
            )

        await self.database.write(job)

    async def now(self) -> datetime:
        """See `Store.now`."""
        (row,) = await self.database.read(sa.select(now_ms().label("now")))
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=row["now"])


@asynccontextmanager
async def open_store(url: str, *, watches_sessions: bool = False) -> AsyncGenerator[SqlStore]:
    """Open the records at `sqlite:///FILE` or `postgresql+asyncpg://…`.

    Args:
        url: The database.
        watches_sessions: On PostgreSQL, take over from a replica as soon as its connection is
            gone instead of when its lease is over. Not behind a pooler that shares sessions.

    Raises:
        ConfigError: If another process has the file, or the schema is not this version's.
        UnavailableError: If the database does not answer.
    """
    async with AsyncExitStack() as stack:
        database = Database(url, watches_sessions=watches_sessions)
        stack.push_async_callback(database.close)
        if not database.is_postgresql:
            stack.enter_context(only_process(Path(str(database.url.database))))
        await check(database)
        if database.is_postgresql:
            from adapters.store.listen import Listener  # noqa: PLC0415  see `Database`

            group = await stack.enter_async_context(asyncio.TaskGroup())
            listener = Listener(database)
            listening = group.create_task(listener.run(), name="listener")
            stack.callback(listening.cancel)
        yield SqlStore(database)


def answered(
    *, ok: bool, result: dict[str, Any] | None, code: str, text: str, at: datetime
) -> dict[str, Any]:
    """Return the columns of an answered order."""
    values = {"ok": ok, "result": result, "code": code, "text": text, "answered_at": at}
    return {name: shape(NodeOrder).value(name, value) for name, value in values.items()}
