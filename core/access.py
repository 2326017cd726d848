"""Who may do what."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from core.ids import NodeId, PersonId, WorkspaceId

Role = Literal["admin", "member", "viewer"]
Verb = Literal["look", "start", "steer", "answer", "stop", "manage"]
_MAY: dict[Role, frozenset[Verb]] = {
    "viewer": frozenset({"look"}),
    "member": frozenset({"look", "start", "steer", "answer", "stop"}),
    "admin": frozenset({"look", "start", "steer", "answer", "stop", "manage"}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody whose identity was checked."""

    id: PersonId
    name: str
    role: Role
    created_at: datetime
    version: int = 0


def may(person: Person, verb: Verb) -> bool:
    """Whether `person` may do `verb`."""
    return verb in _MAY[person.role]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """Something that is redeemed once: a sign-in link, an enrolment token. Kept as a hash.

    Attributes:
        id: SHA-256 of the secret part, in hex.
        kind: `sign_in` or `enrol`.
        node_id: The node that is to be enrolled; None when a new one is to be made.
    """

    id: str
    kind: Literal["sign_in", "enrol"]
    created_at: datetime
    expires_at: datetime
    person_id: PersonId | None = None
    node_id: NodeId | None = None
    redeemed_at: datetime | None = None
    version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BrowserSession:
    """A signed-in browser. `id` is the SHA-256 of its cookie, in hex."""

    id: str
    person_id: PersonId
    created_at: datetime
    expires_at: datetime
    version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorKey:
    """What opens one workspace to one person. Kept as a hash.

    Attributes:
        id: SHA-256 of the secret part, in hex.
        kind: A `link` becomes a `pass`, a pass becomes a `cookie`; the first two are good once.
    """

    id: str
    kind: Literal["link", "pass", "cookie"]
    person_id: PersonId
    workspace_id: WorkspaceId
    created_at: datetime
    expires_at: datetime
    redeemed_at: datetime | None = None
    version: int = 0
