"""Facts in the past tense, append-only: the API that every surface reads."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from core.ids import RunId, TaskId


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A fact.

    Attributes:
        seq: Its place in the log; 0 until it is stored. A reader goes on from the last it saw.
        subject: What it is about: `run:T-142.1`, `node:node-3f9c`.
        kind: `noun.happened`, such as `run.working`; documented in docs/reference/events.md.
    """

    kind: str
    subject: str
    at: datetime
    seq: int = 0
    task_id: TaskId | None = None
    run_id: RunId | None = None
    data: dict[str, Any] = field(default_factory=dict)
