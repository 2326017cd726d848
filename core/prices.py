"""What tokens cost."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

KINDS = {
    "input_tokens": "input",
    "output_tokens": "output",
    "cache_read_input_tokens": "cache_read",
    "cache_creation_input_tokens": "cache_write",
}
"""Kinds of tokens in the vendor's words, and which price each has."""
MILLION = Decimal(1_000_000)
DATED = re.compile(r"-20\d{6}$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What one model costs, in USD per million tokens of each kind.

    Raises:
        ValueError: If a price is negative or no number.
    """

    input: Decimal
    output: Decimal
    cache_read: Decimal
    cache_write: Decimal

    def __post_init__(self) -> None:
        for kind in KINDS.values():
            price = getattr(self, kind)
            if not price.is_finite() or price < 0:
                raise ValueError(f"{kind} must be a price in USD, not {price}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """The price of each model that may be asked."""

    of: Mapping[str, Price] = field(default_factory=dict)

    def find_price(self, model: str) -> Price | None:
        """Return the price of `model`; a dated release costs what the undated name costs."""
        return self.of.get(model) or self.of.get(DATED.sub("", model))

    def cost(self, model: str, tokens: Mapping[str, int]) -> Decimal:
        """Return what `tokens` cost in USD, exactly.

        Args:
            model: A model that has a price.
            tokens: Number of tokens by the keys of `KINDS`; other keys are not billed.

        Raises:
            LookupError: If `model` has no price.
        """
        price = self.find_price(model)
        if price is None:
            raise LookupError(model)
        parts = (tokens.get(kind, 0) * getattr(price, name) for kind, name in KINDS.items())
        return sum(parts, Decimal(0)) / MILLION
