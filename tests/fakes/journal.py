"""The durable memory of a node about its sessions, in SQLite: a twin of the node agent's own."""

import asyncio
import json
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.driver import Cursor
from core.ids import SessionId
from core.wire import SessionEvent, from_json, to_json

TABLES = """
CREATE TABLE IF NOT EXISTS event (
    session TEXT NOT NULL, offset INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (session, offset)
) STRICT;
CREATE TABLE IF NOT EXISTS cursor (
    session TEXT NOT NULL PRIMARY KEY, generation INTEGER NOT NULL, offset INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS note (
    session TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (session, key)
) STRICT;
"""


class FakeJournal:
    """`repeated` counts the events that were stored before: there must be none.

    `after_notes` is awaited before notes that were read are returned.
    """

    def __init__(self, path: Path | str = ":memory:") -> None:
        self._db = sqlite3.connect(path, isolation_level=None, timeout=30)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(TABLES)
        self.repeated = 0
        self.changed = asyncio.Event()
        self.after_notes: asyncio.Event | None = None

    def close(self) -> None:
        self._db.close()

    async def cursor(self, session: SessionId) -> Cursor:
        query = "SELECT generation, offset FROM cursor WHERE session = ?"
        row = self._db.execute(query, (session,)).fetchone()
        return (row[0], row[1]) if row else (0, 0)

    async def store(
        self, session: SessionId, events: Sequence[SessionEvent], *, cursor: Cursor
    ) -> None:
        rows = [(session, event.offset, json.dumps(to_json(event))) for event in events]
        self._db.execute("BEGIN IMMEDIATE")
        before = self._db.total_changes
        self._db.executemany("INSERT OR IGNORE INTO event VALUES (?, ?, ?)", rows)
        self.repeated += len(rows) - (self._db.total_changes - before)
        self._db.execute("INSERT OR REPLACE INTO cursor VALUES (?, ?, ?)", (session, *cursor))
        self._db.execute("COMMIT")
        self.changed.set()

    async def note(self, session: SessionId, key: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO note VALUES (?, ?, ?)", (session, key, value))

    async def notes(self, session: SessionId) -> Mapping[str, str]:
        query = "SELECT key, value FROM note WHERE session = ?"
        found = dict(self._db.execute(query, (session,)).fetchall())
        if self.after_notes is not None:
            await self.after_notes.wait()
        return found

    async def begin_anew(self, session: SessionId) -> None:
        self._db.execute("DELETE FROM cursor WHERE session = ?", (session,))
        query = "DELETE FROM note WHERE session = ? AND key NOT LIKE 'host.%'"
        self._db.execute(query, (session,))

    # What tests look at.

    def events(self, session: str) -> list[SessionEvent]:
        query = "SELECT body FROM event WHERE session = ? ORDER BY offset"
        return [
            from_json(SessionEvent, json.loads(body))
            for (body,) in self._db.execute(query, (session,))
        ]

    def of(self, session: str, kind: str) -> list[dict[str, Any]]:
        return [event.data for event in self.events(session) if event.kind == kind]
