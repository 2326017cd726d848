"""The ledger of a workspace's start: its phases, how long they take, and what is usual. Pure.

A phase tells its own limit and what happens past it: the node that keeps to them says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from math import ceil

from core.card import StepMark
from core.ids import TaskId, WorkspaceId
from core.workspace import Workspace

NAMES: Mapping[str, str] = {
    "fetch": "fetching the repository",
    "tree": "laying out the files",
    "policy": "checking the devcontainer",
    "build": "building the devcontainer",
    "start": "starting the container",
    "hooks": "running its lifecycle commands",
    "probe": "reading its environment",
}
"""What people read for each step that a node tells of."""
_MARKS: Mapping[str, StepMark] = {"done": "done", "failed": "failed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """What is usual in a project.

    Attributes:
        p50_s: Half of the starts took no longer.
        p95_s: 95 of 100 took no longer; the longest where there are fewer than 20.
        count: How many starts these are taken from.
    """

    p50_s: float
    p95_s: float
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One phase of a start.

    Attributes:
        step: As the node calls it; phases of all starts are compared by it.
        took_s: Seconds so far, or in all once it ended; None where nobody knows.
        usual: None until this project has a history.
        limit_s: Seconds after which it is given up; 0 where only the whole start has a limit.
        then: What happens then, as a sentence without its full stop.
    """

    step: str
    name: str
    mark: StepMark
    text: str = ""
    took_s: float | None = None
    usual: Spread | None = None
    limit_s: float = 0.0
    then: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A start that is over, in short.

    Attributes:
        took_s: Seconds of each step; one that was repeated counts in all.
        is_recovered: Whether a fall-back image is used.
    """

    workspace: WorkspaceId
    task: TaskId
    at: datetime
    took_s: Mapping[str, float]
    is_recovered: bool

    @property
    def total_s(self) -> float:
        """Seconds of all phases."""
        return sum(self.took_s.values())


def phases(
    steps: Sequence[Mapping[str, str]],
    *,
    is_building: bool,
    now: datetime,
    usual: Mapping[str, Spread] | None = None,
) -> tuple[Phase, ...]:
    """Return the phases of a start from `Workspace.steps`, in the order in which they began."""
    lines: list[Phase] = []
    begun: list[datetime | None] = []
    for told in steps:
        step, at = told.get("step", ""), _moment(told.get("at", ""))
        if not lines or lines[-1].step != step or lines[-1].mark != "doing":
            lines.append(_begun(told, (usual or {}).get(step)))
            begun.append(at)
        mark: StepMark = _MARKS.get(told.get("state", ""), "doing")
        text = told.get("text", "") or ("" if mark == "done" else lines[-1].text)
        took_s = _between(begun[-1], now if mark == "doing" else at)
        lines[-1] = replace(lines[-1], mark=mark, text=text, took_s=took_s)
    return tuple(
        line
        if line.mark != "doing" or (is_building and index + 1 == len(lines))
        else replace(line, mark="skipped", took_s=None)
        for index, line in enumerate(lines)
    )


def _begun(told: Mapping[str, str], usual: Spread | None) -> Phase:
    step = told.get("step", "")
    return Phase(
        step=step,
        name=NAMES.get(step, step),
        mark="doing",
        usual=usual,
        limit_s=_number(told.get("limit_s", "")),
        then=told.get("then", ""),
    )


def start_of(workspace: Workspace) -> Start | None:
    """Return a workspace's start in short; None for one that did not come to its end."""
    ended = phases(workspace.steps, is_building=False, now=workspace.created_at)
    is_whole = any(phase.step == "probe" and phase.mark == "done" for phase in ended)
    if not is_whole:
        return None
    took: dict[str, float] = {}
    for phase in ended:
        if phase.took_s is not None:
            took[phase.step] = took.get(phase.step, 0.0) + phase.took_s
    return Start(
        workspace=workspace.id,
        task=workspace.task_id,
        at=workspace.created_at,
        took_s=took,
        is_recovered=bool(workspace.recovered),
    )


def usual_of(starts: Sequence[Start]) -> Mapping[str, Spread]:
    """Return what is usual for each step."""
    steps = {step: None for start in starts for step in start.took_s}
    return {step: spread([s.took_s[step] for s in starts if step in s.took_s]) for step in steps}


def spread(values: Sequence[float]) -> Spread:
    """Return median and 95th percentile by nearest rank. There must be a value."""
    ranked = sorted(values)
    return Spread(
        p50_s=ranked[ceil(0.50 * len(ranked)) - 1],
        p95_s=ranked[ceil(0.95 * len(ranked)) - 1],
        count=len(ranked),
    )


def _between(start: datetime | None, end: datetime | None) -> float | None:
    return None if start is None or end is None else max(0.0, (end - start).total_seconds())


def _moment(text: str) -> datetime | None:
    """Read a time that a machine told; None for what is none."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo is not None else None


def _number(text: str) -> float:
    """Read seconds that a machine told; 0 for what is no such number."""
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if 0 < value < 10**9 else 0.0
