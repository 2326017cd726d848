"""Plots of a project's workspace starts: points for templates to draw. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from core.ids import TaskId, WorkspaceId
from core.ledger import NAMES, Spread, Start, spread

WIDTH, HEIGHT, EDGE = 320, 96, 6
"""Of a plot's drawing, and the room around its points, in its own units."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """One start."""

    x: float
    y: float
    workspace: WorkspaceId
    task: TaskId
    took_s: float
    is_recovered: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """How long one phase took, from the oldest start to the newest.

    Attributes:
        p50_y: Height of the median's line, as is `p95_y` that of the 95th percentile.
    """

    name: str
    dots: tuple[Dot, ...]
    usual: Spread
    p50_y: float
    p95_y: float


def plots(starts: Sequence[Start]) -> tuple[Plot, ...]:
    """Return a plot of the whole and one for each phase. `starts` are newest first."""
    oldest_first = [*reversed(starts)]
    steps = [step for step in NAMES if any(step in start.took_s for start in starts)]
    drawn = [_plot("the whole start", oldest_first, lambda start: start.total_s)]
    drawn += [_plot(NAMES[step], oldest_first, _taking(step)) for step in steps]
    return tuple(plot for plot in drawn if plot is not None)


def _taking(step: str) -> Callable[[Start], float | None]:
    return lambda start: start.took_s.get(step)


def _plot(
    name: str, starts: Sequence[Start], seconds: Callable[[Start], float | None]
) -> Plot | None:
    seen = [(start, took) for start in starts if (took := seconds(start)) is not None]
    if not seen:
        return None
    top = max(took for _, took in seen) or 1.0
    usual = spread([took for _, took in seen])

    def y(took: float) -> float:
        return round(HEIGHT - EDGE - (HEIGHT - 2 * EDGE) * took / top, 1)

    step = (WIDTH - 2 * EDGE) / max(1, len(seen) - 1)
    dots = tuple(
        Dot(
            x=round(EDGE + index * step, 1),
            y=y(took),
            workspace=start.workspace,
            task=start.task,
            took_s=took,
            is_recovered=start.is_recovered,
        )
        for index, (start, took) in enumerate(seen)
    )
    return Plot(name=name, dots=dots, usual=usual, p50_y=y(usual.p50_s), p95_y=y(usual.p95_s))
