"""Port `LinkStore` in SQL: what the links of nodes need of our records."""

import hashlib
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import sqlalchemy as sa
import structlog

from adapters.store import changes as writing
from adapters.store.journal import note_heard
from adapters.store.rows import clean, shape
from adapters.store.schema import (
    AGENT_SESSION,
    DEAD_LETTER,
    LINK,
    NODE,
    NODE_ORDER,
    NODE_TOKEN,
    TERMINAL,
    WORKSPACE,
)
from adapters.store.store import SqlStore, answered
from adapters.store.transaction import Tx, now_ms
from core.clocks import Clock
from core.ids import NodeId, ReplicaId, RunId, SessionId, TaskId
from core.node import Link
from core.order import NodeOrder
from core.plan.recording import wanted
from core.plan.step import told
from core.ports.store import Touch, Update, Wake
from core.terminal import Terminal, TerminalState
from core.wire import (
    Credential,
    CredentialRequest,
    Hello,
    NodeStatus,
    Order,
    OrderAnswer,
    Report,
    SessionEvents,
    TerminalExited,
    WorkspaceStep,
)
from core.workspace import Workspace

log = structlog.get_logger(__name__)

ORDERS_A_TIME = 200
_POLL_S = 1.0
_SESSIONS = 10_000


def fingerprint(token: str) -> str:
    """Return what is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


class SqlLinkStore:
    """See `LinkStore`. Git credentials come from whoever is given as `credential`."""

    def __init__(
        self,
        store: SqlStore,
        *,
        clock: Clock,
        credential: Callable[[NodeId, CredentialRequest], Awaitable[Credential]],
    ) -> None:
        self._store = store
        self._database = store.database
        self._clock = clock
        self._credential = credential
        self._sessions: dict[SessionId, NodeId] = {}

    async def node_by_token(self, token: str) -> NodeId | None:
        """See `LinkStore.node_by_token`. The first use of a renewed token ends the old one."""
        wanted = fingerprint(token)
        alive = NODE.c.state != "gone"
        known = sa.select(NODE.c.id).where(NODE.c.token_hash == wanted, alive)
        renewed = sa.select(NODE_TOKEN.c.node_id).where(NODE_TOKEN.c.hash == wanted)
        both = sa.union(
            known.add_columns(sa.literal(0).label("is_new")),
            renewed.add_columns(sa.literal(1).label("is_new")),
        )
        rows = await self._database.read(both)
        if not rows:
            return None
        if not rows[0]["is_new"]:
            return NodeId(rows[0]["id"])

        async def job(tx: Tx) -> NodeId | None:
            spent = sa.delete(NODE_TOKEN).where(NODE_TOKEN.c.hash == wanted)
            node_id = (await tx.run(spent.returning(NODE_TOKEN.c.node_id))).scalar()
            if node_id is None:  # Another request with it was faster.
                node_id = (await tx.run(known)).scalar()
                return None if node_id is None else NodeId(node_id)
            statement = (
                sa.update(NODE)
                .where(NODE.c.id == node_id, NODE.c.token_hash != "", alive)
                .values(token_hash=wanted, version=NODE.c.version + 1)
            )
            return NodeId(node_id) if (await tx.run(statement)).rowcount else None

        return await self._database.write(job)

    async def connected(self, node: NodeId, hello: Hello, *, replica: ReplicaId) -> int:
        """See `LinkStore.connected`."""
        row = shape(Link).write(
            Link(
                node_id=node,
                replica=replica,
                spool=hello.spool,
                agent=hello.version,
                seen_at=self._clock.now(),
            )
        )
        told = {name: row[name] for name in ("replica", "spool", "agent", "seen_at")}
        is_known = LINK.c.spool == row["spool"]

        async def job(tx: Tx) -> int:
            statement = (
                tx.insert(LINK)
                .values(row)
                .on_conflict_do_update(
                    index_elements=["node_id"],
                    set_={
                        **told,
                        "received": sa.case((is_known, LINK.c.received), else_=0),
                        "delivered": sa.case((is_known, LINK.c.delivered), else_=0),
                    },
                )
                .returning(LINK.c.received)
            )
            received = int((await tx.run(statement)).scalar_one())
            await writing.wake(tx, [Wake("node", node), Wake("admission", "all")])
            return received

        return await self._database.write(job)

    async def beat(self, node: NodeId, status: NodeStatus) -> None:
        """See `LinkStore.beat`."""
        statement = (
            sa.update(LINK)
            .where(LINK.c.node_id == node)
            .values(
                seen_at=self._clock.now(),
                load=status.load if math.isfinite(status.load) else 0.0,
                memory_free_mb=status.memory_free_mb,
                disk_free_mb=status.disk_free_mb,
            )
        )
        await self._write(statement)

    async def disconnected(self, node: NodeId, *, replica: ReplicaId) -> None:
        """See `LinkStore.disconnected`."""
        statement = (
            sa.update(LINK)
            .where(LINK.c.node_id == node, LINK.c.replica == replica)
            .values(replica=None)
        )

        async def job(tx: Tx) -> None:
            if (await tx.run(statement)).rowcount:
                await writing.wake(tx, [Wake("node", node)])

        await self._database.write(job)

    async def pending(self, node: NodeId, *, after: int) -> Sequence[tuple[int, Order]]:
        """See `LinkStore.pending`. At most `ORDERS_A_TIME`; the next call goes on."""
        order = NODE_ORDER.c
        query = (
            sa.select(NODE_ORDER)
            .where(order.node_id == node, order.seq > after, order.ok.is_(None))
            .order_by(order.seq)
            .limit(ORDERS_A_TIME)
        )
        rows = self._store.readable(NodeOrder, NODE_ORDER, await self._database.read(query))
        return [(row.seq, _order(row)) for row in rows]

    async def delivered(self, node: NodeId, *, up_to: int) -> None:
        """See `LinkStore.delivered`."""
        await self._write(
            sa.update(LINK)
            .where(LINK.c.node_id == node, LINK.c.delivered < up_to)
            .values(delivered=up_to)
        )

    async def received(self, node: NodeId, seq: int, message: Report) -> None:
        """See `LinkStore.received`."""
        if isinstance(message, SessionEvents):
            await self._heard_events(node, seq, message)
            return

        async def job(tx: Tx) -> None:
            if not await note_heard(tx, node, seq):
                return
            if isinstance(message, OrderAnswer):
                await self._heard_answer(tx, node, message)
            elif isinstance(message, TerminalExited):
                await self._heard_exit(tx, node, message)
            else:
                await _heard_step(tx, node, message)

        await self._database.write(job)

    async def _heard_answer(self, tx: Tx, node: NodeId, message: OrderAnswer) -> None:
        known = sa.select(NODE_ORDER.c.id).where(
            NODE_ORDER.c.id == message.order, NODE_ORDER.c.node_id == node
        )
        if (await tx.run(known)).first() is None:
            raise ValueError(f"{node} was never given the order {message.order:.80}")
        values = answered(
            ok=message.ok,
            result=message.result,
            code=message.code,
            text=message.text,
            at=self._clock.now(),
        )
        await writing.answer(tx, message.order, values)

    async def _heard_exit(self, tx: Tx, node: NodeId, message: TerminalExited) -> None:
        """Note how a terminal ended; one that has ended already stays as it is."""
        query = (
            sa.select(TERMINAL, WORKSPACE.c.task_id, AGENT_SESSION.c.run_id)
            .join(WORKSPACE, WORKSPACE.c.id == TERMINAL.c.workspace_id)
            .outerjoin(AGENT_SESSION, AGENT_SESSION.c.id == TERMINAL.c.session_id)
            .where(
                TERMINAL.c.id == message.terminal,
                WORKSPACE.c.id == message.workspace,
                WORKSPACE.c.node_id == node,
            )
            .with_for_update(of=TERMINAL)
        )
        rows = await tx.rows(query)
        if not rows:
            raise ValueError(f"{node} has no terminal {message.terminal:.80}")
        terminal = shape(Terminal).read({**rows[0]})
        if terminal.state is TerminalState.EXITED:
            return
        exited = terminal.moved(
            TerminalState.EXITED,
            at=self._clock.now(),
            exit_code=None if message.text else message.code,
            error=message.text,
        )
        fact = told(
            "terminal.exited",
            f"terminal:{terminal.id}",
            at=exited.state_since,
            task_id=TaskId(rows[0]["task_id"]) or None,
            exit_code=exited.exit_code,
            error=exited.error,
        )
        more = wanted(terminal, at=exited.state_since)
        run_id = rows[0]["run_id"]
        woken = [] if run_id is None else [Wake("run", RunId(run_id))]
        await writing.write(tx, [Update(exited), fact, *more, *woken], None)

    async def _heard_events(self, node: NodeId, seq: int, message: SessionEvents) -> None:
        if await self._node_of(message.session) != node:
            raise ValueError(f"{node} has no session {message.session:.80}")
        if any(event.session != message.session for event in message.events):
            raise ValueError("events of several sessions in one message")
        await self._store.journal.append(message.events, heard=(node, seq))

    async def _node_of(self, session: SessionId) -> NodeId | None:
        """Return the node of a session, which never changes."""
        if session not in self._sessions:
            query = (
                sa.select(WORKSPACE.c.node_id)
                .join(AGENT_SESSION, AGENT_SESSION.c.workspace_id == WORKSPACE.c.id)
                .where(AGENT_SESSION.c.id == session)
            )
            rows = await self._database.read(query)
            if not rows:
                return None
            if len(self._sessions) >= _SESSIONS:
                self._sessions.clear()
            self._sessions[session] = NodeId(rows[0]["node_id"])
        return self._sessions[session]

    async def dead_letter(
        self, node: NodeId, seq: int, *, kind: str, body: str, reason: str
    ) -> None:
        """See `LinkStore.dead_letter`."""

        async def job(tx: Tx) -> None:
            if not await note_heard(tx, node, seq):
                return
            spool = sa.select(LINK.c.spool).where(LINK.c.node_id == node).scalar_subquery()
            row = {"kind": clean(kind), "body": clean(body), "reason": clean(reason)}
            letter = tx.insert(DEAD_LETTER).values(
                node_id=node, spool=spool, seq=seq, at_ms=now_ms(), **row
            )
            await tx.run(letter.on_conflict_do_nothing())

        await self._database.write(job)
        log.error("report.unreadable", node_id=node, seq=seq, kind=kind, reason=reason)

    async def credential(self, node: NodeId, request: CredentialRequest) -> Credential:
        """See `LinkStore.credential`."""
        return await self._credential(node, request)

    async def wait(self, node: NodeId) -> None:
        """See `LinkStore.wait`."""
        await self._database.bells.wait(writing.orders_bell(node), limit_s=_POLL_S)

    async def _write(self, statement: sa.Executable) -> None:
        async def job(tx: Tx) -> None:
            await tx.run(statement)

        await self._database.write(job)


def _order(row: NodeOrder) -> Order:
    return Order(
        id=row.id,
        object=f"{row.subject_kind}:{row.subject}",
        fence=row.fence,
        kind=row.kind,
        body=row.body,
    )


async def _heard_step(tx: Tx, node: NodeId, message: WorkspaceStep) -> None:
    """Note how far a workspace is; a step of an earlier attempt says nothing any more."""
    column = WORKSPACE.c
    query = (
        sa.select(column.steps, column.attempt, column.task_id)
        .where(column.id == message.workspace, column.node_id == node)
        .with_for_update()
    )
    row = (await tx.run(query)).first()
    if row is None:
        raise ValueError(f"{node} has no workspace {message.workspace:.80}")
    if row.attempt != message.attempt:
        return
    field = shape(Workspace).fields["steps"]
    new = {"step": message.step, "state": message.state, "at": message.at, "text": message.text}
    if message.limit_s:
        new |= {"limit_s": f"{message.limit_s:g}", "then": message.then}
    values: dict[str, Any] = {"steps": field.write([*field.read(row.steps), new])}
    await tx.run(
        sa.update(WORKSPACE)
        .where(column.id == message.workspace)
        .values(version=column.version + 1, **values)
    )
    woken = await writing.touch(tx, Touch(TaskId(row.task_id))) if row.task_id else []
    await writing.wake(tx, [*woken, Wake("workspace", message.workspace)])
