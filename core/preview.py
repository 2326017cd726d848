"""Previews: what listens in a workspace, shown in a browser to those who may see it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from core.ids import PersonId, WorkspaceId

Audience = Literal["owner", "project"]
"""Who sees a preview by signing in: whoever asked for the task, or everybody of the project."""
LINK_HOURS_MAX = 168


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What people decided about one port of a workspace; a port without a row is its owner's.

    Attributes:
        id: `{workspace}:{port}`.
    """

    id: str
    workspace_id: WorkspaceId
    port: int
    audience: Audience
    created_at: datetime
    version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewKey:
    """What opens one port of one workspace. Kept as a hash.

    Attributes:
        id: SHA-256 of the secret part, in hex.
        kind: A `link` becomes a `pass`, a pass becomes a `cookie`; the first two are good once.
        person_id: Whom it stands for; None for whoever holds a link.
        until: When the cookie ends that it is, or that it becomes.
        redeemed_at: When it was spent or withdrawn.
    """

    id: str
    kind: Literal["link", "pass", "cookie"]
    workspace_id: WorkspaceId
    port: int
    created_at: datetime
    expires_at: datetime
    until: datetime
    person_id: PersonId | None = None
    redeemed_at: datetime | None = None
    version: int = 0


def preview_id(workspace: WorkspaceId, port: int) -> str:
    """Return the key of a preview's row."""
    return f"{workspace}:{port}"
