"""From the queue to a coding agent that has its first prompt. Pure."""

from dataclasses import replace

from core.frame import frame
from core.ids import NodeId, SessionId, WorkspaceId
from core.node import Node, NodeState
from core.plan.draft import Draft, RunView
from core.plan.names import session_name, stop_name, workspace_name
from core.ports.store import AtMost, Insert, Wake
from core.run import Outcome, Run, RunState
from core.session import DELIVERED, AgentSession, SessionState
from core.wire import StartSession
from core.workspace import Workspace, WorkspaceState

_LIVE = {WorkspaceState.REQUESTED, WorkspaceState.BUILDING, WorkspaceState.READY}


def place_run(draft: Draft) -> float | None:
    """Find a node and ask for a workspace on it, or take the one that the task has."""
    view = draft.view
    if draft.run.cancel_by:
        draft.end(Outcome.CANCELLED, "cancelled")
        return None
    if view.workspace is not None and view.workspace.state in _LIVE:
        _move_in(draft, view.workspace)
        return None
    if view.placement is not None and view.placement.node is not None:
        _ask_for_workspace(draft, view.placement.node.id)
        return None
    if draft.run.deadline_at is not None and view.now >= draft.run.deadline_at:
        _give_up_or_queue(draft)
    elif view.new_node is not None and view.placement and not view.placement.is_coming:
        _ask_for_node(draft, view.new_node)
    elif view.placement is not None and view.placement.idle is not None:
        _let_go(draft, view.placement.idle)
    return view.clocks.stale_s


def _give_up_or_queue(draft: Draft) -> None:
    """Fail without a machine; while others use all that there is, wait for one of them to end."""
    placement = draft.view.placement
    if placement is not None and placement.is_full:
        draft.set(deadline_at=draft.deadline(draft.view.clocks.node_ready_s))
    else:
        draft.end(Outcome.FAILED, "no_node")


def _let_go(draft: Draft, idle: Workspace) -> None:
    """Make room: a workspace that is only kept warm gives way to work."""
    draft.put(replace(idle, keep_until=draft.now))
    draft.add(Wake("workspace", idle.id))


def _ask_for_node(draft: Draft, node: Node) -> None:
    """Write the wish; that there are not too many is counted as it is written."""
    live = tuple(state for state in NodeState if state is not NodeState.GONE)
    limit = AtMost(
        number=draft.view.nodes_max,
        where=(("supplier", node.supplier), ("state", live)),
        code="nodes",
    )
    draft.add(Insert(node, limits=(limit,)), Wake("node", node.id))


def _move_in(draft: Draft, workspace: Workspace) -> None:
    """Take the task's workspace again; its node is asked to make sure that it still runs."""
    if workspace.state is WorkspaceState.READY:
        workspace = workspace.moved(
            WorkspaceState.BUILDING,
            at=draft.now,
            deadline_at=draft.deadline(draft.view.clocks.workspace_s),
        )
        draft.tell("workspace.building", about=f"workspace:{workspace.id}")
    draft.put(replace(workspace, run_id=draft.run.id, keep_until=None))
    draft.add(Wake("workspace", workspace.id))
    _prepare(draft, workspace.id, workspace.node_id)


def _ask_for_workspace(draft: Draft, node_id: NodeId) -> None:
    view = draft.view
    workspace = Workspace(
        id=WorkspaceId(workspace_name(draft.run.id, view.installation)),
        project=view.project.id,
        task_id=draft.task.id,
        run_id=draft.run.id,
        node_id=node_id,
        size=view.project.size,
        branch=draft.task.branch,
        state=WorkspaceState.REQUESTED,
        state_since=view.now,
        created_at=view.now,
        deadline_at=draft.deadline(view.clocks.workspace_s),
    )
    draft.add(Insert(workspace), Wake("workspace", workspace.id))
    draft.claim_room()
    _prepare(draft, workspace.id, node_id)


def _prepare(draft: Draft, workspace_id: WorkspaceId, node_id: NodeId) -> None:
    draft.to(
        RunState.PREPARING,
        workspace_id=workspace_id,
        node_id=node_id,
        deadline_at=draft.deadline(draft.view.clocks.workspace_s),
    )


def prepare(draft: Draft) -> float | None:
    """Wait for the workspace, then start the coding agent with what was said."""
    view, workspace = draft.view, draft.view.workspace
    is_free = _is_earlier_stopped(view)
    if draft.run.cancel_by:
        draft.end(Outcome.CANCELLED, "cancelled")
    elif workspace is not None and (workspace.code or workspace.state not in _LIVE):
        draft.end(Outcome.FAILED, workspace.code or "workspace_timeout", workspace.error)
    elif workspace is not None and _is_made(workspace, draft.run) and is_free:
        _start_session(draft, workspace)
    elif draft.run.deadline_at is not None and view.now >= draft.run.deadline_at:
        draft.end(Outcome.FAILED, "workspace_timeout")
    return None if is_free else view.clocks.poll_s


def _is_earlier_stopped(view: RunView) -> bool:
    """Whether the coding agent of the task's run before this one is out of the way for certain."""
    stop = view.earlier and view.orders.get(stop_name(view.earlier.run_id))
    return not stop or not stop.is_open


def _is_made(workspace: Workspace, run: Run) -> bool:
    """Whether it is ready for this run; one that was taken in this very look is not yet."""
    return workspace.state is WorkspaceState.READY and workspace.run_id == run.id


def _start_session(draft: Draft, workspace: Workspace) -> None:
    view = draft.view
    session = AgentSession(
        id=SessionId(session_name(draft.run.id, view.installation)),
        run_id=draft.run.id,
        task_id=draft.task.id,
        workspace_id=workspace.id,
        model=view.model,
        state=SessionState.STARTING,
        created_at=view.now,
        continues=None if view.earlier is None else view.earlier.id,
    )
    draft.add(Insert(session, once=True))
    draft.to(
        RunState.STARTING,
        session_id=session.id,
        heard_at=view.now,
        deadline_at=draft.deadline(view.clocks.acknowledge_s),
    )
    draft.order(f"{draft.run.id}/start/0", start_order(draft), node=workspace.node_id)
    draft.send_prompts(session.id, workspace.node_id)


def start_order(draft: Draft) -> StartSession:
    """Return the order that makes sure that the run's coding agent runs."""
    view, run = draft.view, draft.run
    assert run.session_id is not None  # noqa: S101  set with the state
    assert run.workspace_id is not None  # noqa: S101  set with the state
    earlier = view.earlier
    return StartSession(
        session=run.session_id,
        run=run.id,
        workspace=run.workspace_id,
        model=view.model,
        frame=frame(draft.task, view.project),
        continues="" if earlier is None else earlier.id,
    )


def start(draft: Draft) -> float | None:
    """Wait for the coding agent's receipt of the first prompt: work begins with it, not before."""
    view, run = draft.view, draft.run
    if view.session is None:
        return None  # Written in this very look.
    if run.cancel_by:
        draft.finish(Outcome.CANCELLED, "cancelled")
        return None
    if _is_acknowledged(view):
        draft.to(
            RunState.WORKING,
            started_at=view.now,
            deadline_at=draft.deadline(view.clocks.run_soft_s),
        )
        return None
    started = view.orders.get(f"{run.id}/start/0")
    if started is not None and started.ok is False:
        draft.finish(Outcome.FAILED, started.code or "session_failed", started.text)
    elif view.session.state is SessionState.ENDED:
        draft.finish(Outcome.FAILED, "session_failed", view.session.ended)
    elif run.deadline_at is not None and view.now >= run.deadline_at:
        draft.finish(Outcome.FAILED, "not_acknowledged")
    return None


def _is_acknowledged(view: RunView) -> bool:
    """Whether the coding agent has its first prompt; a turn that failed at once takes it back."""
    is_delivered = any(prompt.state in DELIVERED for prompt in view.prompts)
    return is_delivered or (view.session is not None and view.session.turn_ok is not None)
