"""SQLite in a thread of its own: what waits at the same time is committed together."""

import asyncio
import errno
import logging
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Generic, TypeVar

from agent import disk

log = logging.getLogger(__name__)
T = TypeVar("T")

GROUP_MAX = 256
RESERVE_BYTES = 16 << 20
"""Kept for the write-ahead log, four times what SQLite lets it grow to before it starts anew: what
must be said about a full disk still finds room."""
FULL_WAIT_S = 1.0


class _Operation(Generic[T]):
    """Something to do inside a transaction, and who waits for its result."""

    def __init__(self, do: Callable[[sqlite3.Connection], T]) -> None:
        self._do = do
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[T] = self._loop.create_future()
        self._result: T
        self._error: Exception | None = None

    def attempt(self, connection: sqlite3.Connection) -> None:
        self._result = self._do(connection)

    def fail(self, error: Exception) -> None:
        self._error = error

    def tell(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._settle)
        except RuntimeError:
            log.debug("database.nobody_waits")  # The loop is closed: whoever asked is gone.

    def _settle(self) -> None:
        if self.future.done():
            return
        if self._error is not None:
            self.future.set_exception(self._error)
        else:
            self.future.set_result(self._result)


class Database:
    """One SQLite file and the thread that owns it.

    Args:
        pages_max: Size limit of the file in pages; reaching it is the same as a full disk.
    """

    def __init__(self, path: Path, schema: str, *, pages_max: int) -> None:
        self._path = path
        self._is_full = False
        self._waiting: SimpleQueue[_Operation[object] | None] = SimpleQueue()
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("PRAGMA busy_timeout = 5000")
        self._connection.execute(f"PRAGMA max_page_count = {pages_max}")
        self._connection.executescript(schema)
        disk.reserve_path(path.with_name(f"{path.name}-wal"), RESERVE_BYTES)
        self._thread = threading.Thread(target=self._work, name=f"sqlite {path.name}", daemon=True)
        self._thread.start()

    @property
    def is_full(self) -> bool:
        """Whether writers wait for room now."""
        return self._is_full

    async def do(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Run `operation` in a transaction and return its result when it is on the disk.

        Waits as long as the disk is full. The operation may run more than once, each time from
        the same state; when the caller is cancelled it may still happen.

        Raises:
            sqlite3.Error: Anything but a full disk.
        """
        while True:
            waiting = _Operation(operation)
            self._waiting.put(waiting)  # type: ignore[arg-type]  # The queue holds any result.
            try:
                result = await waiting.future
            except sqlite3.OperationalError as error:
                if not _is_full(error):
                    raise
                self._note(full=True)
                await asyncio.sleep(FULL_WAIT_S)
            else:
                self._note(full=False)
                return result

    async def close(self) -> None:
        """Finish what waits and let go of the file."""
        self._waiting.put(None)
        await asyncio.to_thread(self._thread.join)
        self._connection.close()

    def _note(self, *, full: bool) -> None:
        if full and not self._is_full:
            log.error("spool.full", extra={"path": str(self._path)})
        elif self._is_full and not full:
            log.warning("spool.has_room_again", extra={"path": str(self._path)})
        self._is_full = full

    def _work(self) -> None:
        while (first := self._waiting.get()) is not None:
            group, stop = [first], False
            while not stop and len(group) < GROUP_MAX and not self._waiting.empty():
                following = self._waiting.get()
                if following is None:
                    stop = True
                else:
                    group.append(following)
            self._commit(group)
            if stop:
                return

    def _commit(self, group: list[_Operation[object]]) -> None:
        """Commit all together, or, when one of them fails, each by itself."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for operation in group:
                operation.attempt(self._connection)
            self._connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001  whatever it is belongs to whoever asked
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if len(group) > 1:
                for operation in group:
                    self._commit([operation])
                return
            group[0].fail(error)
        for operation in group:
            operation.tell()


def _is_full(error: sqlite3.OperationalError) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code == sqlite3.SQLITE_FULL or (
        code == sqlite3.SQLITE_IOERR
        and isinstance(error.__cause__, OSError)
        and error.__cause__.errno == errno.ENOSPC
    )
