"""What a plan returns."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from core.event import Event
from core.ids import RunId, TaskId
from core.ports.store import Change, Tell


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What to write, and when to look again.

    Attributes:
        changes: Written in one transaction; empty when there is nothing to do.
        due_in_s: Look again after so many seconds; None means when something wakes the object.
    """

    changes: tuple[Change, ...] = ()
    due_in_s: float | None = None


def left_s(deadline_at: datetime | None, now: datetime) -> float | None:
    """Return the seconds until a deadline, never negative; None without one."""
    return None if deadline_at is None else max(0.0, (deadline_at - now).total_seconds())


def soonest(times: Sequence[float | None]) -> float | None:
    """Return the smallest of the given seconds, None when there is none."""
    return min((time for time in times if time is not None), default=None)


def told(
    kind: str,
    subject: str,
    *,
    at: datetime,
    task_id: TaskId | None = None,
    run_id: RunId | None = None,
    **data: object,
) -> Tell:
    """Return the change that writes a fact."""
    return Tell(
        Event(kind=kind, subject=subject, at=at, task_id=task_id, run_id=run_id, data=dict(data))
    )
