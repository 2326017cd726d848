"""When a terminal's recording is taken. Pure."""

from datetime import datetime

from core.ports.store import Change, Insert, Wake
from core.recording import Recording, RecordingState
from core.terminal import Terminal


def wanted(terminal: Terminal, *, at: datetime) -> tuple[Change, ...]:
    """Return the changes that have a terminal's recording taken; a second time changes nothing."""
    new = Recording(
        id=terminal.id,
        workspace_id=terminal.workspace_id,
        state=RecordingState.WANTED,
        created_at=at,
    )
    return Insert(new, once=True), Wake("recording", terminal.id)
