"""Port `Work` in SQL: leases of replicas, claims with fences, and wake-ups."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from adapters.store.changes import WORK_BELL
from adapters.store.database import Database
from adapters.store.rows import clean
from adapters.store.schema import REPLICA, WORK
from adapters.store.transaction import Tx, now_ms
from core.errors import LostLease
from core.ids import ReplicaId
from core.ports.work import SUSPECT, SUSPECT_S, Claim

_ERROR_CHARS = 2_000
_SETTLING_MS = 2_000
"""How long a new replica has to connect its listener."""
_ACTIVITY = sa.table("pg_stat_activity", sa.column("datname"), sa.column("application_name"))


class SqlWork:
    """See `Work`. One replica per object: wake-ups are heard by one waiter."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def join(self, replica: ReplicaId, *, url: str, version: str, lease_s: float) -> None:
        """See `Work.join`.

        Whoever may write to a SQLite file is alone, so there all other replicas are dead.
        """

        async def job(tx: Tx) -> None:
            await tx.run(sa.delete(REPLICA).where(REPLICA.c.id == replica))
            await _free(tx, WORK.c.owner == replica)
            if not tx.is_postgresql:
                await tx.run(sa.delete(REPLICA))
                await _free(tx, sa.true(), **_LOST)
            row = {"id": replica, "url": url, "version": version}
            row["session"] = self._database.session
            times = {"joined_ms": now_ms(), "lease_until_ms": now_ms() + round(lease_s * 1000)}
            await tx.run(sa.insert(REPLICA).values(**row, **times))

        await self._database.write(job)

    async def beat(self, replica: ReplicaId, *, lease_s: float) -> bool:
        """See `Work.beat`."""
        statement = (
            sa.update(REPLICA)
            .where(_is_alive(replica))
            .values(lease_until_ms=now_ms() + round(lease_s * 1000))
        )

        async def job(tx: Tx) -> bool:
            return bool((await tx.run(statement)).rowcount)

        return await self._database.write(job)

    async def leave(self, replica: ReplicaId) -> None:
        """See `Work.leave`."""

        async def job(tx: Tx) -> None:
            await tx.run(sa.delete(REPLICA).where(REPLICA.c.id == replica))
            await _free(tx, WORK.c.owner == replica)

        await self._database.write(job)

    async def claim(
        self, replica: ReplicaId, kinds: Sequence[str], *, limit: int
    ) -> Sequence[Claim]:
        """See `Work.claim`. A replica whose lease is over gets nothing."""
        is_wanted = sa.or_(
            WORK.c.losses < SUSPECT,
            sa.tuple_(WORK.c.kind, WORK.c.key).in_(_one_suspect(replica, kinds)),
        )
        due = (
            sa.select(WORK.c.kind, WORK.c.key)
            .where(_is_due(WORK, kinds), is_wanted)
            .where(sa.exists().where(_is_alive(replica)))
            .order_by(WORK.c.priority.desc(), WORK.c.due_ms)
            .limit(limit)
            .with_for_update(skip_locked=True, of=WORK)
            .cte("due")
        )
        statement = (
            sa.update(WORK)
            .where(sa.tuple_(WORK.c.kind, WORK.c.key).in_(sa.select(due.c.kind, due.c.key)))
            .values(
                owner=replica, fence=WORK.c.fence + 1, attempts=WORK.c.attempts + 1, due_ms=None
            )
            .returning(*_CLAIM, WORK.c.priority)
        )

        async def job(tx: Tx) -> Sequence[Claim]:
            rows = sorted((await tx.run(statement)).all(), key=lambda row: -row.priority)
            return [_claim(row) for row in rows]

        return await self._database.write(job)

    async def give_back(
        self, claim: Claim, *, due_in_s: float | None, error: str = "", progress: bool = True
    ) -> None:
        """See `Work.give_back`. A wake-up since the claim left `due_ms`; the sooner one counts."""
        statement = (
            sa.update(WORK)
            .where(_is_held(claim))
            .values(owner=None, losses=0, last_error=clean(error[:_ERROR_CHARS]))
            .returning(WORK.c.due_ms <= now_ms())
        )
        if due_in_s is not None:
            due = now_ms() + round(due_in_s * 1000)
            later = sa.or_(WORK.c.due_ms.is_(None), WORK.c.due_ms > due)
            statement = statement.values(due_ms=sa.case((later, due), else_=WORK.c.due_ms))

        if progress:
            statement = statement.values(attempts=0)
        if not error:
            statement = statement.values(looked_ms=now_ms())

        async def job(tx: Tx) -> None:
            row = (await tx.run(statement)).first()
            if row is None:
                raise LostLease(f"{claim.kind} {claim.key}")
            if row[0]:
                tx.bells.add(WORK_BELL)

        await self._database.write(job)

    async def drop(self, claim: Claim) -> None:
        """See `Work.drop`."""

        async def job(tx: Tx) -> None:
            if not await _free(tx, _is_held(claim), **_LOST):
                raise LostLease(f"{claim.kind} {claim.key}")

        await self._database.write(job)

    async def owned(self, replica: ReplicaId) -> Sequence[Claim]:
        """See `Work.owned`."""
        rows = await self._database.read(sa.select(*_CLAIM).where(WORK.c.owner == replica))
        return [_claim(row) for row in rows]

    async def looked(self, kinds: Sequence[str], key: str) -> Mapping[str, float]:
        """See `Work.looked`."""
        age_ms = (now_ms() - WORK.c.looked_ms).label("age_ms")
        query = sa.select(WORK.c.kind, age_ms).where(
            WORK.c.kind.in_(kinds), WORK.c.key == key, WORK.c.looked_ms.is_not(None)
        )
        rows = await self._database.read(query)
        return {row["kind"]: row["age_ms"] / 1000 for row in rows}

    async def take_over(self) -> int:
        """See `Work.take_over`. Reads first: most of the time there is nothing to do."""
        dead = self._dead()
        orphaned = WORK.c.owner.not_in(sa.select(REPLICA.c.id))
        anything = sa.or_(sa.exists().where(dead), sa.exists().where(orphaned))
        (row,) = await self._database.read(sa.select(anything.label("anything")))
        if not row["anything"]:
            return 0

        async def job(tx: Tx) -> int:
            await tx.run(sa.delete(REPLICA).where(dead))
            return await _free(tx, orphaned, **_LOST)

        return await self._database.write(job)

    def _dead(self) -> sa.ColumnElement[bool]:
        """Return which replicas are dead. A wrong guess is harmless: the fence keeps them out."""
        is_over = REPLICA.c.lease_until_ms <= now_ms()
        if not (self._database.is_postgresql and self._database.watches_sessions):
            return is_over
        is_seen = sa.exists().where(
            _ACTIVITY.c.datname == sa.func.current_database(),
            _ACTIVITY.c.application_name == REPLICA.c.session,
        )
        is_settled = REPLICA.c.joined_ms < now_ms() - _SETTLING_MS
        is_other = REPLICA.c.session != self._database.session
        return sa.or_(is_over, sa.and_(is_other, is_settled, sa.not_(is_seen)))

    async def wait(self, *, poll_s: float) -> None:
        """See `Work.wait`."""
        await self._database.bells.wait(WORK_BELL, limit_s=poll_s)


_CLAIM = tuple(
    WORK.c[name] for name in ("kind", "key", "fence", "signals", "attempts", "losses", "last_error")
)
_LOST = {
    "losses": WORK.c.losses + 1,
    "due_ms": now_ms()
    + round(SUSPECT_S * 1000)
    * sa.case((WORK.c.losses + 1 < SUSPECT, 0), else_=WORK.c.losses + 2 - SUSPECT),
}
"""How a row changes whose owner died."""


def _claim(row: Any) -> Claim:
    return Claim(
        kind=row.kind,
        key=row.key,
        fence=row.fence,
        signals=row.signals,
        attempts=row.attempts,
        losses=row.losses,
        error=row.last_error,
    )


def _is_alive(replica: ReplicaId) -> sa.ColumnElement[bool]:
    return sa.and_(REPLICA.c.id == replica, REPLICA.c.lease_until_ms > now_ms())


def _is_held(claim: Claim) -> sa.ColumnElement[bool]:
    row = WORK.c
    is_it = sa.and_(row.kind == claim.kind, row.key == claim.key)
    return sa.and_(is_it, row.fence == claim.fence, row.owner.is_not(None))


def _is_due(work: sa.FromClause, kinds: Sequence[str]) -> sa.ColumnElement[bool]:
    return sa.and_(work.c.owner.is_(None), work.c.due_ms <= now_ms(), work.c.kind.in_(kinds))


def _one_suspect(replica: ReplicaId, kinds: Sequence[str]) -> sa.Select[tuple[str, str]]:
    """Return the query for the next suspect, if the replica holds none.

    The number is spelled out for the index, which is all that this reads.
    """
    other, held = WORK.alias("other"), WORK.alias("held")
    number: sa.ColumnElement[int] = sa.literal_column(str(SUSPECT))
    holds_one = sa.exists().where(held.c.owner == replica, held.c.losses >= number)
    return (
        sa.select(other.c.kind, other.c.key)
        .where(_is_due(other, kinds), other.c.losses >= number, sa.not_(holds_one))
        .order_by(other.c.priority.desc(), other.c.due_ms)
        .limit(1)
    )


async def _free(tx: Tx, which: sa.ColumnElement[bool], **values: Any) -> int:
    """Take objects from their owners; they are due at once unless `values` say otherwise.

    The look was no attempt, if no commit of it said so before.
    """
    row = WORK.c
    attempts = sa.case((row.attempts > 0, row.attempts - 1), else_=0)
    freed = {"owner": None, "fence": row.fence + 1, "attempts": attempts, "due_ms": now_ms()}
    statement = sa.update(WORK).where(row.owner.is_not(None), which).values({**freed, **values})
    count = (await tx.run(statement)).rowcount
    if count:
        tx.bells.add(WORK_BELL)
    return count
