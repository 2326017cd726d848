"""Ways into workspaces: links that are sent, passes that browsers carry over, cookies."""

import secrets
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Literal

from bot.people import fingerprint
from core.access import DoorKey, Person, may
from core.clocks import Clock, Clocks
from core.errors import ConflictError
from core.ids import PersonId, WorkspaceId
from core.ports.commands import Guest
from core.ports.store import Insert, Store, Update
from core.workspace import Workspace, WorkspaceState

Kind = Literal["link", "pass", "cookie"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceDoors:
    """See `core.ports.commands.Doors`; also makes links."""

    store: Store
    clock: Clock
    clocks: Clocks

    async def link(self, person: PersonId, workspace: WorkspaceId) -> str:
        """Return the secret of a new link."""
        secret, key = self._cut("link", person, workspace)
        await self.store.commit(Insert(key))
        return secret

    async def whose(self, link: str) -> Guest | None:
        """See `Doors.whose`."""
        key = await self._good(link, "link")
        return None if key is None else await self._guest(key)

    async def spend(self, link: str) -> str | None:
        """See `Doors.spend`."""
        return await self._turn(link, "link", into="pass")

    async def hand_over(self, person: Person, workspace: WorkspaceId) -> str:
        """See `Doors.hand_over`."""
        secret, key = self._cut("pass", person.id, workspace)
        await self.store.commit(Insert(key))
        return secret

    async def enter(self, handed: str) -> str | None:
        """See `Doors.enter`."""
        return await self._turn(handed, "pass", into="cookie")

    async def guest(self, cookie: str) -> Guest | None:
        """See `Doors.guest`."""
        key = await self._good(cookie, "cookie")
        return None if key is None else await self._guest(key)

    async def _turn(self, secret: str, kind: Kind, *, into: Kind) -> str | None:
        """Spend a key and cut the next one. Its version makes it one conditional UPDATE."""
        key = await self._good(secret, kind)
        if key is None or await self._guest(key) is None:
            return None
        fresh, cut = self._cut(into, key.person_id, key.workspace_id)
        spent = replace(key, redeemed_at=self.clock.now())
        try:
            await self.store.commit(Update(spent), Insert(cut))
        except ConflictError:
            return None
        return fresh

    async def _good(self, secret: str, kind: Kind) -> DoorKey | None:
        found = await self.store.find(DoorKey, id=fingerprint(secret), kind=kind)
        if not found or found[0].redeemed_at is not None:
            return None
        return found[0] if self.clock.now() < found[0].expires_at else None

    async def _guest(self, key: DoorKey) -> Guest | None:
        """Return who comes in; nobody who may not look any more, and nobody where nothing is."""
        people = await self.store.find(Person, id=key.person_id)
        workspaces = await self.store.find(Workspace, id=key.workspace_id)
        if not people or not workspaces or not may(people[0], "look"):
            return None
        if workspaces[0].state is WorkspaceState.GONE:
            return None
        return Guest(person=people[0], workspace=key.workspace_id)

    def _cut(self, kind: Kind, person: PersonId, workspace: WorkspaceId) -> tuple[str, DoorKey]:
        secret, now = secrets.token_urlsafe(32), self.clock.now()
        life_s = self.clocks.guest_s if kind == "cookie" else self.clocks.enter_s
        key = DoorKey(
            id=fingerprint(secret),
            kind=kind,
            person_id=person,
            workspace_id=workspace,
            created_at=now,
            expires_at=now + timedelta(seconds=life_s),
        )
        return secret, key
