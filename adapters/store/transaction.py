"""One transaction, the same for SQLite and PostgreSQL."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

T = TypeVar("T")

CHANNEL = "samovar"
"""PostgreSQL's channel for `NOTIFY`; the payload is the name of a bell."""
_CLOSE_S = 10


class now_ms(FunctionElement[int]):  # noqa: N801  a function of SQL
    """The database's clock: milliseconds since 1970, going on within a transaction."""

    type = sa.BigInteger()
    inherit_cache = True
    name = "now_ms"


@compiles(now_ms, "postgresql")
def _now_postgresql(*_: Any, **__: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"


@compiles(now_ms, "sqlite")
def _now_sqlite(*_: Any, **__: Any) -> str:
    return "CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER)"


class Tx:
    """One transaction. A job awaits nothing but it.

    Attributes:
        bells: What rings when it is committed, here and at the other replicas.
    """

    def __init__(self, connection: "AsyncConnection | sa.Connection") -> None:
        self._connection = connection
        self.is_postgresql = not isinstance(connection, sa.Connection)
        self.bells: set[str] = set()

    async def run(
        self, statement: sa.Executable, values: Sequence[dict[str, Any]] | None = None
    ) -> sa.CursorResult[Any]:
        """Execute a statement, with many sets of values if they are given."""
        if isinstance(self._connection, sa.Connection):
            return self._connection.execute(statement, values)
        return await self._connection.execute(statement, values)

    async def rows(self, query: sa.Executable) -> Sequence[sa.RowMapping]:
        """Return the rows of a query."""
        return (await self.run(query)).mappings().all()

    async def run_sync(self, job: Callable[[sa.Connection], T]) -> T:
        """Run something that wants a synchronous connection."""
        if isinstance(self._connection, sa.Connection):
            return job(self._connection)
        return await self._connection.run_sync(job)

    def insert(self, table: sa.Table) -> "postgresql.Insert | sqlite.Insert":
        """Return an INSERT that knows ON CONFLICT."""
        return postgresql.insert(table) if self.is_postgresql else sqlite.insert(table)

    async def lock(self, name: str) -> None:
        """Let no other transaction that locks the same name run until this one ends.

        On SQLite there is no other transaction that writes.
        """
        if self.is_postgresql:
            key = sa.func.hashtextextended(f"samovar:{name}", 0)
            await self.run(sa.select(sa.func.pg_advisory_xact_lock(key)))

    async def ring(self) -> None:
        """Tell the other replicas what rings, in this transaction."""
        if self.is_postgresql:
            for name in sorted(self.bells):
                await self.run(sa.select(sa.func.pg_notify(CHANNEL, name)))


Job = Callable[[Tx], Coroutine[Any, Any, T]]
"""What a transaction does. It may be run again from its beginning."""


class Running:
    """What runs and is not cut short."""

    def __init__(self) -> None:
        self._all: set[asyncio.Future[Any]] = set()

    async def whole(self, work: asyncio.Future[T]) -> T:
        """Return what `work` returns; it goes on if the caller is cancelled."""
        self._all.add(work)
        work.add_done_callback(self._ended)
        return await asyncio.shield(work)

    def _ended(self, work: asyncio.Future[Any]) -> None:
        self._all.discard(work)
        if not work.cancelled():
            work.exception()  # Nobody may be left who asks for it.

    async def settle(self) -> None:
        """Let everything end."""
        if self._all:
            await asyncio.wait(self._all, timeout=_CLOSE_S)
