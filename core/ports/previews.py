"""Port: what listens in workspaces, and who sees it in a browser. Implemented by `bot`."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from core.access import Person
from core.ids import WorkspaceId
from core.preview import Audience
from core.viewing import View


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewView:
    """One port of a workspace in short.

    Attributes:
        name: What the devcontainer calls it; empty without a name.
        is_open: Whether something listens there now.
        may_share: Whether whoever asks may change the audience and make links.
    """

    workspace_id: WorkspaceId
    port: int
    name: str
    is_open: bool
    audience: Audience
    may_share: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """Somebody at one port of one workspace: what a preview's cookie stands for.

    Attributes:
        person: None for whoever came by a link.
    """

    workspace: WorkspaceId
    port: int
    person: Person | None


class Previews(Protocol):
    """Previews.

    A link is for people without an account too. The pages spend it when somebody presses a button,
    never on GET, and hand the browser over to the preview's own origin with a pass.

    Promises, each held by a test of the same number in `tests/contracts/test_previews.py`:

    1. A port is its owner's until somebody opens it to the project; the owner is who asked for the
       task. Administrators see all. Others get `ForbiddenError`.
    2. Links and passes are for one port of one workspace and good once, each spent by one
       conditional UPDATE; a pass for 60 seconds, a link for as long as was said. `whose` spends
       nothing.
    3. A cookie opens its port alone, no longer than its person may see it, or than was said of the
       link that it came from.
    4. `open_to` the owner alone also ends every link that was made, and what came of it.
    5. `connect` is a TCP connection to the port; its messages are the bytes, and the close code
       1000 is the end of what the port said. `UserError` says why there is none: `nothing_listens`,
       `workspace_stopped`, `workspace_gone`, `node_away`.
    """

    async def ports(self, actor: Person, workspace: WorkspaceId) -> Sequence[PreviewView]:
        """Return what listens in a workspace now and may be seen, by port."""
        ...

    async def port(self, actor: Person, workspace: WorkspaceId, port: int) -> PreviewView:
        """Return one port, whether something listens there or not."""
        ...

    async def open_to(
        self, actor: Person, workspace: WorkspaceId, port: int, audience: Audience
    ) -> None:
        """Say who sees a port by signing in."""
        ...

    async def share(self, actor: Person, workspace: WorkspaceId, port: int, *, hours: int) -> str:
        """Return the path of a link with which anybody sees a port, once, for so many hours."""
        ...

    async def whose(self, link: str) -> Visit | None:
        """Return where a link leads; None if it is unknown, spent or over."""
        ...

    async def spend(self, link: str) -> str | None:
        """Spend a link; return a pass to its port's origin."""
        ...

    async def hand_over(self, actor: Person, workspace: WorkspaceId, port: int) -> str:
        """Return a pass for a person who is signed in."""
        ...

    async def enter(self, handed: str) -> str | None:
        """Spend a pass; return the cookie of its port."""
        ...

    async def visit(self, cookie: str) -> Visit | None:
        """Return who is behind a preview's cookie, or None."""
        ...

    def connect(self, workspace: WorkspaceId, port: int) -> AbstractAsyncContextManager[View]:
        """Connect to a port, for the length of a `with` block."""
        ...

    async def keep(self, workspace: WorkspaceId) -> None:
        """Note that a person looks at something of a workspace: that keeps it for a while."""
        ...
