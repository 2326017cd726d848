"""What a terminal does next. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from core.clocks import Clocks
from core.ids import RunId
from core.node import Link, Node
from core.order import NodeOrder, order
from core.place import is_up
from core.plan.recording import awaited_until, wanted
from core.plan.step import Planned, left_s, told
from core.ports.store import Change, Insert, Update, Wake
from core.recording import Recording, RecordingState
from core.terminal import Terminal, TerminalState
from core.wire import CloseTerminal, HandOver, OpenTerminal, OrderBody
from core.workspace import Workspace, WorkspaceState

WITH_ITS_WORKSPACE = "Its workspace was taken away."
IN_ANOTHER_CONTAINER = "Its workspace was built anew. Open another terminal."
NODE_AWAY = "The machine does not answer now. Open another terminal when it is back."
NO_ANSWER = "The machine did not open it in time. Open another terminal."
_AT_HOME = frozenset({WorkspaceState.READY, WorkspaceState.BUILDING})
"""Where a terminal goes on: a ready workspace is made sure of anew for each run in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalView:
    """All that a plan for a terminal may look at.

    Attributes:
        node: Where the workspace is; None while that is on no machine.
        run_id: The run whose agent session it has; None for a shell.
        orders: Of this terminal, by id.
        recording: Of this terminal; None while nobody has asked for one.
    """

    terminal: Terminal
    workspace: Workspace
    node: Node | None
    link: Link | None
    orders: Mapping[str, NodeOrder]
    now: datetime
    fence: int
    clocks: Clocks
    recording: Recording | None = None
    run_id: RunId | None = None


def plan_terminal(view: TerminalView) -> Planned:
    """Return what to write for the terminal now, and when to look again."""
    terminal, workspace = view.terminal, view.workspace
    if terminal.state is TerminalState.EXITED:
        return _forget(view)
    if workspace.state not in _AT_HOME:
        return _exit(view, WITH_ITS_WORKSPACE)
    if workspace.state is WorkspaceState.READY and workspace.container != terminal.container:
        return _exit(view, IN_ANOTHER_CONTAINER)
    return _PHASES[terminal.state](view)


def _open(view: TerminalView) -> Planned:
    terminal = view.terminal
    answer = view.orders.get(f"{terminal.id}/open")
    if answer is not None and answer.ok:
        return _write(view, terminal.moved(TerminalState.OPEN, at=view.now))
    if answer is not None and answer.ok is False:
        return _exit(view, answer.text or NO_ANSWER)
    if _is_late(view):
        error = NO_ANSWER if _is_node_up(view) else NODE_AWAY
        return _exit(view, error, _order(view, "close", _closing(terminal)))
    changes = () if answer is not None else (_order(view, "open", _opening(terminal)),)
    return Planned(changes=changes, due_in_s=_left_s(view))


def _keep(view: TerminalView) -> Planned:
    """Wait for the node's word, a person's, or the workspace's end: each wakes the terminal."""
    del view
    return Planned()


def _close(view: TerminalView) -> Planned:
    """End it once its recording is taken, or when its time is over: people wait for that.

    A node that is away ends it when it is back.
    """
    if _recorded_in_s(view) is not None and not _is_late(view):
        return Planned(changes=_recording(view), due_in_s=_left_s(view))
    answer = view.orders.get(f"{view.terminal.id}/close")
    made = () if answer is not None else (_order(view, "close", _closing(view.terminal)),)
    if (answer is not None and not answer.is_open) or _is_late(view):
        return _exit(view, "", *made)
    return Planned(changes=made, due_in_s=_left_s(view))


def _forget(view: TerminalView) -> Planned:
    """Let the node forget a terminal whose tab was closed after its end, once it is recorded.

    In a container that was replaced it may be open all the same.
    """
    terminal, workspace = view.terminal, view.workspace
    is_told = f"{terminal.id}/close" in view.orders
    is_replaced = bool(workspace.container) and workspace.container != terminal.container
    if is_told or not (terminal.is_hidden or is_replaced) or workspace.state not in _AT_HOME:
        return Planned()
    due_in_s = _recorded_in_s(view)
    if due_in_s is not None:
        return Planned(changes=_recording(view), due_in_s=due_in_s)
    return Planned(changes=(_order(view, "close", _closing(view.terminal)),))


def _exit(view: TerminalView, error: str, *more: Change) -> Planned:
    exited = view.terminal.moved(TerminalState.EXITED, at=view.now, error=error)
    planned = _write(view, exited, *_recording(view), *more)
    return replace(planned, due_in_s=0)


def _recording(view: TerminalView) -> tuple[Change, ...]:
    """Have what its shell wrote recorded, if it ever ran."""
    opened = view.orders.get(f"{view.terminal.id}/open")
    has_run = opened is not None and opened.ok
    return wanted(view.terminal, at=view.now) if has_run and view.recording is None else ()


def _recorded_in_s(view: TerminalView) -> float | None:
    """Return how long the recording may still take; None if there is nothing to wait for.

    The node forgets all when it closes the terminal.
    """
    if view.recording is None:
        return 0 if _recording(view) else None
    is_wanted = view.recording.state is RecordingState.WANTED
    left = left_s(awaited_until(view.recording, view.clocks), view.now)
    return left if is_wanted and left else None


def _write(view: TerminalView, new: Terminal, *more: Change) -> Planned:
    fact = told(
        f"terminal.{new.state}",
        f"terminal:{new.id}",
        at=view.now,
        task_id=view.workspace.task_id or None,
        error=new.error,
    )
    woken = () if view.run_id is None else (Wake("run", view.run_id),)
    return Planned(changes=(Update(new), fact, *woken, *more))


def _order(view: TerminalView, verb: str, body: OrderBody) -> Insert:
    new = order(
        body,
        id=f"{view.terminal.id}/{verb}",
        node=view.workspace.node_id,
        subject=("terminal", view.terminal.id),
        fence=view.fence,
        at=view.now,
    )
    return Insert(new, once=True)


def _opening(terminal: Terminal) -> OpenTerminal | HandOver:
    if terminal.session_id is None:
        return OpenTerminal(workspace=terminal.workspace_id, terminal=terminal.id)
    return HandOver(
        session=terminal.session_id, workspace=terminal.workspace_id, terminal=terminal.id
    )


def _closing(terminal: Terminal) -> CloseTerminal:
    return CloseTerminal(workspace=terminal.workspace_id, terminal=terminal.id)


def _deadline(view: TerminalView) -> datetime:
    return view.terminal.state_since + timedelta(seconds=view.clocks.terminal_s)


def _is_late(view: TerminalView) -> bool:
    return view.now >= _deadline(view)


def _left_s(view: TerminalView) -> float | None:
    return left_s(_deadline(view), view.now)


def _is_node_up(view: TerminalView) -> bool:
    node = view.node
    return node is not None and is_up(node, view.link, now=view.now, clocks=view.clocks)


_PHASES: Mapping[TerminalState, Callable[[TerminalView], Planned]] = {
    TerminalState.WAITING: _keep,
    TerminalState.OPENING: _open,
    TerminalState.OPEN: _keep,
    TerminalState.CLOSING: _close,
}
