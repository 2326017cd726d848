"""Port `Enrolment` in SQL: one-time tokens become nodes."""

import secrets
from datetime import datetime

import sqlalchemy as sa

from adapters.store import changes as writing
from adapters.store.links import fingerprint
from adapters.store.rows import clean, shape
from adapters.store.schema import NODE, NODE_TOKEN, TICKET
from adapters.store.store import SqlStore
from adapters.store.transaction import Tx
from core.clocks import Clock
from core.ids import NodeId
from core.node import Node, NodeState
from core.ports.store import Wake

_JOINED = "joined"
_NAME_CHARS = 200


class SqlEnrolment:
    """See `Enrolment`."""

    def __init__(self, store: SqlStore, *, clock: Clock) -> None:
        self._database = store.database
        self._clock = clock

    async def redeem(
        self, token: str, *, token_hash: str, name: str, cpus: float, memory_mb: int
    ) -> NodeId | None:
        """See `Enrolment.redeem`. A machine that nobody asked for becomes a node called `name`."""
        now, new = self._clock.now(), NodeId(f"node-{secrets.token_hex(4)}")
        room = {"cpus": cpus, "memory_mb": memory_mb, "token_hash": token_hash}

        async def job(tx: Tx) -> NodeId | None:
            node_id = await self._spend(tx, token, now, new)
            if node_id is None:
                return await _spent_by(tx, token, token_hash)
            if node_id == new:
                await _join(tx, _joined(new, name[:_NAME_CHARS], at=now), room)
            elif not await _adopt(tx, node_id, room):
                return None
            await tx.run(sa.delete(NODE_TOKEN).where(NODE_TOKEN.c.node_id == node_id))
            await writing.wake(tx, [Wake("node", node_id)])
            return node_id

        return await self._database.write(job)

    async def _spend(self, tx: Tx, token: str, now: datetime, new: NodeId) -> NodeId | None:
        """Spend the ticket: one conditional UPDATE, won by one. Return whose it is, else `new`."""
        ticket = TICKET.c
        statement = (
            sa.update(TICKET)
            .where(
                ticket.id == fingerprint(token),
                ticket.kind == "enrol",
                ticket.redeemed_at.is_(None),
                ticket.expires_at > now,
            )
            .values(
                redeemed_at=now,
                node_id=sa.func.coalesce(ticket.node_id, new),
                version=ticket.version + 1,
            )
            .returning(ticket.node_id)
        )
        return (await tx.run(statement)).scalar()

    async def renew(self, token: str) -> str | None:
        """See `Enrolment.renew`."""
        new, wanted = secrets.token_urlsafe(32), fingerprint(token)
        bearer = sa.select(NODE.c.id).where(NODE.c.token_hash == wanted, NODE.c.state != "gone")

        async def job(tx: Tx) -> bool:
            node_id = (await tx.run(bearer)).scalar()
            if node_id is None:
                return False
            row = {"hash": fingerprint(new)}
            insert = tx.insert(NODE_TOKEN).values(node_id=node_id, **row)
            await tx.run(insert.on_conflict_do_update(index_elements=["node_id"], set_=row))
            return True

        return new if await self._database.write(job) else None


def _joined(node_id: NodeId, name: str, *, at: datetime) -> Node:
    return Node(
        id=node_id,
        supplier=_JOINED,
        state=NodeState.BOOTING,
        state_since=at,
        created_at=at,
        server=clean(name),
    )


async def _spent_by(tx: Tx, token: str, token_hash: str) -> NodeId | None:
    """Return the node that a spent ticket made of the machine with this hash, None for others."""
    statement = (
        sa.select(NODE.c.id)
        .join(TICKET, TICKET.c.node_id == NODE.c.id)
        .where(
            TICKET.c.id == fingerprint(token),
            TICKET.c.kind == "enrol",
            TICKET.c.redeemed_at.is_not(None),
            NODE.c.token_hash == token_hash,
            NODE.c.state.not_in(["deleting", "gone"]),
        )
    )
    return (await tx.run(statement)).scalar()


async def _join(tx: Tx, node: Node, room: dict[str, object]) -> None:
    await tx.run(sa.insert(NODE).values({**shape(Node).write(node), **room}))


async def _adopt(tx: Tx, node_id: NodeId, room: dict[str, object]) -> bool:
    """Give a node its token; False when nobody wants the node any more."""
    statement = (
        sa.update(NODE)
        .where(NODE.c.id == node_id, NODE.c.state.not_in(["deleting", "gone"]))
        .values(version=NODE.c.version + 1, **room)
    )
    return bool((await tx.run(statement)).rowcount)
