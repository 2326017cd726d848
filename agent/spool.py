"""What a node must not forget: reports not yet acknowledged, orders, fences, session journals.

SQLite in WAL mode with `synchronous=FULL`: an acknowledgement leaves only after the disk has what
it is about. With NORMAL a power cut could take back reports whose numbers the control plane has
seen already, and it would ignore the next ones under those numbers. What waits at the same time
shares one transaction, so the price is one flush per group.
"""

import asyncio
import json
import logging
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from sqlite3 import Connection

from agent.cut import cut
from agent.database import Database
from core.ids import OrderId, SessionId
from core.wire import (
    FRAME_BYTES_MAX,
    Order,
    OrderAnswer,
    Report,
    SessionEvent,
    SessionEvents,
    encode_body,
    from_json,
)

log = logging.getLogger(__name__)

BATCH_BYTES = 256 * 1024
"""Events of one session travel in batches of about this size."""
EVENT_BYTES_MAX = FRAME_BYTES_MAX // 4
"""A longer event is cut: it must pass a slow line between two signs of life."""
ANSWERS_KEPT = 10_000
"""A repeated order gets the same answer as long as fewer newer ones were answered."""
PAGES_MAX = 262_144
"""1 GiB of 4 KiB pages: about a week of one busy session without a control plane."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS fact (
    name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS report (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, body TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS "order" (
    id TEXT NOT NULL PRIMARY KEY, seq INTEGER NOT NULL, object TEXT NOT NULL,
    fence INTEGER NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL, answer TEXT) STRICT;
CREATE INDEX IF NOT EXISTS order_open ON "order" (seq) WHERE answer IS NULL;
CREATE INDEX IF NOT EXISTS order_seq ON "order" (seq) WHERE answer IS NOT NULL;
CREATE TABLE IF NOT EXISTS fence (
    object TEXT NOT NULL PRIMARY KEY, fence INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS journal (
    session TEXT NOT NULL PRIMARY KEY, generation INTEGER NOT NULL, position INTEGER NOT NULL,
    offset_max INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS note (
    session TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (session, name)) STRICT, WITHOUT ROWID;
"""


class Spool:
    """The durable memory of a node agent; also the `Journal` of its sessions.

    When the disk is full a writer waits until there is room again, which holds up the session or
    the link behind it; nothing is thrown away.

    Attributes:
        folder: Where its file is, the node's state folder.
        name: Random; made with the file. It tells the control plane whose numbers these are.
        received: Highest `seq` of the control plane that is stored here.
        reports_added: Set when there is a new report; whoever sends them clears it.
        orders_added: Set when there is a new order; whoever does them clears it.
    """

    def __init__(self, path: Path, *, pages_max: int = PAGES_MAX) -> None:
        self.folder = path.parent
        self._database = Database(path, SCHEMA, pages_max=pages_max)
        self.name = ""
        self.received = 0
        self.reports_added = asyncio.Event()
        self.orders_added = asyncio.Event()

    async def open(self) -> None:
        """Read what is there."""

        def read(db: Connection) -> tuple[str, int]:
            db.execute(
                "INSERT OR IGNORE INTO fact VALUES ('name', ?), ('received', '0')",
                (secrets.token_hex(8),),
            )
            facts = dict(db.execute("SELECT name, value FROM fact").fetchall())
            return facts["name"], int(facts["received"])

        self.name, self.received = await self._database.do(read)

    async def tidy(self, *, kept: Collection[SessionId], noted: str) -> None:
        """Let go of answers that nobody will ask for again, and of sessions that are over.

        Those are neither `kept` nor have a note of the name `noted` with something in it.
        """
        names = json.dumps(list(kept))

        def write(db: Connection) -> None:
            db.execute(
                'DELETE FROM "order" WHERE answer IS NOT NULL AND seq <= '
                '(SELECT seq FROM "order" WHERE answer IS NOT NULL '
                "ORDER BY seq DESC LIMIT 1 OFFSET ?)",
                (ANSWERS_KEPT,),
            )
            for table in ("journal", "note"):
                db.execute(
                    f"DELETE FROM {table} WHERE session NOT IN (SELECT value FROM json_each(?)) "  # noqa: S608
                    "AND session NOT IN (SELECT session FROM note WHERE name = ? AND value <> '')",
                    (names, noted),
                )

        await self._database.do(write)

    async def close(self) -> None:
        """Let go of the file."""
        await self._database.close()

    @property
    def is_full(self) -> bool:
        """Whether writers wait for room on the disk."""
        return self._database.is_full

    # Reports

    async def put(self, report: Report) -> None:
        """Keep a report until the control plane has stored it."""
        await self._database.do(lambda db: _add(db, report))
        self.reports_added.set()

    async def put_once(self, name: str, report: Report) -> None:
        """Keep a report, unless one was kept under this name since the name was last forgotten."""

        def write(db: Connection) -> None:
            made = db.execute("INSERT OR IGNORE INTO fact VALUES (?, '')", (f"once:{name}",))
            if made.rowcount:
                _add(db, report)

        await self._database.do(write)
        self.reports_added.set()

    async def forget(self, name: str) -> None:
        """Let `put_once` keep another report under this name."""
        await self._database.do(
            lambda db: db.execute("DELETE FROM fact WHERE name = ?", (f"once:{name}",)).rowcount
        )

    async def reports(self, *, after: int, bytes_max: int) -> Sequence[tuple[int, str, str]]:
        """Return reports above `after` in order, at least one if there is one: seq, kind, body."""

        def read(db: Connection) -> list[tuple[int, str, str]]:
            rows = db.execute(
                "SELECT seq, kind, body FROM report WHERE seq > ? ORDER BY seq LIMIT 256", (after,)
            )
            found: list[tuple[int, str, str]] = []
            size = 0
            for seq, kind, body in rows:
                if found and size + len(body) > bytes_max:
                    break
                found.append((seq, kind, body))
                size += len(body)
            return found

        return await self._database.do(read)

    async def acknowledged(self, seq: int) -> None:
        """Forget the reports up to `seq`: the control plane has them."""
        await self._database.do(
            lambda db: db.execute("DELETE FROM report WHERE seq <= ?", (seq,)).rowcount
        )

    async def highest(self) -> int:
        """Return the highest number that a report ever had."""

        def read(db: Connection) -> int:
            row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'report'").fetchone()
            return int(row[0]) if row else 0

        return await self._database.do(read)

    async def rename(self) -> None:
        """Take a new name: the control plane knows numbers of this one that we do not."""
        name = secrets.token_hex(8)
        await self._database.do(
            lambda db: db.execute("UPDATE fact SET value = ? WHERE name = 'name'", (name,)).rowcount
        )
        self.name = name

    # Orders

    async def accept(self, orders: Sequence[tuple[int, Order | None]]) -> None:
        """Keep orders with their `seq`; None for one that could not be read.

        A repeated id gets its answer again. A fence below the highest of its object is refused.
        """
        highest = max(self.received, *(seq for seq, _ in orders))

        def write(db: Connection) -> None:
            for seq, order in orders:
                if order is not None:
                    _accept(db, seq, order)
            db.execute("UPDATE fact SET value = ? WHERE name = 'received'", (str(highest),))

        await self._database.do(write)
        self.received = highest
        self.orders_added.set()
        self.reports_added.set()

    async def settle(self) -> None:
        """Learn also of orders that were kept although the link that brought them had ended."""

        def read(db: Connection) -> int:
            row = db.execute("SELECT value FROM fact WHERE name = 'received'").fetchone()
            return int(row[0])

        self.received = await self._database.do(read)
        self.orders_added.set()

    async def unanswered(self, *, after: int) -> Sequence[tuple[int, Order]]:
        """Return the orders above `after` that have no answer, oldest first."""

        def read(db: Connection) -> list[tuple[int, Order]]:
            rows = db.execute(
                'SELECT seq, id, object, fence, kind, body FROM "order" '
                "WHERE answer IS NULL AND seq > ? ORDER BY seq",
                (after,),
            )
            return [
                (
                    seq,
                    Order(
                        id=OrderId(id_),
                        object=about,
                        fence=fence,
                        kind=kind,
                        body=json.loads(body),
                    ),
                )
                for seq, id_, about, fence, kind, body in rows
            ]

        return await self._database.do(read)

    async def answer(self, answer: OrderAnswer) -> None:
        """Keep the end of an order and report it, together; the first answer stays."""

        def write(db: Connection) -> None:
            changed = db.execute(
                'UPDATE "order" SET answer = ? WHERE id = ? AND answer IS NULL',
                (encode_body(answer), answer.order),
            )
            if changed.rowcount:
                _add(db, answer)

        await self._database.do(write)
        self.reports_added.set()

    # Sessions

    async def cursor(self, session: SessionId) -> tuple[int, int]:
        """See `Journal.cursor`."""

        def read(db: Connection) -> tuple[int, int]:
            row = db.execute(
                "SELECT generation, position FROM journal WHERE session = ?", (session,)
            ).fetchone()
            return (row[0], row[1]) if row else (0, 0)

        return await self._database.do(read)

    async def store(
        self, session: SessionId, events: Sequence[SessionEvent], *, cursor: tuple[int, int]
    ) -> None:
        """See `Journal.store`: the events become reports in the cursor's transaction."""
        encoded = [(event.offset, _encode(event)) for event in events]

        def write(db: Connection) -> None:
            row = db.execute(
                "SELECT offset_max FROM journal WHERE session = ?", (session,)
            ).fetchone()
            known = row[0] if row else -1
            new = [text for offset, text in encoded if offset > known]
            for batch in _batches(new):
                body = f'{{"session":{json.dumps(session)},"events":[{",".join(batch)}]}}'
                _insert(db, SessionEvents.TYPE, body)
            highest = max((offset for offset, _ in encoded), default=known)
            values = (session, *cursor, max(known, highest))
            db.execute("INSERT OR REPLACE INTO journal VALUES (?, ?, ?, ?)", values)

        await self._database.do(write)
        self.reports_added.set()

    async def note(self, session: SessionId, key: str, value: str) -> None:
        """See `Journal.note`."""
        value = value.encode("utf-8", "replace").decode()  # SQLite takes no half surrogate pair.
        await self._database.do(
            lambda db: (
                db.execute(
                    "INSERT OR REPLACE INTO note VALUES (?, ?, ?)", (session, key, value)
                ).rowcount
            )
        )

    async def notes(self, session: SessionId) -> Mapping[str, str]:
        """See `Journal.notes`."""
        return await self._database.do(
            lambda db: dict(
                db.execute("SELECT name, value FROM note WHERE session = ?", (session,)).fetchall()
            )
        )

    async def begin_anew(self, session: SessionId) -> None:
        """See `Journal.begin_anew`."""

        def write(db: Connection) -> None:
            db.execute("DELETE FROM journal WHERE session = ?", (session,))
            db.execute("DELETE FROM note WHERE session = ? AND name NOT LIKE 'host.%'", (session,))

        await self._database.do(write)

    async def noted(self, key: str) -> Mapping[SessionId, str]:
        """Return what each session noted under `key`, except for empty notes."""
        return await self._database.do(
            lambda db: dict(
                db.execute(
                    "SELECT session, value FROM note WHERE name = ? AND value <> ''", (key,)
                ).fetchall()
            )
        )


def _add(db: Connection, report: Report) -> None:
    _insert(db, report.TYPE, encode_body(report))


def _insert(db: Connection, kind: str, body: str) -> None:
    db.execute("INSERT INTO report (kind, body) VALUES (?, ?)", (kind, body))


def _encode(event: SessionEvent) -> str:
    text = encode_body(event)
    if len(text) <= EVENT_BYTES_MAX // 4 or len(text.encode()) <= EVENT_BYTES_MAX:
        return text
    return encode_body(cut(event, bytes_max=EVENT_BYTES_MAX))


def _batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Split in order so that each batch is about `BATCH_BYTES` at most, or one event."""
    batch: list[str] = []
    size = 0
    for text in texts:
        if batch and size + len(text) > BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += len(text)
    if batch:
        yield batch


def _accept(db: Connection, seq: int, order: Order) -> None:
    known = db.execute('SELECT answer FROM "order" WHERE id = ?', (order.id,)).fetchone()
    if known is not None:
        if known[0] is not None:
            _add(db, from_json(OrderAnswer, json.loads(known[0])))
        return
    row = db.execute("SELECT fence FROM fence WHERE object = ?", (order.object,)).fetchone()
    body = json.dumps(order.body)
    values = (order.id, seq, order.object, order.fence, order.kind, body)
    db.execute('INSERT INTO "order" VALUES (?, ?, ?, ?, ?, ?, NULL)', values)
    if row is None or row[0] <= order.fence:
        db.execute("INSERT OR REPLACE INTO fence VALUES (?, ?)", (order.object, order.fence))
        return
    refused = OrderAnswer(
        order=order.id,
        ok=False,
        code="stale_fence",
        text=f"{order.object} was claimed again (fence {row[0]}, this order has {order.fence})",
    )
    db.execute('UPDATE "order" SET answer = ? WHERE id = ?', (encode_body(refused), order.id))
    _add(db, refused)
