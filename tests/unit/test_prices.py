from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.prices import KINDS, Price, Prices

usd = st.decimals(0, 1000, places=4, allow_nan=False)
prices = st.builds(Price, input=usd, output=usd, cache_read=usd, cache_write=usd)
tokens = st.dictionaries(st.sampled_from([*KINDS, "server_tool_use"]), st.integers(0, 10**9))
ZERO = Price(input=Decimal(0), output=Decimal(0), cache_read=Decimal(0), cache_write=Decimal(0))


@given(prices, tokens, tokens)
def test_the_parts_sum_to_the_bill_exactly(
    price: Price, one: dict[str, int], other: dict[str, int]
) -> None:
    table = Prices(of={"m": price})
    both = {kind: one.get(kind, 0) + other.get(kind, 0) for kind in one | other}
    assert table.cost("m", both) == table.cost("m", one) + table.cost("m", other)
    parts = [table.cost("m", {kind: count}) for kind, count in both.items()]
    assert table.cost("m", both) == sum(parts)


@given(prices, tokens, st.sampled_from(list(KINDS)), st.integers(1, 10**9))
def test_more_tokens_never_cost_less(
    price: Price, used: dict[str, int], kind: str, more: int
) -> None:
    table = Prices(of={"m": price})
    dearer = used | {kind: used.get(kind, 0) + more}
    assert table.cost("m", dearer) >= table.cost("m", used) >= 0


@given(prices, tokens)
def test_nothing_costs_nothing(price: Price, used: dict[str, int]) -> None:
    assert Prices(of={"m": price}).cost("m", {}) == 0
    assert Prices(of={"m": ZERO}).cost("m", used) == 0


def test_a_million_tokens_cost_the_price() -> None:
    price = Price(
        input=Decimal(4), output=Decimal(20), cache_read=Decimal("0.4"), cache_write=Decimal(5)
    )
    table = Prices(of={"m": price})
    million = {kind: table.cost("m", {kind: 10**6}) for kind in KINDS}
    assert list(million.values()) == [Decimal(4), Decimal(20), Decimal("0.4"), Decimal(5)]


def test_a_dated_release_costs_what_its_family_costs() -> None:
    table = Prices(of={"claude-haiku-4-5": ZERO})
    assert table.find_price("claude-haiku-4-5-20251001") == ZERO
    assert table.find_price("claude-haiku-4-5-preview") is None


def test_an_unknown_model_has_no_cost() -> None:
    with pytest.raises(LookupError, match="claude-new"):
        Prices().cost("claude-new", {})


@pytest.mark.parametrize("price", ["-1", "NaN", "Infinity"])
def test_a_price_that_is_none_is_refused(price: str) -> None:
    with pytest.raises(ValueError, match="output"):
        Price(
            input=Decimal(0), output=Decimal(price), cache_read=Decimal(0), cache_write=Decimal(0)
        )
