from dataclasses import replace
from datetime import datetime, timedelta
from types import NoneType
from typing import TypeGuard

import pytest

from core.node import NodeState
from core.order import NodeOrder
from core.plan.recording import FETCH_S_MAX
from core.plan.step import Planned
from core.plan.terminal import (
    IN_ANOTHER_CONTAINER,
    NO_ANSWER,
    NODE_AWAY,
    WITH_ITS_WORKSPACE,
    TerminalView,
    plan_terminal,
)
from core.plan.workspace import WorkspaceView, plan_workspace
from core.ports.store import Change, Insert, Tell, Update, Wake
from core.recording import Recording, RecordingState
from core.terminal import MOVES, Terminal, TerminalState
from core.workspace import WorkspaceState
from tests.fakes.nouns import (
    CLOCKS,
    a_link,
    a_node,
    a_project,
    a_recording,
    a_terminal,
    a_workspace,
    an_answer,
    at,
)

LIVE = [TerminalState.OPENING, TerminalState.OPEN, TerminalState.CLOSING]
LATE = at(CLOCKS.terminal_s)


def view(terminal: Terminal, *orders: NodeOrder, **values: object) -> TerminalView:
    return TerminalView(
        **{
            "terminal": terminal,
            "workspace": a_workspace(container="c1"),
            "node": a_node(),
            "link": a_link(),
            "orders": {order.id: order for order in orders},
            "now": at(10),
            "fence": 3,
            "clocks": CLOCKS,
            **values,
        }
    )


def a_shell(state: TerminalState, **values: object) -> Terminal:
    return a_terminal(state=state, container="c1", **values)


def terminal_of(planned: Planned) -> Terminal:
    """Return what a terminal becomes; it is told."""
    (found,) = [c.noun for c in planned.changes if isinstance(c, Update)]
    assert isinstance(found, Terminal)
    (event,) = [change.event for change in planned.changes if isinstance(change, Tell)]
    assert (event.kind, event.subject) == (f"terminal.{found.state}", f"terminal:{found.id}")
    assert event.task_id == "T-1"
    assert event.data == {"error": found.error}
    return found


def orders_of(planned: Planned, *, but: type = NoneType) -> list[tuple[str, str, int]]:
    inserted = [c.noun for c in planned.changes if isinstance(c, Insert)]
    found = [noun for noun in inserted if not isinstance(noun, but)]
    assert all(order.subject_kind == "terminal" for order in found)
    assert all(order.node_id == "node-1" for order in found)
    return [(order.id, order.kind, order.fence) for order in found]


def test_a_new_terminal_is_ordered_under_a_name_that_it_keeps() -> None:
    planned = plan_terminal(view(a_shell(TerminalState.OPENING)))
    assert orders_of(planned) == [("t-0000aaaa/open", "open_terminal", 3)]
    assert planned.due_in_s == CLOCKS.terminal_s - 10
    assert plan_terminal(view(a_shell(TerminalState.OPENING))) == planned


def test_an_ordered_terminal_is_waited_for() -> None:
    asked = an_answer("t-0000aaaa/open", ok=None)
    planned = plan_terminal(view(a_shell(TerminalState.OPENING), asked))
    assert planned == Planned(due_in_s=CLOCKS.terminal_s - 10)


def test_a_terminal_is_open_when_the_node_says_so() -> None:
    done = an_answer("t-0000aaaa/open")
    opened = terminal_of(plan_terminal(view(a_shell(TerminalState.OPENING), done, now=LATE)))
    assert (opened.state, opened.error) == (TerminalState.OPEN, "")


def test_a_terminal_that_cannot_be_opened_says_why() -> None:
    refused = an_answer("t-0000aaaa/open", ok=False, text="The container does not run.")
    over = terminal_of(plan_terminal(view(a_shell(TerminalState.OPENING), refused)))
    assert (over.state, over.error) == (TerminalState.EXITED, "The container does not run.")


@pytest.mark.parametrize(
    ("link", "said"),
    [
        (a_link(seen_at=LATE), NO_ANSWER),
        (a_link(seen_at=LATE, replica=None), NODE_AWAY),
        (a_link(seen_at=at(-CLOCKS.stale_s)), NODE_AWAY),
        (None, NODE_AWAY),
    ],
)
def test_a_terminal_has_a_deadline_and_leaves_no_shell_behind(link: object, said: str) -> None:
    asked = an_answer("t-0000aaaa/open", ok=None)
    planned = plan_terminal(view(a_shell(TerminalState.OPENING), asked, link=link, now=LATE))
    over = terminal_of(planned)
    assert (over.state, over.error) == (TerminalState.EXITED, said)
    assert orders_of(planned) == [("t-0000aaaa/close", "close_terminal", 3)]


def test_an_open_terminal_stays_until_something_happens() -> None:
    assert plan_terminal(view(a_shell(TerminalState.OPEN))) == Planned()


def test_a_terminal_outlives_that_its_workspace_is_made_sure_of() -> None:
    """A follow-up takes a warm workspace again: for a while it is building."""
    building = a_workspace(state=WorkspaceState.BUILDING, container="c1")
    assert plan_terminal(view(a_shell(TerminalState.OPEN), workspace=building)) == Planned()


def test_a_terminal_is_closed_by_order() -> None:
    planned = plan_terminal(view(a_shell(TerminalState.CLOSING)))
    assert orders_of(planned) == [("t-0000aaaa/close", "close_terminal", 3)]
    assert planned.due_in_s == CLOCKS.terminal_s - 10
    waits = plan_terminal(
        view(a_shell(TerminalState.CLOSING), an_answer("t-0000aaaa/close", ok=None))
    )
    assert waits == Planned(due_in_s=CLOCKS.terminal_s - 10)


@pytest.mark.parametrize(
    ("ok", "now"), [(True, at(10)), (False, at(10)), (None, LATE)], ids=["done", "failed", "late"]
)
def test_a_closed_terminal_ends_whatever_the_node_says(ok: bool | None, now: object) -> None:
    answer = an_answer("t-0000aaaa/close", ok=ok)  # type: ignore[arg-type]
    over = terminal_of(plan_terminal(view(a_shell(TerminalState.CLOSING), answer, now=now)))
    assert (over.state, over.error) == (TerminalState.EXITED, "")


@pytest.mark.parametrize("state", LIVE)
@pytest.mark.parametrize(
    "place",
    [state for state in WorkspaceState if state not in {"ready", "building"}],
)
def test_a_terminal_ends_with_its_workspace(state: TerminalState, place: WorkspaceState) -> None:
    workspace = a_workspace(state=place, container="c1")
    over = terminal_of(plan_terminal(view(a_shell(state), workspace=workspace)))
    assert (over.state, over.error) == (TerminalState.EXITED, WITH_ITS_WORKSPACE)


@pytest.mark.parametrize("state", LIVE)
def test_a_terminal_ends_with_its_container(state: TerminalState) -> None:
    rebuilt = a_workspace(container="c2")
    planned = plan_terminal(view(a_shell(state), workspace=rebuilt))
    over = terminal_of(planned)
    assert (over.state, over.error) == (TerminalState.EXITED, IN_ANOTHER_CONTAINER)
    assert planned.due_in_s == 0
    left = plan_terminal(view(over, workspace=rebuilt))
    assert [kind for _, kind, _ in orders_of(left)] == ["close_terminal"]


def test_a_tab_that_is_closed_after_the_end_is_forgotten_by_the_node_once() -> None:
    over = a_shell(TerminalState.EXITED, is_hidden=True)
    planned = plan_terminal(view(over))
    assert orders_of(planned) == [("t-0000aaaa/close", "close_terminal", 3)]
    assert plan_terminal(view(over, an_answer("t-0000aaaa/close", ok=None))) == Planned()
    assert plan_terminal(view(a_shell(TerminalState.EXITED))) == Planned()
    gone = a_workspace(state=WorkspaceState.GONE)
    assert plan_terminal(view(over, workspace=gone)) == Planned()


def recorded(state: RecordingState) -> Recording:
    return a_recording(state=state, created_at=at(1))


RAN = an_answer("t-0000aaaa/open")


def asked_for(planned: Planned) -> list[str]:
    """Return the recordings that are to be taken; whoever takes them is woken."""
    found = [c.noun.id for c in planned.changes if is_recording(c)]
    assert found == [c.key for c in planned.changes if isinstance(c, Wake)]
    return found


def is_recording(change: Change) -> TypeGuard[Insert]:
    return isinstance(change, Insert) and isinstance(change.noun, Recording) and change.once


def test_what_a_shell_wrote_is_recorded_before_its_node_forgets_it() -> None:
    closing = a_shell(TerminalState.CLOSING)
    first = plan_terminal(view(closing, RAN))
    assert asked_for(first) == ["t-0000aaaa"]
    assert orders_of(first, but=Recording) == []
    waits = view(closing, RAN, recording=recorded(RecordingState.WANTED))
    assert plan_terminal(waits) == Planned(due_in_s=CLOCKS.terminal_s - 10)
    for settled in (RecordingState.KEPT, RecordingState.LOST):
        planned = plan_terminal(view(closing, RAN, recording=recorded(settled)))
        assert [kind for _, kind, _ in orders_of(planned)] == ["close_terminal"]


def test_a_node_that_is_away_for_a_moment_is_asked_for_the_recording_before_it_forgets() -> None:
    closing = view(a_shell(TerminalState.CLOSING), RAN, link=None)
    first = plan_terminal(closing)
    assert asked_for(first) == ["t-0000aaaa"]
    assert orders_of(first, but=Recording) == []
    waits = plan_terminal(replace(closing, recording=recorded(RecordingState.WANTED)))
    assert waits == Planned(due_in_s=CLOCKS.terminal_s - 10)


@pytest.mark.parametrize("link", [a_link(), None], ids=["node up", "node away"])
def test_a_recording_holds_up_no_close_for_ever(link: object) -> None:
    closing = view(a_shell(TerminalState.CLOSING), RAN, link=link, now=LATE)
    held = replace(closing, recording=recorded(RecordingState.WANTED))
    assert [kind for _, kind, _ in orders_of(plan_terminal(held))] == ["close_terminal"]


def test_a_tab_that_is_closed_after_the_end_is_forgotten_when_it_is_recorded() -> None:
    over = a_shell(TerminalState.EXITED, is_hidden=True)
    planned = plan_terminal(view(over, RAN, recording=recorded(RecordingState.KEPT), now=LATE))
    assert [kind for _, kind, _ in orders_of(planned)] == ["close_terminal"]


@pytest.mark.parametrize("link", [a_link(), None], ids=["node up", "node away"])
@pytest.mark.parametrize("now", [at(10), LATE, at(CLOCKS.publish_s + FETCH_S_MAX)])
def test_what_is_over_is_forgotten_when_no_try_to_record_it_is_left(
    link: object, now: datetime
) -> None:
    """However long ago the shell ended: the log is not removed under whoever reads it."""
    over = a_shell(TerminalState.EXITED, is_hidden=True)
    waits = view(over, RAN, recording=recorded(RecordingState.WANTED), link=link, now=now)
    planned = plan_terminal(waits)
    assert planned.changes == ()
    assert planned.due_in_s is not None
    later = now + timedelta(seconds=planned.due_in_s)
    assert [kind for _, kind, _ in orders_of(plan_terminal(replace(waits, now=later)))] == [
        "close_terminal"
    ]


def test_what_ended_unrecorded_is_recorded_before_it_is_forgotten() -> None:
    over = a_shell(TerminalState.EXITED, is_hidden=True)
    planned = plan_terminal(view(over, RAN, now=LATE))
    assert asked_for(planned) == ["t-0000aaaa"]
    assert orders_of(planned, but=Recording) == []


def test_a_terminal_that_ends_with_its_workspace_is_recorded_and_one_that_never_ran_is_not() -> (
    None
):
    going = a_workspace(state=WorkspaceState.DELETING, container="c1")
    ran = plan_terminal(view(a_shell(TerminalState.OPEN), RAN, workspace=going))
    assert asked_for(ran) == ["t-0000aaaa"]
    never = plan_terminal(view(a_shell(TerminalState.OPENING), workspace=going))
    assert asked_for(never) == []


def test_an_end_is_final() -> None:
    assert MOVES[TerminalState.EXITED] == frozenset()


def test_a_workspace_wakes_its_terminals_whenever_it_changes() -> None:
    planned = plan_workspace(
        WorkspaceView(
            workspace=a_workspace(run_id=None, keep_until=at(0)),
            project=a_project(),
            node=a_node(state=NodeState.READY),
            link=a_link(),
            orders={},
            now=at(10),
            fence=1,
            clocks=CLOCKS,
            url="",
            image="",
            terminals=("t-1", "t-2"),  # type: ignore[arg-type]
        )
    )
    woken = {c.key for c in planned.changes if isinstance(c, Wake) and c.kind == "terminal"}
    assert woken == {"t-1", "t-2"}
