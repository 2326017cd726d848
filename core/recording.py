"""A recording: what a terminal wrote, with its times, kept after the terminal is gone.

Agent sessions need none: their films are made of their events, which are in our records.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from core.ids import TerminalId, WorkspaceId

LIFE = timedelta(days=30)
"""How long a recording is kept."""


class RecordingState(StrEnum):
    """Where a recording is: on the node, in the file store, or nowhere any more."""

    WANTED = "wanted"
    KEPT = "kept"
    LOST = "lost"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """Of one terminal that has ended, or is about to.

    Attributes:
        id: The terminal's.
        sha256: Its name in the file store while it is kept there.
        error: Why it was lost, as a sentence.
    """

    id: TerminalId
    workspace_id: WorkspaceId
    state: RecordingState
    created_at: datetime
    sha256: str = ""
    size_bytes: int = 0
    error: str = ""
    expires_at: datetime | None = None
    version: int = 0

    def kept(self, sha256: str, size_bytes: int, *, at: datetime) -> "Recording":
        """Return it as a file in the file store."""
        return replace(
            self,
            state=RecordingState.KEPT,
            sha256=sha256,
            size_bytes=size_bytes,
            expires_at=at + LIFE,
        )

    def lost(self, error: str) -> "Recording":
        """Return it as one that nobody will ever see."""
        return replace(self, state=RecordingState.LOST, error=error)
