"""Our database and the wake-ups that go with it, the same for SQLite and PostgreSQL."""

import asyncio
import secrets
from collections.abc import Sequence, Set
from typing import Protocol, TypeVar

import sqlalchemy as sa

from adapters.store.faults import translated
from adapters.store.sqlite import Sqlite
from adapters.store.transaction import Job

T = TypeVar("T")


class Bells:
    """Wake-ups inside of this process. A bell that rings while nobody waits is heard later."""

    def __init__(self) -> None:
        self._bells: dict[str, asyncio.Event] = {}

    def ring(self, *names: str) -> None:
        """Wake who waits for one of these names, now or next."""
        for name in names:
            self._bells.setdefault(name, asyncio.Event()).set()

    def ring_all(self) -> None:
        """Wake everybody: something may have been missed."""
        self.ring(*self._bells)

    async def wait(self, name: str, *, limit_s: float) -> None:
        """Wait for one ring, at most `limit_s` seconds."""
        bell = self._bells.setdefault(name, asyncio.Event())
        try:
            async with asyncio.timeout(limit_s):
                await bell.wait()
        except TimeoutError:
            return
        bell.clear()


class Backend(Protocol):
    """One kind of database. What began runs to its end although the caller is cancelled."""

    async def write(self, job: Job[T]) -> tuple[T, Set[str]]:
        """Run a job in one transaction; return its result and what is to ring."""
        ...

    async def read(self, query: sa.Executable) -> Sequence[sa.RowMapping]:
        """Return the rows of a query."""
        ...

    async def snapshot(self, job: Job[T]) -> T:
        """Run a job in one transaction that reads and sees nothing of later commits."""
        ...

    async def close(self) -> None:
        """Let what runs end, and close all connections."""
        ...


class Database:
    """A database with one way to write and one to read.

    Args:
        command_s: Longest time for one statement on PostgreSQL; None for no limit.

    Attributes:
        session: Name of our LISTEN connection in `pg_stat_activity`.
        is_listening: Whether that connection is there.
        watches_sessions: Whether a replica without such a connection counts as dead.
    """

    def __init__(
        self, url: str, *, watches_sessions: bool = False, command_s: float | None = 30
    ) -> None:
        self.url = sa.make_url(url)
        self.session = f"samovar:{secrets.token_hex(8)}"
        self.is_listening = False
        self.watches_sessions = watches_sessions
        self.bells = Bells()
        self.is_postgresql = self.url.get_backend_name() == "postgresql"
        self._backend = self._opened(command_s)

    def _opened(self, command_s: float | None) -> Backend:
        if not self.is_postgresql:
            return Sqlite(self.url)
        from adapters.store.postgresql import Postgresql  # noqa: PLC0415  SQLite needs no 6 MB of it

        return Postgresql(self.url, command_s)

    async def close(self) -> None:
        """Let what runs end, and close all connections."""
        await self._backend.close()

    async def write(self, job: Job[T]) -> T:
        """Run `job` in one transaction; again when another one was in its way.

        A transaction that began runs to its end although the caller is cancelled: cutting it
        would cost the connection.

        Raises:
            UnavailableError: If the database does not answer; the outcome may be unknown.
        """
        with translated():
            result, bells = await self._backend.write(job)
        self.bells.ring(*bells)
        return result

    async def read(self, query: sa.Executable) -> Sequence[sa.RowMapping]:
        """Return the rows of a query, as they are now.

        Raises:
            UnavailableError: If the database does not answer.
        """
        with translated():
            return await self._backend.read(query)

    async def snapshot(self, job: Job[T]) -> T:
        """Run a job that reads; all that it sees is of one moment.

        Raises:
            UnavailableError: If the database does not answer.
        """
        with translated():
            return await self._backend.snapshot(job)
