"""Which machine to ask for: the cheapest that is large enough, where it is to be had (pure)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from core.project import SIZES, Size

REFUSED_S = 120.0
REFUSED_S_MAX = 1800.0
"""How long a type is not asked for where it was refused: twice as long after each refusal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A type of machine at a location.

    Attributes:
        euros_hour: Net price of a begun hour.
    """

    server_type: str
    location: str
    cpus: int
    memory_mb: int
    euros_hour: Decimal

    @property
    def place(self) -> tuple[str, str]:
        """What a refusal is about."""
        return self.server_type, self.location


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerType:
    """A type as the API lists it.

    Attributes:
        locations: Where it is to be had now and goes on to be.
        euros_hour: Net price of a begun hour, by location.
    """

    name: str
    architecture: str
    cpus: int
    memory_mb: int
    locations: Sequence[str]
    euros_hour: Mapping[str, Decimal]


def offers(
    size: Size,
    types: Iterable[ServerType],
    *,
    locations: Sequence[str],
    architectures: Sequence[str],
) -> Sequence[Offer]:
    """Return what would do, in the order in which to ask: cheapest first.

    At the same price the smaller one goes first, then the earlier location.

    Args:
        size: What a workspace needs; a larger machine will do, a smaller one never (N10).
        types: What the supplier has.
        locations: Where machines may be.
        architectures: `x86`, `arm`; images of workspaces are made for one.
    """
    cpus, memory_mb = SIZES[size]
    found = [
        Offer(
            server_type=one.name,
            location=place,
            cpus=one.cpus,
            memory_mb=one.memory_mb,
            euros_hour=one.euros_hour[place],
        )
        for one in types
        if one.architecture in architectures and one.cpus >= cpus and one.memory_mb >= memory_mb
        for place in locations
        if place in one.locations and place in one.euros_hour
    ]
    return sorted(
        found,
        key=lambda offer: (
            offer.euros_hour,
            offer.cpus,
            offer.memory_mb,
            locations.index(offer.location),
            offer.server_type,
        ),
    )


@dataclass(slots=True)
class Refusals:
    """Where there was no machine lately. Forgotten by a restart, which costs one more request."""

    _until: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)

    def note(self, offer: Offer, *, now_s: float) -> None:
        """Take note that there was none."""
        _, wait_s = self._until.get(offer.place, (0.0, 0.0))
        wait_s = min(2 * wait_s, REFUSED_S_MAX) if wait_s else REFUSED_S
        self._until[offer.place] = (now_s + wait_s, wait_s)

    def forget(self, offer: Offer) -> None:
        """Take note that there was one."""
        self._until.pop(offer.place, None)

    def without(self, found: Sequence[Offer], *, now_s: float) -> Sequence[Offer]:
        """Return the offers that are worth asking for now."""
        return [one for one in found if now_s >= self._until.get(one.place, (now_s, 0.0))[0]]
