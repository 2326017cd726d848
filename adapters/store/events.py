"""The event log: numbers in the order in which readers can see them.

Transactions that write at the same time end in an order that nobody knows before. On PostgreSQL
an event therefore has no number when it is written. Whoever reads the log first numbers what is
there, one reader at a time, and nobody sees an event without a number. So no writer waits for
another one, not even for one that is frozen in the middle of a commit.
"""

from collections.abc import Sequence

import sqlalchemy as sa

from adapters.store.rows import shape
from adapters.store.schema import EVENT
from adapters.store.transaction import Tx
from core.event import Event

_AT_ONCE = 10_000


async def tell(tx: Tx, events: Sequence[Event]) -> None:
    """Write events. On SQLite, where one writes at a time, with their numbers."""
    if not events:
        return
    rows = [shape(Event).write(event) for event in events]
    for row in rows:
        del row["seq"]
    await tx.run(sa.insert(EVENT), rows)
    if not tx.is_postgresql:
        await tx.run(sa.update(EVENT).where(EVENT.c.seq.is_(None)).values(seq=EVENT.c.id))


def unnumbered() -> sa.Select[tuple[int]]:
    """Return the query for one event without a number."""
    return sa.select(EVENT.c.id).where(EVENT.c.seq.is_(None)).limit(1)


async def number(tx: Tx) -> None:
    """Give numbers to what was committed; a reader that waits here sees them afterwards."""
    await tx.lock("events")
    nth = sa.func.row_number().over(order_by=EVENT.c.id).label("nth")
    new = (
        sa.select(EVENT.c.id, nth)
        .where(EVENT.c.seq.is_(None))
        .order_by(EVENT.c.id)
        .limit(_AT_ONCE)
        .cte("new")
    )
    last = sa.select(sa.func.coalesce(sa.func.max(EVENT.c.seq), 0)).scalar_subquery()
    await tx.run(sa.update(EVENT).where(EVENT.c.id == new.c.id).values(seq=last + new.c.nth))
