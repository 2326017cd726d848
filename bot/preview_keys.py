"""What opens previews: links that anybody may use once, passes, cookies."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from bot.people import fingerprint
from core.clocks import Clock, Clocks
from core.errors import ConflictError
from core.ids import PersonId, WorkspaceId
from core.ports.store import Change, Insert, Store, Update
from core.preview import PreviewKey

Kind = Literal["link", "pass", "cookie"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewKeys:
    """The keys of all previews. Whether a person still may see one is decided elsewhere."""

    store: Store
    clock: Clock
    clocks: Clocks

    async def link(self, workspace: WorkspaceId, port: int, *, hours: int) -> str:
        """Return the secret of a new link."""
        until = self.clock.now() + timedelta(hours=hours)
        return await self._kept(*self._cut("link", workspace, port, None, until))

    async def handed(self, person: PersonId, workspace: WorkspaceId, port: int) -> str:
        """Return the secret of a new pass for a person."""
        until = self.clock.now() + timedelta(seconds=self.clocks.guest_s)
        return await self._kept(*self._cut("pass", workspace, port, person, until))

    async def good(self, secret: str, kind: Kind) -> PreviewKey | None:
        """Return a key that was neither spent nor withdrawn and is not over."""
        found = await self.store.find(PreviewKey, id=fingerprint(secret), kind=kind)
        if not found or found[0].redeemed_at is not None:
            return None
        return found[0] if self.clock.now() < found[0].expires_at else None

    async def turn(self, key: PreviewKey, *, into: Kind) -> str | None:
        """Spend a key and cut the next one. Its version makes it one conditional UPDATE."""
        fresh, cut = self._cut(into, key.workspace_id, key.port, key.person_id, key.until)
        spent = replace(key, redeemed_at=self.clock.now())
        try:
            await self.store.commit(Update(spent), Insert(cut))
        except ConflictError:
            return None
        return fresh

    async def withdrawn(self, workspace: WorkspaceId, port: int) -> Sequence[Change]:
        """Return the changes that end all links to a port, and what came of them."""
        found = await self.store.find(
            PreviewKey, workspace_id=workspace, port=port, person_id=None, redeemed_at=None
        )
        now = self.clock.now()
        return [Update(replace(key, redeemed_at=now)) for key in found]

    async def _kept(self, secret: str, key: PreviewKey) -> str:
        await self.store.commit(Insert(key))
        return secret

    def _cut(
        self,
        kind: Kind,
        workspace: WorkspaceId,
        port: int,
        person: PersonId | None,
        until: datetime,
    ) -> tuple[str, PreviewKey]:
        secret, now = secrets.token_urlsafe(32), self.clock.now()
        soon = now + timedelta(seconds=self.clocks.enter_s)
        key = PreviewKey(
            id=fingerprint(secret),
            kind=kind,
            workspace_id=workspace,
            port=port,
            person_id=person,
            created_at=now,
            expires_at=min(soon, until) if kind == "pass" else until,
            until=until,
        )
        return secret, key
