"""What a run does next, from what is. Pure: the same view gives the same plan."""

from collections.abc import Callable, Mapping

from core.clocks import Clocks
from core.place import is_lost
from core.plan.draft import Draft, RunView
from core.plan.prepare import place_run, prepare, start
from core.plan.publish import check, end_with, is_pushed, publish
from core.plan.step import Planned, left_s, soonest
from core.plan.talk import converse
from core.run import Outcome, RunState
from core.workspace import WorkspaceState

_PHASES: Mapping[RunState, Callable[[Draft], float | None]] = {
    RunState.PLACING: place_run,
    RunState.PREPARING: prepare,
    RunState.STARTING: start,
    RunState.WORKING: converse,
    RunState.ASKING: converse,
    RunState.CHECKING: check,
    RunState.PUBLISHING: publish,
}


_HOME = frozenset({WorkspaceState.REQUESTED, WorkspaceState.BUILDING, WorkspaceState.READY})


def plan_run(view: RunView) -> Planned:
    """Return what to write for the run now, and when to look again.

    A look may bring a run through several states at once, for as long as nothing is waited for.
    """
    draft = Draft(view)
    due_in_s: float | None = None
    done: set[Callable[[Draft], float | None]] = set()
    while (phase := _PHASES.get(draft.run.state)) is not None and phase not in done:
        done.add(phase)
        if _is_node_lost(draft, view.clocks):
            if _is_given_time(draft):
                return draft.planned(view.clocks.stale_s)
            end_with(draft, Outcome.FAILED, "node_lost")
            break
        if _is_homeless(draft):
            end_with(draft, Outcome.FAILED, "chat_without_workspace")
            break
        due_in_s = phase(draft)
    if draft.run.state is RunState.ENDED:
        return draft.planned(None)
    left = left_s(draft.run.deadline_at, view.now)
    return draft.planned(soonest([due_in_s, left]))


def _is_node_lost(draft: Draft, clocks: Clocks) -> bool:
    node = draft.view.node
    is_needed = draft.run.state is not RunState.PLACING and not is_pushed(draft)
    if node is None or not is_needed:
        return False
    return is_lost(draft.view.link, node.state_since, now=draft.now, clocks=clocks)


def _is_given_time(draft: Draft) -> bool:
    """Let the machine of a chat come back once: maybe it was we who were away or asleep."""
    if draft.run.chat_in is None or draft.run.looks:
        return False
    draft.set(looks=1)
    return True


def _is_homeless(draft: Draft) -> bool:
    """Whether the workspace of a chat was stopped or taken away."""
    workspace = draft.workspace
    is_there = workspace is not None and workspace.state in _HOME
    return draft.run.chat_in is not None and not is_there
