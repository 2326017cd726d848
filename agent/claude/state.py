"""What is known of a session after some lines of its journal."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from core.wire import Json

CONTINUES_MAX = 6
"""How often a turn that the model's side broke is continued before people are told."""
CONTINUE_S_FIRST = 30.0
CONTINUE_S_MAX = 300.0
PASSING = frozenset({"overloaded", "server_error", "connection_failed", "rate_limit"})
"""Codes of `turn.end` that pass by themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """One end of the process that nobody asked for.

    Attributes:
        at: Seconds since the epoch.
        lived_s: Seconds from its start.
        code: Exit status, None when it vanished.
        tail: The end of what it wrote to its error output.
    """

    at: float
    lived_s: float
    code: int | None
    tail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One normalised event before it has a place: a kind of `EVENT_KINDS` and its data."""

    kind: str
    data: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What the lines so far say. The same lines always make the same state.

    Attributes:
        phase: What `session.state` said last.
        said: Claude Code's own word: `idle`, `running` or `requires_action`.
        is_ready: Whether the living process has answered `initialize`.
        is_down: Whether the last process ended and no other was started.
        run: Whose process it is or was.
        has_ended: Whether the session is over, until another run begins it again.
        reason: Why it ended.
        starts: How many processes were started.
        background: Work that goes on between turns.
        waiting: Requests of the coding agent that nobody answered, by id.
        prompts: State of each prompt that was seen.
        resumed: Prompts that a dead process had begun; the next one ends them under another name.
        echoed: Prompts whose text was shown.
        partial: Message that is being written, empty if none is.
        tools: Names of the tools that run, by call.
        error: Code of the API error of this turn.
        is_refused: Whether the model's side refuses our credentials.
        has_completed: Whether `complete_task` was called since the last prompt.
        was_asked: Whether the coding agent was reminded of it since the last prompt.
        continues: Turns in a row that the model's side broke.
        broken: Line of the last broken turn, while it waits to be continued.
        crashes: Ends of processes that nobody asked for.
        is_given_up: Whether the turn that the last process left in the middle must not go on.
        is_leaving: Whether the process is being ended for a terminal: what it drops is kept.
        holder: Terminal that the conversation was left to; empty while it is ours.
        others: What people were told of: processes that have the conversation open beside ours, or
            left it for another one.
        copied: Bytes of the transcript that were there before, or were taken over from it.
    """

    phase: str = ""
    said: str = ""
    is_ready: bool = False
    is_down: bool = True
    run: str = ""
    has_ended: bool = False
    reason: str = ""
    starts: int = 0
    background: tuple[Json, ...] = ()
    waiting: Mapping[str, Json] = field(default_factory=dict)
    prompts: Mapping[str, str] = field(default_factory=dict)
    resumed: frozenset[str] = frozenset()
    echoed: frozenset[str] = frozenset()
    partial: str = ""
    tools: Mapping[str, str] = field(default_factory=dict)
    error: str = ""
    is_refused: bool = False
    has_completed: bool = False
    was_asked: bool = False
    continues: int = 0
    broken: str = ""
    crashes: tuple[Crash, ...] = ()
    is_given_up: bool = False
    is_leaving: bool = False
    holder: str = ""
    others: frozenset[str] = frozenset()
    copied: int = 0


def continue_after_s(continues: int) -> float:
    """Return how long to wait before the next attempt, from how many there were."""
    return min(CONTINUE_S_FIRST * 2.0**continues, CONTINUE_S_MAX)


def is_ours(prompt: str) -> bool:
    """Return whether a prompt is the driver's own: people's are UUID4, ours are UUID5."""
    return len(prompt) == 36 and prompt[14] == "5"
