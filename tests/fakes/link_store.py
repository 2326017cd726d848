"""A `LinkStore` and `Enrolment` on a SQLite file, with levers. Survives a kill like a real one."""

import asyncio
import hashlib
import json
import secrets
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from core.ids import NodeId, ReplicaId
from core.wire import (
    Credential,
    CredentialRequest,
    Hello,
    NodeStatus,
    Order,
    Report,
    encode_body,
    from_json,
)

SCHEMA = """
CREATE TABLE IF NOT EXISTS node (
    id TEXT PRIMARY KEY, token TEXT UNIQUE, next_token TEXT, replica TEXT, spool TEXT,
    received INTEGER DEFAULT 0,
    delivered INTEGER DEFAULT 0, beats INTEGER DEFAULT 0, hello TEXT);
CREATE TABLE IF NOT EXISTS enrolment (token TEXT PRIMARY KEY, node TEXT, spent TEXT);
CREATE TABLE IF NOT EXISTS orders (
    node TEXT, seq INTEGER, id TEXT, body TEXT, answer TEXT, PRIMARY KEY (node, seq));
CREATE TABLE IF NOT EXISTS received (
    n INTEGER PRIMARY KEY, node TEXT, spool TEXT, seq INTEGER, kind TEXT, body TEXT);
CREATE TABLE IF NOT EXISTS dead (node TEXT, seq INTEGER, kind TEXT, body TEXT, reason TEXT);
"""


def hashed(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


class SqlLinkStore:
    """Keeps all that the link tells it.

    Levers: `fail[method]` how often a method fails next; `delay_s[method]` how long it takes;
    `poison` reports with this text in them can never be taken; `credentials` what is answered.
    `beats` of a node are those of its newest connection.
    """

    def __init__(self, path: Path | str = ":memory:") -> None:
        self.db = sqlite3.connect(path, isolation_level=None, timeout=10, check_same_thread=False)
        if str(path) != ":memory:":
            self.db.execute("PRAGMA journal_mode = WAL")
            self.db.execute("PRAGMA synchronous = NORMAL")
        self.db.executescript(SCHEMA)
        self.fail: dict[str, int] = {}
        self.delay_s: dict[str, float] = {}
        self.poison = ""
        self.credentials: dict[str, Credential] = {}
        self.asked: list[CredentialRequest] = []
        self.statuses: dict[NodeId, NodeStatus] = {}
        self.log: list[str] = []
        self._changed: dict[NodeId, asyncio.Event] = {}

    # Arranging

    def add_node(self, node: str) -> str:
        token = secrets.token_urlsafe(24)
        self.db.execute("INSERT INTO node (id, token) VALUES (?, ?)", (node, hashed(token)))
        return token

    def add_enrolment(self, node: str) -> str:
        token = secrets.token_urlsafe(24)
        self.db.execute("INSERT INTO enrolment (token, node) VALUES (?, ?)", (hashed(token), node))
        return token

    def add_order(self, node: str, order: Order) -> int:
        (seq,) = self.db.execute(
            "INSERT INTO orders (node, seq, id, body) VALUES "
            "(?1, (SELECT coalesce(max(seq), 0) + 1 FROM orders WHERE node = ?1), ?2, ?3) "
            "RETURNING seq",
            (node, order.id, encode_body(order)),
        ).fetchone()
        self._event(NodeId(node)).set()
        return int(seq)

    # Asserting

    def bodies(self, kind: str) -> list[dict[str, object]]:
        rows = self.db.execute("SELECT body FROM received WHERE kind = ? ORDER BY n", (kind,))
        return [json.loads(body) for (body,) in rows]

    def answers(self) -> dict[str, dict[str, object]]:
        rows = self.db.execute("SELECT id, answer FROM orders WHERE answer IS NOT NULL")
        return {id_: json.loads(answer) for id_, answer in rows}

    def dead(self) -> list[tuple[object, ...]]:
        return self.db.execute("SELECT * FROM dead").fetchall()

    # LinkStore

    async def node_by_token(self, token: str) -> NodeId | None:
        await self._lever("node_by_token")
        self.db.execute(
            "UPDATE node SET token = next_token, next_token = NULL WHERE next_token = ?",
            (hashed(token),),
        )
        row = self.db.execute("SELECT id FROM node WHERE token = ?", (hashed(token),)).fetchone()
        return NodeId(row[0]) if row else None

    async def connected(self, node: NodeId, hello: Hello, *, replica: ReplicaId) -> int:
        await self._lever("connected")
        self.log.append(f"connected {node}")
        self.db.execute(
            "UPDATE node SET replica = ?2, hello = ?4, beats = 0, "
            "received = CASE WHEN spool IS ?3 THEN received ELSE 0 END, spool = ?3 WHERE id = ?1",
            (node, replica, hello.spool, encode_body(hello)),
        )
        row = self.db.execute("SELECT received FROM node WHERE id = ?", (node,)).fetchone()
        return int(row[0])

    async def beat(self, node: NodeId, status: NodeStatus) -> None:
        await self._lever("beat")
        self.statuses[node] = status
        self.db.execute("UPDATE node SET beats = beats + 1 WHERE id = ?", (node,))

    async def disconnected(self, node: NodeId, *, replica: ReplicaId) -> None:
        await self._lever("disconnected")
        self.log.append(f"disconnected {node}")
        self.db.execute(
            "UPDATE node SET replica = NULL WHERE id = ? AND replica = ?", (node, replica)
        )

    async def pending(self, node: NodeId, *, after: int) -> Sequence[tuple[int, Order]]:
        await self._lever("pending")
        rows = self.db.execute(
            "SELECT seq, body FROM orders WHERE node = ? AND seq > ? AND answer IS NULL "
            "ORDER BY seq LIMIT 200",
            (node, after),
        )
        return [(seq, from_json(Order, json.loads(body))) for seq, body in rows]

    async def delivered(self, node: NodeId, *, up_to: int) -> None:
        await self._lever("delivered")
        self.db.execute("UPDATE node SET delivered = max(delivered, ?) WHERE id = ?", (up_to, node))

    async def received(self, node: NodeId, seq: int, message: Report) -> None:
        await self._lever("received")
        body = encode_body(message)
        if self.poison and self.poison in body:
            raise ValueError("poisoned")
        self._take(
            node,
            seq,
            "INSERT INTO received (node, spool, seq, kind, body) "
            "SELECT id, spool, ?2, ?3, ?4 FROM node WHERE id = ?1",
            message.TYPE,
            body,
        )

    async def dead_letter(
        self, node: NodeId, seq: int, *, kind: str, body: str, reason: str
    ) -> None:
        await self._lever("dead_letter")
        self._take(node, seq, "INSERT INTO dead VALUES (?1, ?2, ?3, ?4, ?5)", kind, body, reason)

    def _take(self, node: NodeId, seq: int, statement: str, kind: str, *values: str) -> None:
        self.db.execute("BEGIN IMMEDIATE")
        moved = self.db.execute(
            "UPDATE node SET received = ?2 WHERE id = ?1 AND received < ?2", (node, seq)
        )
        if moved.rowcount:
            self.db.execute(statement, (node, seq, kind, *values))
            if kind == "order_answer":
                order = json.loads(values[0])["order"]
                self.db.execute(
                    "UPDATE orders SET answer = ? WHERE node = ? AND id = ? AND answer IS NULL",
                    (values[0], node, order),
                )
        self.db.execute("COMMIT")

    async def credential(self, node: NodeId, request: CredentialRequest) -> Credential:
        await self._lever("credential")
        self.asked.append(request)
        found = self.credentials.get(request.workspace)
        if found is None:
            return Credential(number=request.number, code="not_found", text="no such workspace")
        return Credential(number=request.number, username=found.username, password=found.password)

    async def wait(self, node: NodeId) -> None:
        """Wakes by the event in this process, by a short poll for writers outside of it."""
        await self._lever("wait")
        event = self._event(node)
        try:
            async with asyncio.timeout(0.1):
                await event.wait()
        except TimeoutError:
            return
        event.clear()

    # Enrolment

    async def redeem(
        self, token: str, *, token_hash: str, name: str, cpus: float, memory_mb: int
    ) -> NodeId | None:
        await self._lever("redeem")
        row = self.db.execute(
            "UPDATE enrolment SET spent = ?2 WHERE token = ?1 AND coalesce(spent, ?2) = ?2 "
            "RETURNING node",
            (hashed(token), token_hash),
        ).fetchone()
        if row is None:
            return None
        values = (row[0], token_hash)
        self.db.execute("INSERT OR IGNORE INTO node (id, token) VALUES (?, ?)", values)
        return NodeId(row[0])

    async def renew(self, token: str) -> str | None:
        await self._lever("renew")
        fresh = secrets.token_urlsafe(24)
        changed = self.db.execute(
            "UPDATE node SET next_token = ? WHERE token = ?", (hashed(fresh), hashed(token))
        )
        return fresh if changed.rowcount else None

    def _event(self, node: NodeId) -> asyncio.Event:
        return self._changed.setdefault(node, asyncio.Event())

    async def _lever(self, method: str) -> None:
        if method in self.delay_s:
            await asyncio.sleep(self.delay_s[method])
        if self.fail.get(method, 0) > 0:
            self.fail[method] -= 1
            raise OSError(f"{method} fails now")
