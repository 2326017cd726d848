"""How the changes of one commit are written."""

from collections.abc import Sequence
from typing import Any, assert_never

import sqlalchemy as sa

from adapters.store.events import tell
from adapters.store.faults import is_duplicate
from adapters.store.rows import Shape, shape
from adapters.store.schema import COUNTER, NODE_ORDER, OUTBOX, TABLES, WORK
from adapters.store.transaction import Tx, now_ms
from core.errors import ConflictError, LostLease, QuotaError
from core.event import Event
from core.message import Post
from core.order import NodeOrder
from core.ports.store import Change, Insert, Tell, Touch, Update, Wake
from core.ports.work import Claim

WORK_BELL = "work"
"""Rings when an object became due."""
_SOON_S = 1.0
"""What is due later than this is found by the poll; nobody is woken for it now."""


def orders_bell(node_id: str) -> str:
    """Return the bell that rings when there is a new order for a node."""
    return f"orders:{node_id}"


async def write(tx: Tx, changes: Sequence[Change], claim: Claim | None) -> None:
    """Write all changes, or raise and let the transaction undo them.

    Nouns first, in the given order; then the rows of `work`, which many commits want, in one
    order for all.
    """
    wakes: list[Wake] = []
    events: list[Event] = []
    for change in changes:
        match change:
            case Insert():
                wakes += await _insert(tx, change)
            case Update():
                await _update(tx, change)
            case Touch():
                wakes += await touch(tx, change)
            case Wake():
                wakes.append(change)
            case Tell():
                events.append(change.event)
            case _:
                assert_never(change)
    await tell(tx, events)
    await wake(tx, wakes, claim)


async def _insert(tx: Tx, change: Insert) -> list[Wake]:
    """Write a new row; return whom it wakes."""
    noun, table = change.noun, TABLES[type(change.noun)]
    row: dict[str, Any] = shape(type(noun)).write(noun)
    key = next(iter(table.columns))
    if change.limits:
        await tx.lock("limits")
    if isinstance(noun, NodeOrder):
        row["seq"] = await _next_order(tx, noun.node_id)
    insert = tx.insert(table).values(row)
    if change.once:
        insert = insert.on_conflict_do_nothing(index_elements=[key.name])
    if not (await _unique(tx, insert)).rowcount:
        return []
    await _check(tx, change)
    if isinstance(noun, NodeOrder):
        await _count_order(tx, noun.node_id, row["seq"])
        tx.bells.add(orders_bell(noun.node_id))
    return [Wake("outbox", noun.lane)] if isinstance(noun, Post) else []


async def _unique(tx: Tx, statement: sa.Executable) -> sa.CursorResult[Any]:
    try:
        return await tx.run(statement)
    except sa.exc.IntegrityError as error:
        if is_duplicate(error):
            raise ConflictError(str(error.orig)) from error
        raise


async def _check(tx: Tx, change: Insert | Update) -> None:
    """Count what the limits of a written row are about."""
    table, of = TABLES[type(change.noun)], shape(type(change.noun))
    for limit in change.limits:
        where = matches(table, of, limit.where)
        count = sa.select(sa.func.count()).select_from(table).where(*where)
        if (await tx.run(count)).scalar_one() > limit.number:
            raise QuotaError(f"the limit of {limit.number} is reached", code=limit.code)


def matches(
    table: sa.Table, of: Shape[Any], equal: Sequence[tuple[str, object]]
) -> list[sa.ColumnElement[bool]]:
    """Return the conditions for equal values; a tuple means any of them, None means null."""
    conditions: list[sa.ColumnElement[bool]] = []
    for name, value in equal:
        if name not in of.fields:
            raise ValueError(f"{of.kind.__name__} has no column {name}")
        if isinstance(value, tuple):
            items = [of.value(name, item) for item in value]
            conditions.append(table.c[name].in_([item for item in items if item is not None]))
        else:
            conditions.append(table.c[name] == of.value(name, value))
    return conditions


async def _next_order(tx: Tx, node_id: str) -> int:
    """Return the next number of a node's queue; nobody else gets one until this commits."""
    name = orders_bell(node_id)
    await tx.run(tx.insert(COUNTER).values(name=name, value=0).on_conflict_do_nothing())
    value = sa.select(COUNTER.c.value).where(COUNTER.c.name == name).with_for_update()
    return int((await tx.run(value)).scalar_one()) + 1


async def _count_order(tx: Tx, node_id: str, seq: int) -> None:
    name = orders_bell(node_id)
    await tx.run(sa.update(COUNTER).where(COUNTER.c.name == name).values(value=seq))


async def _update(tx: Tx, change: Update) -> None:
    """Write the next value of a row where its version is still the noun's."""
    noun: Any = change.noun
    table, of = TABLES[type(noun)], shape(type(noun))
    if change.limits:
        await tx.lock("limits")
    if "version" not in of.fields:
        raise ValueError(f"{type(noun).__name__} has no version: it is not updated like this")
    row = of.write(noun)
    key, version = next(iter(table.columns)), noun.version
    row["version"] = version + 1
    statement = (
        sa.update(table).where(key == row.pop(key.name), table.c.version == version).values(row)
    )
    if not (await _unique(tx, statement)).rowcount:
        raise ConflictError(f"{type(noun).__name__} {getattr(noun, key.name)}: not at {version}")
    await _check(tx, change)


async def touch(tx: Tx, change: Touch) -> list[Wake]:
    """Ask for the task's cards anew. One that is on its way stays so: its sender looks again."""
    post = OUTBOX.c
    statement = (
        sa.update(OUTBOX)
        .where(post.task_id == change.task_id, post.kind == "card", post.state != "dead")
        .values(
            wanted=post.wanted + 1,
            version=post.version + 1,
            state=sa.case((post.state == "sent", "pending"), else_=post.state),
        )
        .returning(post.lane)
    )
    return [Wake("outbox", lane) for lane in (await tx.run(statement)).scalars()]


async def wake(tx: Tx, wakes: Sequence[Wake], claim: Claim | None = None) -> None:
    """Make objects due and check the claim, in one order for all so that nobody waits in a ring.

    Raises:
        LostLease: If the claim is no longer ours.
    """
    woken: dict[tuple[str, str], list[Wake]] = {}
    for one in wakes:
        woken.setdefault((one.kind, one.key), []).append(one)
    mine = None if claim is None else (claim.kind, claim.key)
    for which in sorted({*woken, *([mine] if mine else [])}):
        if claim is not None and which == mine:
            await _hold(tx, claim)
        if which in woken:
            await _wake(tx, *which, woken[which])


async def _hold(tx: Tx, claim: Claim) -> None:
    """Check that the claim is ours and stays so until the commit; note that it got on."""
    statement = (
        sa.update(WORK)
        .where(
            WORK.c.kind == claim.kind,
            WORK.c.key == claim.key,
            WORK.c.fence == claim.fence,
            WORK.c.owner.is_not(None),
        )
        .values(attempts=0)
    )
    if not (await tx.run(statement)).rowcount:
        raise LostLease(f"{claim.kind} {claim.key}")


async def _wake(tx: Tx, kind: str, key: str, wakes: Sequence[Wake]) -> None:
    in_s = min(one.in_s for one in wakes)
    priority = max((one.priority for one in wakes if one.priority is not None), default=None)
    values = {} if priority is None else {"priority": priority}
    due = now_ms() + round(in_s * 1000)
    insert = tx.insert(WORK).values(kind=kind, key=key, due_ms=due, signals=1, **values)
    new = insert.excluded
    earlier = sa.or_(WORK.c.due_ms.is_(None), WORK.c.due_ms > new.due_ms)
    await tx.run(
        insert.on_conflict_do_update(
            index_elements=["kind", "key"],
            set_={
                "due_ms": sa.case((earlier, new.due_ms), else_=WORK.c.due_ms),
                "signals": WORK.c.signals + 1,
                **values,
            },
        )
    )
    if in_s < _SOON_S:
        tx.bells.add(WORK_BELL)


async def answer(tx: Tx, order_id: str, values: dict[str, Any]) -> bool:
    """Write the answer to an open order and wake who waits for it; False if it has one."""
    statement = (
        sa.update(NODE_ORDER)
        .where(NODE_ORDER.c.id == order_id, NODE_ORDER.c.ok.is_(None))
        .values(values)
        .returning(NODE_ORDER.c.subject_kind, NODE_ORDER.c.subject)
    )
    subject = (await tx.run(statement)).first()
    if subject is not None:
        await wake(tx, [Wake(subject.subject_kind, subject.subject)])
    return subject is not None
