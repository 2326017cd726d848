"""Who may see a preview: asked behind `Previews`, remembered for seconds."""

import asyncio
from contextlib import suppress

from core.errors import AppError, OutsideError
from core.ids import WorkspaceId
from core.ports.previews import Previews, Visit

KNOWN_S = 3.0
"""A page makes hundreds of requests; what was withdrawn is seen that much later at most."""
KNOWN_MAX = 1000
LOOK_AGAIN_S = 30.0
"""How often it is asked whether somebody still may see what is still being sent."""
NOTE_S = 30.0


class GoneError(Exception):
    """The browser hung up, or may not be here any more."""


class Visits:
    """What was found out lately."""

    def __init__(self, previews: Previews) -> None:
        self._previews = previews
        self._known: dict[str, tuple[Visit, float]] = {}
        self._noted: dict[WorkspaceId, float] = {}

    async def may(self, cookie: str, workspace: WorkspaceId, port: int) -> bool:
        """Whether a cookie opens this port of this workspace now."""
        now = asyncio.get_running_loop().time()
        visit, until = self._known.get(cookie, (None, 0.0))
        if visit is None or until < now:
            visit = await self._previews.visit(cookie) if cookie else None
            if visit is None:
                self._known.pop(cookie, None)
                return False
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            self._known[cookie] = visit, now + KNOWN_S
        return (visit.workspace, visit.port) == (workspace, port)

    async def note(self, workspace: WorkspaceId) -> None:
        """Note that a person opened a page, which is shown also where that cannot be kept."""
        now = asyncio.get_running_loop().time()
        if now - self._noted.get(workspace, -NOTE_S) >= NOTE_S:
            self._noted[workspace] = now
            with suppress(AppError):
                await self._previews.keep(workspace)


class Watch:
    """Asks again, now and then, while something is being passed on."""

    def __init__(self, visits: Visits, cookie: str, workspace: WorkspaceId, port: int) -> None:
        self._visits = visits
        self._asked = cookie, workspace, port
        self._due = asyncio.get_running_loop().time() + LOOK_AGAIN_S

    async def look(self) -> None:
        """Return if it may go on.

        Raises:
            GoneError: It may not.
        """
        if asyncio.get_running_loop().time() < self._due:
            return
        self._due += LOOK_AGAIN_S
        try:
            may = await self._visits.may(*self._asked)
        except OutsideError:  # Nobody can tell now: it is asked again soon.
            return
        if not may:
            raise GoneError
