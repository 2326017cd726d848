"""People and what proves who they are: one-time links, browser sessions, enrolment tokens."""

import hashlib
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Literal

from core.access import BrowserSession, Person, Ticket
from core.clocks import Clock, Clocks
from core.errors import ConflictError
from core.ids import NodeId, PersonId
from core.ports.store import Insert, Store, Update
from core.secret import Secret

LOCAL = PersonId("local")
"""Whoever may read the state folder: the administrator of this installation."""


def fingerprint(secret: str) -> str:
    """Return how a random secret is kept: its SHA-256, in hex."""
    return hashlib.sha256(secret.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """See `core.ports.commands.SignIn`; also makes one-time tickets."""

    store: Store
    clock: Clock
    clocks: Clocks

    async def local(self, name: str) -> Person:
        """Return the local administrator, made at first use."""
        person = Person(id=LOCAL, name=name, role="admin", created_at=self.clock.now())
        await self.store.commit(Insert(person, once=True))
        return await self.store.get(Person, LOCAL)

    async def name(self, person: PersonId | None) -> str:
        """Return a display name; the id of somebody whom we do not know."""
        found: Sequence[Person] = await self.store.find(Person, id=person) if person else ()
        return found[0].name if found else str(person or "nobody")

    async def sign_in(self, person: PersonId) -> Secret:
        """Return the token of a one-time sign-in link."""
        return await self._ticket("sign_in", self.clocks.sign_in_s, person=person)

    async def enrolment(self, node: NodeId | None) -> Secret:
        """Return a one-time token with which a machine becomes `node`, or a new one."""
        return await self._ticket("enrol", self.clocks.enrolment_s, node=node)

    async def _ticket(
        self,
        kind: Literal["sign_in", "enrol"],
        life_s: float,
        *,
        person: PersonId | None = None,
        node: NodeId | None = None,
    ) -> Secret:
        token, now = secrets.token_urlsafe(32), self.clock.now()
        ticket = Ticket(
            id=fingerprint(token),
            kind=kind,
            created_at=now,
            expires_at=now + timedelta(seconds=life_s),
            person_id=person,
            node_id=node,
        )
        await self.store.commit(Insert(ticket))
        return Secret(token)

    async def redeem(self, token: str) -> str | None:
        """See `SignIn.redeem`. The ticket's version makes it one conditional UPDATE."""
        now = self.clock.now()
        found = await self.store.find(Ticket, id=fingerprint(token), kind="sign_in")
        if not found or found[0].redeemed_at is not None or found[0].expires_at <= now:
            return None
        person = found[0].person_id
        if person is None:
            return None
        cookie = secrets.token_urlsafe(32)
        session = BrowserSession(
            id=fingerprint(cookie),
            person_id=person,
            created_at=now,
            expires_at=now + timedelta(seconds=self.clocks.browser_s),
        )
        try:
            await self.store.commit(Update(replace(found[0], redeemed_at=now)), Insert(session))
        except ConflictError:
            return None
        return cookie

    async def person(self, cookie: str) -> Person | None:
        """See `SignIn.person`."""
        found = await self.store.find(BrowserSession, id=fingerprint(cookie))
        if not found or found[0].expires_at <= self.clock.now():
            return None
        people = await self.store.find(Person, id=found[0].person_id)
        return people[0] if people else None

    async def leave(self, cookie: str) -> None:
        """See `SignIn.leave`."""
        found = await self.store.find(BrowserSession, id=fingerprint(cookie))
        if found:
            with suppress(ConflictError):  # Left in two windows at once.
                await self.store.commit(Update(replace(found[0], expires_at=self.clock.now())))
