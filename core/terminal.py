"""A terminal: a shell in a workspace, or a coding agent's session that a person took over."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from core.ids import PersonId, SessionId, TerminalId, WorkspaceId
from core.moves import Moves, moved


class TerminalState(StrEnum):
    """Where a terminal is. An end is final: a new shell is a new terminal.

    `waiting` is for a session's terminal alone: until its coding agent is idle.
    """

    WAITING = "waiting"
    OPENING = "opening"
    OPEN = "open"
    CLOSING = "closing"
    EXITED = "exited"


LIVE = tuple(state for state in TerminalState if state is not TerminalState.EXITED)
"""While a session's terminal is live, and not waiting, it alone has the conversation."""

MOVES: Moves[TerminalState] = {
    TerminalState.WAITING: frozenset(
        {TerminalState.OPENING, TerminalState.CLOSING, TerminalState.EXITED}
    ),
    TerminalState.OPENING: frozenset(
        {TerminalState.OPEN, TerminalState.CLOSING, TerminalState.EXITED}
    ),
    TerminalState.OPEN: frozenset({TerminalState.CLOSING, TerminalState.EXITED}),
    TerminalState.CLOSING: frozenset({TerminalState.EXITED}),
    TerminalState.EXITED: frozenset(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """A tab of a workspace.

    Attributes:
        title: As its tab shows it; people may change it.
        position: Place among the tabs of its workspace, from left to right.
        session_id: The coding agent's session that is open in it; None for a shell. A session has
            at most one live terminal: that is the lease on its conversation.
        exit_code: Of the shell; minus a signal's number; None while it lives or where nobody knows.
        error: Why it could not be opened or how else it ended, as a sentence.
        container: Docker's id of the container that it was ordered for; it ends with that one.
        is_hidden: Whether its tab was closed.
    """

    id: TerminalId
    workspace_id: WorkspaceId
    title: str
    position: int
    opened_by: PersonId
    state: TerminalState
    state_since: datetime
    created_at: datetime
    session_id: SessionId | None = None
    exit_code: int | None = None
    error: str = ""
    container: str = ""
    is_hidden: bool = False
    version: int = 0

    def moved(self, to: TerminalState, *, at: datetime, **values: Any) -> "Terminal":
        """Return this terminal in state `to`, or raise `TransitionError`."""
        return moved(self, to, MOVES, at=at, **values)
