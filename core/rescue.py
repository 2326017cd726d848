"""Rescue copies: what a workspace leaves behind when its container goes, and how it comes in."""

from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal

from core.clocks import Clock
from core.errors import RefusedError, UnavailableError
from core.ids import CopyId, NodeId, ProjectId, TaskId, WorkspaceId
from core.moves import Moves, moved
from core.ports.files import Files, Stored
from core.ports.nodes import Nodes

RESCUE = "rescue"
"""What copies are called in `wire.OpenStream`."""
PART_BYTES = 128 * 1024 * 1024
"""Most of a transfer that is one look's; the next one goes on where it was cut."""
PART_S = 120.0
"""Longest time that one part may take: well below `core.engine.LOOK_S`."""
Why = Literal["stopped", "slept", "deleted"]


class CopyState(StrEnum):
    """Where a rescue copy is."""

    WANTED = "wanted"
    KEPT = "kept"
    RESTORED = "restored"
    FAILED = "failed"
    EXPIRED = "expired"
    GONE = "gone"


MOVES: Moves[CopyState] = {
    CopyState.WANTED: frozenset({CopyState.KEPT, CopyState.FAILED}),
    CopyState.KEPT: frozenset({CopyState.RESTORED, CopyState.EXPIRED}),
    CopyState.RESTORED: frozenset({CopyState.EXPIRED}),
    CopyState.FAILED: frozenset(),
    CopyState.EXPIRED: frozenset({CopyState.GONE}),
    CopyState.GONE: frozenset(),
}
CURRENT = (CopyState.WANTED, CopyState.KEPT)
"""A workspace has at most one copy in these states: being made, or holding all of its work."""
THERE = (CopyState.KEPT, CopyState.RESTORED)
"""States in which the file store has the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RescueCopy:
    """A copy of what is worth keeping of a workspace; docs/reference/rescue-copies.md says what.

    Attributes:
        id: The workspace's id and the number of the copy: `wabcdefg-1`.
        sha256: Its name in the file store; empty until it is there.
        task_id: The task of the workspace; empty for one that was made by hand.
        why: Whether the workspace was stopped, slept or was deleted.
        head: Commit that was checked out.
        made_at: When it came into the file store.
        expires_at: When it is removed, unless a stopped workspace still needs it.
        left_out: The first things that are not in the copy; `left_out_count` is the number of all.
        error: Why it could not be made, as a sentence.
    """

    id: CopyId
    workspace_id: WorkspaceId
    project: ProjectId
    task_id: TaskId
    why: Why
    state: CopyState
    state_since: datetime
    created_at: datetime
    branch: str
    sha256: str = ""
    size_bytes: int = 0
    head: str = ""
    base_commit: str = ""
    made_at: datetime | None = None
    expires_at: datetime | None = None
    left_out: tuple[str, ...] = ()
    left_out_count: int = 0
    error: str = ""
    version: int = 0

    def moved(self, to: CopyState, *, at: datetime, **values: Any) -> "RescueCopy":
        """Return this copy in state `to`, or raise `TransitionError`."""
        return moved(self, to, MOVES, at=at, **values)


async def bring_in(
    files: Files, nodes: Nodes, node: NodeId, sha256: str, *, clock: Clock
) -> Stored:
    """Make sure that a copy which is on a node is in the file store; go on where it was cut.

    The node may forget the copy once this has returned, and not before. A file in the store that
    cannot be read any more is replaced.

    Raises:
        UnavailableError: It was cut again, or is longer than one part; what came is kept.
        NotFoundError: The node does not have it.
        ValueError: What the node sent was another content; nothing of it is kept.
    """
    with suppress(RefusedError):
        if (stored := await files.find(sha256)) is not None:
            return stored
    kept = await files.kept_bytes(sha256)
    async with aclosing(nodes.stream(node, RESCUE, sha256, offset_bytes=kept)) as pieces:
        return await files.resume(sha256, _part(pieces, clock), offset_bytes=kept)


async def _part(pieces: AsyncIterable[bytes], clock: Clock) -> AsyncGenerator[bytes]:
    """Give a part of a stream, and say that there is more."""
    left, until = PART_BYTES, clock.now() + timedelta(seconds=PART_S)
    async for piece in pieces:
        if left <= 0 or clock.now() >= until:
            raise UnavailableError("Node", "the copy is on its way", retry_after_s=0.1)
        left -= len(piece)
        yield piece
