"""Which machine is asked for first."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from adapters.hetzner.offers import (
    REFUSED_S,
    REFUSED_S_MAX,
    Offer,
    Refusals,
    ServerType,
    offers,
)
from core.project import SIZES, Size

PLACES = ("fsn1", "nbg1", "hel1")
types = st.lists(
    st.builds(
        ServerType,
        name=st.text("abc123", min_size=1, max_size=4),
        architecture=st.sampled_from(["x86", "arm"]),
        cpus=st.sampled_from([1, 2, 4, 8, 16]),
        memory_mb=st.sampled_from([2048, 4096, 8192, 16384, 32768]),
        locations=st.lists(st.sampled_from([*PLACES, "ash"]), unique=True),
        euros_hour=st.dictionaries(
            st.sampled_from([*PLACES, "ash"]), st.decimals("0.001", "1", places=4)
        ),
    ),
    max_size=12,
)
sizes: st.SearchStrategy[Size] = st.sampled_from(list(SIZES))


@given(sizes, types, st.lists(st.sampled_from(PLACES), min_size=1, unique=True))
def test_all_that_would_do_is_offered_cheapest_first_and_nothing_else(
    size: Size, there: list[ServerType], places: list[str]
) -> None:
    found = offers(size, there, locations=places, architectures=("x86",))
    cpus, memory_mb = SIZES[size]
    assert [one.euros_hour for one in found] == sorted(one.euros_hour for one in found)
    for one in found:
        assert one.cpus >= cpus
        assert one.memory_mb >= memory_mb
        assert one.location in places
    would_do = [
        (one.name, place)
        for one in there
        for place in places
        if one.architecture == "x86"
        and one.cpus >= cpus
        and one.memory_mb >= memory_mb
        and place in one.locations
        and place in one.euros_hour
    ]
    assert sorted(one.place for one in found) == sorted(would_do)


def an_offer(place: str) -> Offer:
    return Offer(
        server_type="cx23", location=place, cpus=2, memory_mb=4096, euros_hour=Decimal("0.0088")
    )


def test_a_refusal_is_remembered_longer_each_time_and_forgotten_when_there_is_one() -> None:
    refusals, offer, other = Refusals(), an_offer("fsn1"), an_offer("nbg1")
    now_s = 1000.0
    for times in range(8):
        refusals.note(offer, now_s=now_s)
        wait_s = min(REFUSED_S * 2**times, REFUSED_S_MAX)
        assert refusals.without([offer, other], now_s=now_s + wait_s - 1) == [other]
        now_s += wait_s
        assert refusals.without([offer, other], now_s=now_s) == [offer, other]
    refusals.forget(offer)
    refusals.note(offer, now_s=now_s)
    assert refusals.without([offer], now_s=now_s + REFUSED_S) == [offer]
