"""SQLite: one thread that writes and some that read."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection

from adapters.store.transaction import Job, Running, Tx
from core.errors import ConfigError

T = TypeVar("T")

_READERS = 3


class Sqlite:
    """A thread that writes and some that read; a transaction is one trip to a thread.

    Each one that writes is `BEGIN IMMEDIATE`, and every commit is on the disk when it returns
    (`synchronous=FULL`): a chat message or a node's report that was acknowledged must survive a
    power cut, because nobody will send it again.
    """

    def __init__(self, url: sa.URL) -> None:
        if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
            raise ConfigError(
                f"database {url!r}: expected sqlite:///FILE or postgresql+asyncpg://…"
            )
        self._writer = _engine(url, is_reader=False)
        self._reader = _engine(url, is_reader=True)
        self._writing = ThreadPoolExecutor(1, "sqlite-write")
        self._reading = ThreadPoolExecutor(_READERS, "sqlite-read")
        self._turn = asyncio.Lock()
        self._running = Running()

    async def write(self, job: Job[T]) -> tuple[T, Set[str]]:
        """See `Backend.write`."""

        def transact() -> tuple[T, Set[str]]:
            with self._writer.begin() as connection:
                tx = Tx(connection)
                return _driven(job(tx)), tx.bells

        async with self._turn:  # Who is cancelled while waiting here has begun nothing.
            return await self._running.whole(self._in(self._writing, transact))

    async def read(self, query: sa.Executable) -> Sequence[sa.RowMapping]:
        """See `Backend.read`."""
        return await self.snapshot(lambda tx: tx.rows(query))

    async def snapshot(self, job: Job[T]) -> T:
        """See `Backend.snapshot`."""

        def look() -> T:
            with self._reader.begin() as connection:
                return _driven(job(Tx(connection)))

        return await self._running.whole(self._in(self._reading, look))

    def _in(self, threads: ThreadPoolExecutor, call: Callable[[], T]) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(threads, call)

    async def close(self) -> None:
        """See `Backend.close`."""
        await self._running.settle()
        for threads, engine in ((self._writing, self._writer), (self._reading, self._reader)):
            await self._in(threads, engine.dispose)
            threads.shutdown(wait=False)


def _driven(job: Coroutine[Any, Any, T]) -> T:
    """Run a job that awaits nothing but its transaction, here and now."""
    try:
        job.send(None)
    except StopIteration as end:
        return cast("T", end.value)
    job.close()
    raise RuntimeError("a transaction waited for something else than its database")


def _engine(url: sa.URL, *, is_reader: bool) -> sa.Engine:
    engine = sa.create_engine(
        url.set(drivername="sqlite"), pool_size=_READERS if is_reader else 1, max_overflow=0
    )

    @sa.event.listens_for(engine, "connect")
    def _connect(connection: DBAPIConnection, _: object) -> None:
        connection.isolation_level = None  # BEGIN is ours, below.
        cursor = connection.cursor()
        for pragma in (
            "busy_timeout=30000",
            "journal_mode=WAL",
            "synchronous=FULL",
            f"query_only={int(is_reader)}",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN" if is_reader else "BEGIN IMMEDIATE")

    return engine
