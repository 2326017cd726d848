"""From the queue to a coding agent that has its first prompt. Pure."""

from dataclasses import replace

from core.frame import chat_frame, frame
from core.ids import NodeId, SessionId, WorkspaceId
from core.plan.draft import Draft, RunView
from core.plan.leaving import restarted
from core.plan.names import session_name, stop_name, workspace_name
from core.plan.placing import make_room
from core.ports.store import Insert, Wake
from core.run import Outcome, Run, RunState
from core.session import DELIVERED, AgentSession, SessionState
from core.wire import StartSession
from core.workspace import Workspace, WorkspaceState

_LIVE = {WorkspaceState.REQUESTED, WorkspaceState.BUILDING, WorkspaceState.READY}


def place_run(draft: Draft) -> float | None:
    """Find a node and ask for a workspace on it, or take the one that the task has."""
    view = draft.view
    if draft.run.cancel_by:
        draft.end(Outcome.CANCELLED, draft.run.stop_code)
        return None
    if draft.run.chat_in is not None:
        draft.to(RunState.PREPARING, workspace_id=draft.run.chat_in, deadline_at=None)
        return None
    workspace = view.workspace
    if workspace is not None and workspace.state in _LIVE and workspace.node_id:
        _move_in(draft, workspace)
        return None
    is_stopping = workspace is not None and workspace.state is WorkspaceState.STOPPING
    if view.placement is not None and view.placement.node is not None and not is_stopping:
        _take_room(draft, view.placement.node.id)
        return None
    if draft.run.deadline_at is not None and view.now >= draft.run.deadline_at:
        _give_up_or_queue(draft, must_wait=is_stopping)
    elif not is_stopping:
        wished, most = view.new_node, view.nodes_max
        draft.add(*make_room(view.placement, wished, nodes_max=most, at=view.now))
    return view.clocks.stale_s


def _take_room(draft: Draft, node_id: NodeId) -> None:
    if draft.view.workspace is None:
        _ask_for_workspace(draft, node_id)
    else:
        _wake(draft, draft.view.workspace, node_id)


def _give_up_or_queue(draft: Draft, *, must_wait: bool) -> None:
    """Fail without a machine; while others use all that there is, wait for one of them to end."""
    placement = draft.view.placement
    if must_wait or (placement is not None and placement.is_full):
        draft.set(deadline_at=draft.deadline(draft.view.clocks.node_ready_s))
    else:
        draft.end(Outcome.FAILED, "no_node")


def _move_in(draft: Draft, workspace: Workspace) -> None:
    """Take the task's workspace again; its node is asked to make sure that it still runs."""
    if workspace.state is WorkspaceState.READY:
        workspace = workspace.moved(
            WorkspaceState.BUILDING,
            at=draft.now,
            deadline_at=draft.deadline(draft.view.clocks.workspace_s),
        )
        draft.tell("workspace.building", about=f"workspace:{workspace.id}")
    draft.put(replace(workspace, run_id=draft.run.id, keep_until=None, code="", error=""))
    draft.add(Wake("workspace", workspace.id))
    _prepare(draft, workspace.id, workspace.node_id)


def _wake(draft: Draft, workspace: Workspace, node_id: NodeId) -> None:
    """Take the task's stopped workspace again, on a machine that has room for it."""
    workspace = restarted(workspace, at=draft.now)
    draft.tell("workspace.requested", about=f"workspace:{workspace.id}")
    draft.put(
        replace(
            workspace,
            node_id=node_id,
            run_id=draft.run.id,
            keep_until=None,
            deadline_at=draft.deadline(draft.view.clocks.workspace_s),
        )
    )
    draft.add(Wake("workspace", workspace.id))
    draft.claim_room()
    _prepare(draft, workspace.id, node_id)


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
    """Wait for the workspace, then start the coding agent with what was said.

    A chat waits for as long as its workspace is being made, which may be for a machine first.
    """
    view, workspace = draft.view, draft.workspace
    is_free, is_chat = _is_earlier_stopped(view), draft.run.chat_in is not None
    if draft.run.cancel_by:
        draft.end(Outcome.CANCELLED, draft.run.stop_code)
    elif workspace is not None and not is_chat and _is_unmade(workspace):
        draft.end(Outcome.FAILED, workspace.code or "workspace_timeout", workspace.error)
    elif workspace is not None and _is_made(workspace, draft.run) and is_free:
        _start_session(draft, workspace)
    elif draft.run.deadline_at is not None and view.now >= draft.run.deadline_at:
        draft.end(Outcome.FAILED, "workspace_timeout")
    if not is_free:
        return view.clocks.poll_s
    # A workspace that became ready as the chat was written did not wake it.
    return view.clocks.stale_s if is_chat else None


def _is_unmade(workspace: Workspace) -> bool:
    return bool(workspace.code) or workspace.state not in _LIVE


def _is_earlier_stopped(view: RunView) -> bool:
    """Whether the coding agent of the task's run before this one is out of the way for certain."""
    stop = view.earlier and view.orders.get(stop_name(view.earlier.run_id))
    if not stop or not stop.is_open:
        return True
    # It was on a machine that the workspace has left: nothing is left there, or it is gone.
    return view.workspace is not None and stop.node_id != view.workspace.node_id


def _is_made(workspace: Workspace, run: Run) -> bool:
    """Whether it is ready for this run; one that was taken in this very look is not yet."""
    is_mine = run.chat_in is not None or workspace.run_id == run.id
    return workspace.state is WorkspaceState.READY and is_mine


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
        node_id=workspace.node_id,
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
        frame=(frame if run.chat_in is None else chat_frame)(draft.task, view.project),
        continues="" if earlier is None else earlier.id,
        is_chat=run.chat_in is not None,
    )


def start(draft: Draft) -> float | None:
    """Wait for the coding agent's receipt of the first prompt: work begins with it, not before."""
    view, run = draft.view, draft.run
    if view.session is None:
        return None  # Written in this very look.
    if run.cancel_by:
        draft.finish(Outcome.CANCELLED, run.stop_code)
        return None
    if _is_acknowledged(view):
        soft = draft.deadline(view.clocks.run_soft_s)
        draft.to(
            RunState.WORKING,
            started_at=view.now,
            deadline_at=soft if run.chat_in is None else None,
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
