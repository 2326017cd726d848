"""A conversation that goes to a person's terminal and comes back. Pure.

The terminal's row is the lease: a session has at most one live terminal, and while it is there and
does not wait any more, the conversation is the terminal's. The node is brought after it.
"""

from dataclasses import replace

from core.frame import RETURNED
from core.ids import NodeId
from core.plan.draft import Draft
from core.plan.instruct import instruct
from core.ports.store import Wake
from core.run import Outcome, RunState
from core.session import AgentSession, SessionState
from core.terminal import Terminal, TerminalState
from core.wire import TakeBack

BACK_TRIES = 3


def hand(draft: Draft, session: AgentSession, node_id: NodeId, *, is_through: bool) -> bool:
    """Bring the conversation where it should be; return whether it is not the thread's now.

    Args:
        draft: Of the run.
        session: With the newest events folded in.
        node_id: Where it is.
        is_through: Whether the coding agent has ended its turn and does nothing.
    """
    terminal = draft.view.terminal
    if session.state is SessionState.ENDED:
        return False
    is_waiting = terminal is not None and terminal.state is TerminalState.WAITING
    if terminal is not None and is_waiting and is_through and not _is_owed_a_turn(draft):
        _open(draft, terminal)
        return True
    has_it = terminal is not None and not is_waiting
    if not has_it and session.state is not SessionState.IN_TERMINAL:
        return False
    _stand_still(draft)
    if not has_it:
        _take_back(draft, session, node_id)
    return True


def _is_owed_a_turn(draft: Draft) -> bool:
    return any(prompt.state in {"sent", "queued"} for prompt in draft.view.prompts)


def _open(draft: Draft, terminal: Terminal) -> None:
    draft.put(terminal.moved(TerminalState.OPENING, at=draft.now))
    draft.tell("terminal.opening", about=f"terminal:{terminal.id}", by=terminal.opened_by)
    draft.add(Wake("terminal", terminal.id))


def _stand_still(draft: Draft) -> None:
    """Give the run the time back that passed since the last look: a person has it."""
    run = draft.run
    passed = draft.now - (draft.view.run.heard_at or draft.now)
    if run.state is RunState.WORKING and run.deadline_at is not None:
        paused_s = run.paused_s + passed.total_seconds()
        draft.set(deadline_at=run.deadline_at + passed, paused_s=paused_s)
    draft.set(heard_at=draft.now, looks=0)


def _take_back(draft: Draft, session: AgentSession, node_id: NodeId) -> None:
    terminal_id = session.terminal_id
    assert terminal_id is not None  # noqa: S101  it is in one
    body = TakeBack(session=session.id, terminal=terminal_id)
    answer = draft.tried(f"back/{terminal_id}", body, node=node_id, times=BACK_TRIES)
    if answer is not None and not answer.ok:
        draft.finish(Outcome.FAILED, "session_failed", answer.text)
    elif draft.run.chat_in is not None:
        _let_wait(draft, session)
    elif not any(prompt.state == "pending" for prompt in draft.view.prompts):
        instruct(draft, RETURNED, f"{terminal_id}/returned")


def _let_wait(draft: Draft, session: AgentSession) -> None:
    """Let a chat wait for words, also one whose turn was cut off without a word of its end."""
    if session.turn_ok is None:
        draft.put(replace(session, turn_ok=False))
