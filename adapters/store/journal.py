"""One writer for what agent sessions do: many callers share a transaction."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from adapters.store import changes as writing
from adapters.store.database import Database
from adapters.store.rows import shape
from adapters.store.schema import AGENT_EVENT, LINK
from adapters.store.transaction import Tx
from core.ports.store import Wake
from core.wire import SessionEvent

_ROWS = 5_000
"""Most events that one transaction takes, so that other writers wait a few milliseconds only."""


@dataclass(slots=True, eq=False)
class _Entry:
    """What one caller wants written."""

    rows: Sequence[dict[str, Any]]
    heard: tuple[str, int] | None
    is_written: bool = False


class Journal:
    """Appends events in groups. Whoever comes first writes for all who came meanwhile.

    A second write of the same event changes nothing, so a group whose writer was cancelled or
    failed is simply written again.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[_Entry] = []
        self._turn = asyncio.Lock()

    async def append(
        self, events: Sequence[SessionEvent], *, heard: tuple[str, int] | None = None
    ) -> None:
        """Store events and return when they are durable.

        Args:
            events: Of any sessions; one that is stored already is left as it is.
            heard: A node and the number of its message that brought the events; stored with
                them, and the runs are woken.
        """
        entry = _Entry([shape(SessionEvent).write(event) for event in events], heard)
        self._waiting.append(entry)
        try:
            async with self._turn:
                while not entry.is_written:
                    await self._write_group()
        finally:
            self._waiting = [other for other in self._waiting if other is not entry]

    async def _write_group(self) -> None:
        group: list[_Entry] = []
        size = 0
        for entry in self._waiting:
            size += len(entry.rows)
            if group and size > _ROWS:
                break
            group.append(entry)
        await self._database.write(lambda tx: _write(tx, group))
        for entry in group:
            entry.is_written = True
        self._waiting = [entry for entry in self._waiting if not entry.is_written]


async def _write(tx: Tx, group: Sequence[_Entry]) -> None:
    rows = [row for entry in group for row in entry.rows]
    if rows:
        rows.sort(key=lambda row: (row["session"], row["offset"]))
        await tx.run(tx.insert(AGENT_EVENT).on_conflict_do_nothing(), rows)
    heard: dict[str, int] = {}
    for entry in group:
        if entry.heard:
            node_id, seq = entry.heard
            heard[node_id] = max(seq, heard.get(node_id, 0))
    for node_id in sorted(heard):
        await note_heard(tx, node_id, heard[node_id])
    runs = {row["run"] for entry in group if entry.heard for row in entry.rows}
    await writing.wake(tx, [Wake("run", run_id) for run_id in runs])


async def note_heard(tx: Tx, node_id: str, seq: int) -> bool:
    """Store how far a node was heard; False if that was stored before."""
    statement = (
        sa.update(LINK).where(LINK.c.node_id == node_id, LINK.c.received < seq).values(received=seq)
    )
    return bool((await tx.run(statement)).rowcount)
