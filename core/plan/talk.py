"""While the coding agent works or asks: prompts in, questions out, and when it is over. Pure."""

from dataclasses import replace
from datetime import timedelta

from core.decision import Decision, DecisionState
from core.frame import BUDGET_RAISED, NUDGE
from core.ids import NodeId, SessionId
from core.node import NodeState
from core.plan.draft import Draft
from core.plan.hand import hand
from core.plan.instruct import instruct
from core.plan.prepare import start_order
from core.run import Outcome, RunState
from core.session import AgentSession, SessionState
from core.wire import AnswerQuestion, Interrupt

_BLOCKING = {
    "authentication_failed",
    "billing_error",
    "permission_error",
    "usage_limit_reached",
}


def converse(draft: Draft) -> float | None:
    """Look after a coding agent that works or asks."""
    view, run, session = draft.view, draft.run, draft.view.session
    assert session is not None  # noqa: S101  a working run has one
    assert run.node_id is not None  # noqa: S101  a working run has one
    if view.heard:
        draft.set(heard_at=view.now, looks=0)
    if run.cancel_by and not _interrupt(draft, session.id, run.node_id):
        draft.finish(Outcome.CANCELLED, run.stop_code)
        return None
    _announce(draft)
    if _answer(draft, session.id, run.node_id):
        return None
    is_open = any(decision.state is DecisionState.OPEN for decision in view.decisions)
    _pause_or_resume(draft, is_open=is_open)
    is_idle = session.state is SessionState.IDLE and session.background == 0
    is_through = is_idle and session.turn_ok is not None
    is_away = hand(draft, session, run.node_id, is_through=is_through)
    draft.send_prompts(session.id, run.node_id, is_idle=is_through, is_away=is_away)
    if session.state is SessionState.ENDED:
        _ended(draft, session)
    elif not is_open:
        return _go_on(draft, session, is_away=is_away, is_through=is_through)
    return None


def _go_on(draft: Draft, session: AgentSession, *, is_away: bool, is_through: bool) -> float | None:
    """Look after a coding agent that waits for no answer; return when to look again."""
    if is_away:
        return draft.view.clocks.silence_s
    if not is_through or draft.is_owed_a_turn:
        return _watch(draft)
    if draft.run.chat_in is not None:
        return _rest(draft)
    _turned(draft, session)
    return None


def _interrupt(draft: Draft, session_id: SessionId, node_id: NodeId) -> bool:
    """Stop the turn of a chat, which itself goes on; False where a stop is the end."""
    run = draft.run
    if run.chat_in is None or run.code:
        return False
    name = f"{run.id}/interrupt/{run.version}"
    draft.order(name, Interrupt(session=session_id), node=node_id)
    draft.set(cancel_by="")
    return True


def _announce(draft: Draft) -> None:
    """Owe the thread each new question once; its reminders count from now."""
    for decision in draft.view.decisions:
        if decision.state is DecisionState.OPEN and decision.delivered_at is None:
            draft.put(replace(decision, delivered_at=draft.now))
            draft.say("question", decision.id, decision.title)
            draft.tell("decision.opened", decision=decision.id, title=decision.title)


def _answer(draft: Draft, session_id: SessionId, node_id: NodeId) -> bool:
    """Bring answers to the coding agent; True when one of them winds the run down."""
    for decision in draft.view.decisions:
        if decision.state is not DecisionState.ANSWERED or decision.is_sent:
            continue
        draft.put(replace(decision, is_sent=True))
        if decision.kind == "budget":
            if not decision.allow:
                draft.finish(None, "budget")
                return True
            raised = draft.run.budget_usd + draft.view.project.budget_usd
            draft.set(budget_usd=raised)
            instruct(draft, BUDGET_RAISED, decision.id)
        else:
            draft.order(f"answer/{decision.id}", _answer_order(decision, session_id), node=node_id)
    return False


def _answer_order(decision: Decision, session_id: SessionId) -> AnswerQuestion:
    return AnswerQuestion(
        session=session_id,
        request=decision.request,
        allow=decision.allow is not False,
        answers=decision.answers or {},
        message="" if decision.allow is not False else "A person said no.",
    )


def _pause_or_resume(draft: Draft, *, is_open: bool) -> None:
    """While a person is asked, the run's clocks stand still."""
    run, clocks = draft.run, draft.view.clocks
    if is_open and run.state is RunState.WORKING:
        draft.to(RunState.ASKING, deadline_at=None)
    elif not is_open and run.state is RunState.ASKING:
        paused_s = run.paused_s + (draft.now - run.state_since).total_seconds()
        limit_s = clocks.run_hard_s if run.nudges else clocks.run_soft_s
        limit_at = (run.started_at or draft.now) + timedelta(seconds=limit_s + paused_s)
        draft.to(
            RunState.WORKING,
            paused_s=paused_s,
            heard_at=draft.now,
            deadline_at=limit_at if run.chat_in is None else None,
        )


def _ended(draft: Draft, session: AgentSession) -> None:
    if session.is_complete:
        draft.set(summary=session.summary)
        draft.finish(None)
    else:
        draft.finish(Outcome.FAILED, "session_ended", session.ended)


def _rest(draft: Draft) -> float:
    """Let a chat wait for words, but not on a machine that is to go or lost: none wakes it then."""
    node = draft.view.node
    if node is not None and node.state is not NodeState.READY:
        draft.finish(None, "chat_machine_leaves")
    draft.set(looks=0)
    return draft.view.clocks.lost_s


def _turned(draft: Draft, session: AgentSession) -> None:
    """Wind the run down after its last turn."""
    draft.set(summary=session.answer or session.summary or session.turn_text)
    if session.turn_ok:
        draft.finish(None)
    elif session.turn_code in _BLOCKING:
        draft.finish(Outcome.BLOCKED, session.turn_code, session.turn_text)
    else:
        draft.finish(Outcome.FAILED, session.turn_code or "session_ended", session.turn_text)


def _watch(draft: Draft) -> float:
    """Mind the run's time, and look after a coding agent that has not been heard of."""
    view, run = draft.view, draft.run
    if run.deadline_at is not None and view.now >= run.deadline_at:
        if run.nudges:
            draft.finish(Outcome.FAILED, "out_of_time")
            return 0
        hard_s = view.clocks.run_hard_s - view.clocks.run_soft_s
        draft.set(nudges=1, deadline_at=draft.deadline(hard_s))
        instruct(draft, NUDGE, f"{run.id}/nudge")
    quiet_s = (view.now - (run.heard_at or view.now)).total_seconds()
    if quiet_s >= view.clocks.silence_s * (run.looks + 1) and run.node_id is not None:
        draft.set(looks=run.looks + 1)
        quiet_since = int((run.heard_at or view.now).timestamp())
        name = f"{run.id}/start/{quiet_since}-{run.looks + 1}"
        draft.order(name, start_order(draft), node=run.node_id)
        draft.tell("run.looked_after", quiet_s=round(quiet_s))
    return view.clocks.silence_s
