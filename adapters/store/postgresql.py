"""PostgreSQL: a pool of connections."""

import asyncio
from collections.abc import Coroutine, Sequence, Set
from typing import Any, TypeVar

import asyncpg  # type: ignore[import-untyped]  # it ships no types
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from adapters.store.faults import RACES, state
from adapters.store.transaction import Job, Running, Tx
from core.errors import ConfigError, UnavailableError

T = TypeVar("T")

_CONNECTIONS = 10
_TRIES = 8
_FROZEN_MS = "5000"
"""How long PostgreSQL lets a silent transaction of ours hold its locks: a replica that is frozen
inside of one would stop all others."""


class Postgresql:
    """A pool of connections. Transactions that get into each other's way are run again."""

    def __init__(self, url: sa.URL, command_s: float | None) -> None:
        if url.get_driver_name() != "asyncpg":
            raise ConfigError(f"database {url!r}: expected postgresql+asyncpg://…")
        self._running = Running()
        self._engine = create_async_engine(
            url,
            pool_size=_CONNECTIONS,
            max_overflow=0,
            pool_timeout=60,
            pool_pre_ping=True,
            connect_args={
                "timeout": 10,
                "command_timeout": command_s,
                "server_settings": {"idle_in_transaction_session_timeout": _FROZEN_MS},
            },
        )

        self._reader = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self._snapshots = self._engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )

    async def write(self, job: Job[T]) -> tuple[T, Set[str]]:
        """See `Backend.write`."""
        return await self._whole(self._write(job))

    async def _write(self, job: Job[T]) -> tuple[T, Set[str]]:
        for attempt in range(1, _TRIES + 1):
            try:
                async with self._engine.begin() as connection:
                    tx = Tx(connection)
                    result = await job(tx)
                    await tx.ring()
            except sa.exc.DBAPIError as error:
                if attempt == _TRIES or state(error) not in RACES:
                    raise
            else:
                return result, tx.bells
        raise AssertionError("unreachable")

    async def read(self, query: sa.Executable) -> Sequence[sa.RowMapping]:
        """See `Backend.read`. One query needs no transaction."""
        return await self._look(self._reader, lambda tx: tx.rows(query))

    async def snapshot(self, job: Job[T]) -> T:
        """See `Backend.snapshot`."""
        return await self._look(self._snapshots, job)

    async def _look(self, engine: AsyncEngine, job: Job[T]) -> T:
        async def look() -> T:
            async with engine.connect() as connection:
                return await job(Tx(connection))

        return await self._whole(look())

    async def _whole(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return await self._running.whole(asyncio.ensure_future(work))
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:  # While it connects.
            raise UnavailableError("The database", f"{type(error).__name__}: {error}") from error

    async def close(self) -> None:
        """See `Backend.close`."""
        await self._running.settle()
        await self._engine.dispose()
