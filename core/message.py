"""Conversation without a vendor's words: what people said, and what we owe to a thread."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from core.ids import PersonId, ProjectId, TaskId, ThreadId

Surface = Literal["slack", "discord", "web", "cli"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Thread:
    """One conversation on one surface; bound to at most one task."""

    id: ThreadId
    surface: str
    channel: str
    created_at: datetime
    project: ProjectId | None = None
    task_id: TaskId | None = None
    version: int = 0


InboxState = Literal["received", "handled", "ignored"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A message or a click as it came in: stored before it is acknowledged, handled once.

    Attributes:
        key: The surface's delivery id; several may stand for one message.
        message: The surface's message id; (surface, channel, message) is unique too.
        verb: `message` for words, else what was pressed: `stop`, `answer`, `new`.
        data: What belongs to the verb: project, decision, answers, when_idle.
        result: What came of it: a task's id, or a sentence for the author.
    """

    key: str
    surface: str
    channel: str
    message: str
    thread: ThreadId
    author: PersonId
    text: str
    state: InboxState
    created_at: datetime
    verb: str = "message"
    data: dict[str, Any] | None = None
    result: str = ""
    version: int = 0


PostKind = Literal["card", "question", "end", "stopped", "reply"]
PostState = Literal["pending", "sending", "sent", "dead"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """Something that we owe to a thread.

    Level-triggered: `wanted` counts what should be shown, `shown` what is; a card is rendered
    from the records when it is sent.

    Attributes:
        key: `{thread}/{kind}/{what}`: once per thread and thing.
        lane: One post of a lane is on its way at a time: the thread.
        text: What a plain message says; empty for a card.
        mention: Whom the message addresses.
        remote: The surface's id of the message once it exists.
    """

    key: str
    lane: ThreadId
    surface: str
    kind: PostKind
    state: PostState
    created_at: datetime
    task_id: TaskId | None = None
    text: str = ""
    mention: PersonId | None = None
    wanted: int = 1
    shown: int = 0
    remote: str = ""
    attempts: int = 0
    error: str = ""
    version: int = 0
