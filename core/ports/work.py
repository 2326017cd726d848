"""Port: which objects want to be looked at, and who looks. Rows with leases and fences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from core.ids import ReplicaId

SUSPECT = 3
"""Losses in a row from which an object is suspected of killing who looks at it."""
SUSPECT_S = 5.0
"""How long a new suspect waits; with each further loss so much longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to work on one object until it is given back or the lease is lost.

    Attributes:
        fence: Grows with every claim; each write under the claim names it.
        signals: How often the object was woken until it was claimed.
        attempts: Looks since the last progress, this one included; lost ones do not count.
        losses: Claims in a row that ended with their owner, before a look came back.
        error: Why the last look failed, empty if it did not.
    """

    kind: str
    key: str
    fence: int
    signals: int
    attempts: int
    losses: int = 0
    error: str = ""


class Work(Protocol):
    """Objects that want to be looked at.

    Promises, each held by a test of the same number, on SQLite and on PostgreSQL:

    1. An object has at most one owner; each claim raises its fence.
    2. Leases are judged by the database's clock alone.
    3. A wake-up between a claim and its return makes the object due again at once.
    4. `take_over` frees what dead replicas owned, raises the fence and returns how many.
    5. `wait` returns soon after a wake-up by any replica, at the latest after `poll_s`.
    6. Only due objects of the given kinds are claimed, higher priority and longer due first.
    7. A claim whose owner died is a loss of its object, until a look comes back. A suspect (see
       `SUSPECT`) is due later with each loss, and a replica holds one suspect at a time.
    8. `looked` knows each object's last look that came back without an error, by any replica.
    """

    async def join(self, replica: ReplicaId, *, url: str, version: str, lease_s: float) -> None:
        """Enter this replica with its lease; free what it owned before, which is no loss."""
        ...

    async def beat(self, replica: ReplicaId, *, lease_s: float) -> bool:
        """Renew the lease. False when it is no longer ours."""
        ...

    async def leave(self, replica: ReplicaId) -> None:
        """Give back everything and go, which is no loss."""
        ...

    async def claim(
        self, replica: ReplicaId, kinds: Sequence[str], *, limit: int
    ) -> Sequence[Claim]:
        """Take due objects."""
        ...

    async def give_back(
        self, claim: Claim, *, due_in_s: float | None, error: str = "", progress: bool = True
    ) -> None:
        """Return an object; due again in `due_in_s` seconds, or parked until it is woken.

        Raises:
            LostLease: If the claim is no longer ours.
        """
        ...

    async def drop(self, claim: Claim) -> None:
        """Free an object whose look never came back: one more loss.

        Raises:
            LostLease: If the claim is no longer ours.
        """
        ...

    async def owned(self, replica: ReplicaId) -> Sequence[Claim]:
        """Return what this replica owns, for finding rows that nobody works on."""
        ...

    async def looked(self, kinds: Sequence[str], key: str) -> Mapping[str, float]:
        """Return by kind the seconds since a look at this object came back without an error.

        Kinds in which none ever did are left out.
        """
        ...

    async def take_over(self) -> int:
        """Free what dead replicas owned."""
        ...

    async def wait(self, *, poll_s: float) -> None:
        """Return when there may be something due."""
        ...
