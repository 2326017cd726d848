"""One line of the report, and how it is judged: less is better, by the median."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

ROUNDS = 5
"""Least number of rounds in which both sides take turns."""

Verdict = Literal["ok", "MISSED", ""]


class NotRun(Exception):  # noqa: N818  an outcome, not a fault
    """Something outside is missing; the text says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What was measured, in `unit`, over all rounds.

    Attributes:
        ours: One value a round.
        peer: What ours is compared with, measured in the same rounds; or one fixed limit; empty
            when the row only tells.
        goal: Highest ratio of ours to the peer; None when nothing was promised.
    """

    name: str
    ours: Sequence[float]
    peer: Sequence[float] = ()
    goal: float | None = None
    unit: str = "ms"

    @property
    def ratio(self) -> float | None:
        """Median of the rounds' ratios, or of ours to a fixed limit; None without a peer."""
        if not self.peer:
            return None
        if len(self.peer) == len(self.ours):
            return statistics.median(
                _ratio(one, other) for one, other in zip(self.ours, self.peer, strict=True)
            )
        return _ratio(statistics.median(self.ours), statistics.median(self.peer))

    @property
    def verdict(self) -> Verdict:
        """Whether the goal was met."""
        if self.goal is None or self.ratio is None:
            return ""
        return "ok" if self.ratio <= self.goal else "MISSED"


def within(name: str, ours: Sequence[float], limit: float, *, unit: str = "ms") -> Row:
    """Return a row that is judged by a fixed limit."""
    return Row(name=name, ours=ours, peer=(limit,), goal=1.0, unit=unit)


def told(name: str, ours: Sequence[float], *, unit: str = "ms") -> Row:
    """Return a row that is not judged."""
    return Row(name=name, ours=ours, unit=unit)


def table(rows: Sequence[Row]) -> str:
    """Return the rows as plain text in columns."""
    heads = ("", "ours", "range", "peer", "ratio", "goal", "unit", "")
    lines = [heads, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    pads: Sequence[Callable[[str, int], str]] = (str.ljust, *[str.rjust] * 5, str.ljust, str.ljust)
    return "\n".join(
        "  ".join(
            pad(cell, width) for pad, cell, width in zip(pads, line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def _cells(row: Row) -> Sequence[str]:
    spread = f"{_short(min(row.ours))}-{_short(max(row.ours))}" if len(row.ours) > 1 else ""
    return (
        row.name,
        _short(statistics.median(row.ours)),
        spread,
        _short(statistics.median(row.peer)) if row.peer else "",
        "" if row.ratio is None else f"{row.ratio:.2f}",
        "" if row.goal is None else f"{row.goal:.2f}",
        row.unit,
        row.verdict,
    )


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _ratio(one: float, other: float) -> float:
    if other:
        return one / other
    return 1.0 if not one else float("inf")
