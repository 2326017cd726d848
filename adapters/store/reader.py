"""Port `Reader` in SQL."""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from threading import Lock
from typing import Any, TypeVar

import sqlalchemy as sa
import structlog

from adapters.store import changes as writing
from adapters.store.rows import UnreadableRowError, shape
from adapters.store.schema import AGENT_EVENT, MODEL_COST, TABLES
from core.errors import NotFoundError
from core.ids import SessionId
from core.ports.store import N
from core.wire import SessionEvent

log = structlog.get_logger(__name__)

T = TypeVar("T")
Rows = Callable[[sa.Executable], Awaitable[Sequence[sa.RowMapping]]]
"""Executes a query."""


class Unreadable:
    """Rows that could not be read, each reported once. Readers in several threads share it.

    Attributes:
        counts: How many there were, by table.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._known: set[tuple[str, str]] = set()
        self._lock = Lock()

    def report(self, table: str, key: str, error: UnreadableRowError) -> None:
        """Log the row, unless it was before."""
        with self._lock:
            if (table, key) in self._known:
                return
            self._known.add((table, key))
            self.counts[table] += 1
        log.error("row.unreadable", table=table, key=key, error=str(error))


class SqlReader:
    """See `Reader`."""

    def __init__(self, rows: Rows, unreadable: Unreadable) -> None:
        self._rows = rows
        self._unreadable = unreadable

    async def get(self, kind: type[N], key: str) -> N:
        """See `Reader.get`. A row that cannot be read raises `UnreadableRowError`."""
        table = TABLES[kind]
        column = next(iter(table.columns))
        value = shape(kind).value(column.name, key)
        rows = await self._rows(sa.select(table).where(column == value))
        if not rows:
            raise NotFoundError(f"There is no {table.name.replace('_', ' ')} {key}.")
        return shape(kind).read({**rows[0]})

    async def find(
        self,
        kind: type[N],
        /,
        *,
        limit: int | None = None,
        newest_first: bool = False,
        **equal: object,
    ) -> Sequence[N]:
        """See `Reader.find`."""
        table = TABLES[kind]
        query = sa.select(table).where(*writing.matches(table, shape(kind), [*equal.items()]))
        for column in _order(table):
            query = query.order_by(column.desc() if newest_first else column)
        return self.readable(kind, table, await self._rows(query.limit(limit)))

    def readable(
        self, kind: type[T], table: sa.Table, rows: Sequence[sa.RowMapping]
    ) -> Sequence[T]:
        """Return the nouns of these rows; a row that cannot be read is reported and left out."""
        nouns = []
        for row in rows:
            try:
                nouns.append(shape(kind).read({**row}))
            except UnreadableRowError as error:
                key = ":".join(str(row[column.name]) for column in table.primary_key)
                self._unreadable.report(table.name, key, error)
        return nouns

    async def session_events(
        self, session_id: SessionId, *, after: int, limit: int
    ) -> Sequence[SessionEvent]:
        """See `Reader.session_events`."""
        event = AGENT_EVENT.c
        query = (
            sa.select(AGENT_EVENT)
            .where(event.session == session_id, event.offset > after)
            .order_by(event.offset)
            .limit(limit)
        )
        return self.readable(SessionEvent, AGENT_EVENT, await self._rows(query))

    async def spent(self, *run_ids: str) -> Mapping[str, int]:
        """See `Reader.spent`."""
        cost = MODEL_COST.c
        query = (
            sa.select(cost.run_id, sa.func.sum(cost.amount).label("usd_micros"))
            .where(cost.run_id.in_(run_ids), cost.what == "usd_micros")
            .group_by(cost.run_id)
        )
        return {row["run_id"]: int(row["usd_micros"]) for row in await self._rows(query)}


def _order(table: sa.Table) -> list[sa.Column[Any]]:
    """Return what "oldest first" means for a table."""
    names = [name for name in ("created_at", "seq") if name in table.columns]
    return [*(table.c[name] for name in names), *table.primary_key]
