"""When a terminal's recording is taken. Pure."""

from datetime import datetime, timedelta

from core.clocks import Clocks
from core.ports.store import Change, Insert, Wake
from core.recording import Recording, RecordingState
from core.terminal import Terminal

FETCH_S_MAX = 120.0
"""Of one try to fetch one: it is tens of megabytes at most."""


def wanted(terminal: Terminal, *, at: datetime) -> tuple[Change, ...]:
    """Return the changes that have a terminal's recording taken; a second time changes nothing."""
    new = Recording(
        id=terminal.id,
        workspace_id=terminal.workspace_id,
        state=RecordingState.WANTED,
        created_at=at,
    )
    return Insert(new, once=True), Wake("recording", terminal.id)


def tried_until(recording: Recording, clocks: Clocks) -> datetime:
    """Return until when another try is made while the node does not answer."""
    return recording.created_at + timedelta(seconds=clocks.publish_s)


def awaited_until(recording: Recording, clocks: Clocks) -> datetime:
    """Return by when the last try is over, with as much again for a replica that was late."""
    return tried_until(recording, clocks) + 2 * timedelta(seconds=FETCH_S_MAX)
