"""What is asked of the databases of this process, and a writer that comes in between."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import sqlalchemy as sa

from adapters.store.database import Database
from adapters.store.store import SqlStore
from core.ports.store import Change


@contextmanager
def watched(note: Callable[[str], None]) -> Iterator[None]:
    """Call `note` with each statement of any engine, before it is executed."""

    def before(_: Any, __: Any, statement: str, *___: Any) -> None:
        note(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", before)
    try:
        yield
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", before)


@contextmanager
def queries() -> Iterator[list[str]]:
    """Collect the queries."""
    found: list[str] = []
    with watched(lambda line: found.append(line) if line.startswith("SELECT") else None):
        yield found


@contextmanager
def once_before(part: str, act: Callable[[], None]) -> Iterator[None]:
    """Act right before the first statement that has `part` in it."""
    left = [act]
    with watched(lambda line: left.pop()() if part in line and left else None):
        yield
    assert not left, f"no statement had {part!r} in it"


def commit_elsewhere(url: str, *changes: Change) -> None:
    """Commit as another replica does, while the caller's loop stands still."""

    async def commit() -> None:
        database = Database(url)
        try:
            await SqlStore(database).commit(*changes)
        finally:
            await database.close()

    thread = Thread(target=lambda: asyncio.run(commit()))
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), "a writer waits for a reader"
