"""Fold what a coding agent did into what we know of its session.

Pure, and exactly once: the events past `session.seen` are folded, and `seen` moves in the same
transaction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, cast

from core.decision import Decision, DecisionKind, DecisionState
from core.ids import DecisionId, TerminalId
from core.session import AgentSession, Prompt, PromptState, SessionState
from core.wire import SessionEvent

_RECEIPTS: Mapping[str, frozenset[str]] = {
    "pending": frozenset(),
    "sent": frozenset({"queued", "started", "ambiguous", "completed", "cancelled", "lost"}),
    "queued": frozenset({"started", "ambiguous", "completed", "cancelled", "lost"}),
    "started": frozenset({"ambiguous", "completed", "cancelled", "lost"}),
    "ambiguous": frozenset({"completed", "cancelled", "lost"}),
}
"""What a coding agent may say next of a prompt; a receipt never goes backwards."""
_ASKED = frozenset({"question", "permission", "plan"})
"""What a coding agent may ask for. A budget is asked for by us alone."""
_SAID = frozenset({"opened_by_hand", "conversation_left"})
"""Codes of notices that are said in the thread, beside the session's own page."""
_COST_USD_MAX = 1e9
"""Whatever is above it, or not a number, is no estimate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """What the events changed.

    Attributes:
        opened: New questions; one that was withdrawn at once is among them.
        warnings: What the thread must be told, each with a name of its own.
        heard: Whether there was any event.
    """

    session: AgentSession
    prompts: tuple[Prompt, ...] = ()
    opened: tuple[Decision, ...] = ()
    withdrawn: tuple[Decision, ...] = ()
    warnings: tuple[tuple[str, str], ...] = ()
    heard: bool = False


@dataclass(slots=True)
class _Folding:
    session: AgentSession
    prompts: dict[str, Prompt]
    decisions: dict[str, Decision]
    at: datetime
    changed: dict[str, Prompt]
    opened: dict[str, Decision]
    withdrawn: dict[str, Decision]
    warnings: dict[str, str]

    def set(self, **values: Any) -> None:
        self.session = replace(self.session, **values)


def fold(
    session: AgentSession,
    prompts: Sequence[Prompt],
    decisions: Sequence[Decision],
    events: Sequence[SessionEvent],
    *,
    at: datetime,
) -> Folded:
    """Return what is known after `events`, which are in order.

    An event that was folded already, or that cannot be read, changes nothing.
    """
    state = _Folding(
        session=session,
        prompts={prompt.id: prompt for prompt in prompts},
        decisions={d.request: d for d in decisions if d.request},
        at=at,
        changed={},
        opened={},
        withdrawn={},
        warnings={},
    )
    for event in events:
        if event.offset <= state.session.seen:
            continue
        handler = _HANDLERS.get(event.kind)
        if handler is not None:
            handler(state, event.data)
        state.set(seen=event.offset)
    return Folded(
        session=state.session,
        prompts=tuple(state.changed.values()),
        opened=tuple(state.opened.values()),
        withdrawn=tuple(state.withdrawn.values()),
        warnings=tuple(state.warnings.items()),
        heard=state.session.seen != session.seen,
    )


def _text(data: Mapping[str, Any], key: str, limit: int = 20000) -> str:
    value = data.get(key)
    return value[:limit] if isinstance(value, str) else ""


def _state(now: _Folding, data: Mapping[str, Any]) -> None:
    name = _text(data, "state")
    if name == SessionState.ENDED:
        reason = _text(data, "reason", 2000) or "The coding agent ended."
        now.set(state=SessionState.ENDED, ended=reason, terminal_id=None)
    elif name == SessionState.IN_TERMINAL:
        terminal = TerminalId(_text(data, "terminal", 200))
        now.set(state=SessionState.IN_TERMINAL, ended="", terminal_id=terminal)
    elif name in {SessionState.STARTING, SessionState.IDLE, SessionState.BUSY}:
        now.set(state=SessionState(name), ended="", terminal_id=None)


def _prompt(now: _Folding, data: Mapping[str, Any]) -> None:
    known, to = now.prompts.get(_text(data, "prompt")), _text(data, "state")
    if known is None or to not in _RECEIPTS.get(known.state, ()):
        return
    new = replace(known, state=cast("PromptState", to))
    now.prompts[known.id] = now.changed[known.id] = new
    if to in {"queued", "started"}:  # New words: whatever was complete is not any more.
        now.set(is_complete=False, turn_ok=None, turn_code="")


def _complete(now: _Folding, data: Mapping[str, Any]) -> None:
    now.set(
        is_complete=True,
        summary=_text(data, "summary") or now.session.summary,
        answer=_text(data, "answer") or now.session.answer,
    )


def _turn(now: _Folding, data: Mapping[str, Any]) -> None:
    if data.get("retry_s") is not None:
        return  # The model's side failed for now; the node lets the coding agent go on by itself.
    now.set(
        turn_ok=data.get("ok") is True,
        turn_code=_text(data, "code", 80),
        turn_text=_text(data, "text") or _text(data, "reason"),
        cost_usd=_cost(data.get("cost_usd"), now.session.cost_usd),
    )


def _cost(told: object, known: float) -> float:
    is_amount = isinstance(told, int | float) and 0 <= told <= _COST_USD_MAX
    return float(told) if is_amount else known  # type: ignore[arg-type]  # a number by now


def _background(now: _Folding, data: Mapping[str, Any]) -> None:
    tasks = data.get("tasks")
    now.set(background=len(tasks) if isinstance(tasks, list) else 0)


def _progress(now: _Folding, data: Mapping[str, Any]) -> None:
    now.set(progress=_text(data, "text", 300))


def _asked(now: _Folding, data: Mapping[str, Any]) -> None:
    request, kind = _text(data, "request", 200), _text(data, "kind")
    if not request or request in now.decisions:
        return
    questions = data.get("questions")
    decision = Decision(
        id=DecisionId(f"{now.session.id}:{request}"),
        task_id=now.session.task_id,
        run_id=now.session.run_id,
        session_id=now.session.id,
        request=request,
        kind=cast("DecisionKind", kind if kind in _ASKED else "question"),
        title=_text(data, "title", 300) or "The coding agent asks",
        questions=tuple(q for q in questions if isinstance(q, dict))
        if isinstance(questions, list)
        else (),
        detail=_detail(data),
        state=DecisionState.OPEN,
        state_since=now.at,
        created_at=now.at,
    )
    now.decisions[request] = now.opened[request] = decision


def _detail(data: Mapping[str, Any]) -> str:
    """Return what a permission is about: its command, its file, or all of its input."""
    given = data.get("input")
    if not isinstance(given, dict):
        return _text(data, "detail", 8000)
    for key in ("command", "plan", "file_path"):
        if isinstance(given.get(key), str):
            return str(given[key])[:8000]
    return str(given)[:8000]


def _closed(now: _Folding, data: Mapping[str, Any]) -> None:
    request = _text(data, "request", 200)
    decision = now.decisions.get(request)
    if decision is None or data.get("by") != "withdrawn":
        return
    if decision.state is DecisionState.OPEN:
        changed = now.opened if request in now.opened else now.withdrawn
        over = decision.moved(DecisionState.WITHDRAWN, at=now.at)
        now.decisions[request] = changed[request] = over


def _notice(now: _Folding, data: Mapping[str, Any]) -> None:
    if str(data.get("code")) in _SAID:
        now.warnings[f"{now.session.id}:{now.session.seen}"] = _text(data, "text", 2000)


_HANDLERS = {
    "session.state": _state,
    "prompt.state": _prompt,
    "complete": _complete,
    "turn.end": _turn,
    "background": _background,
    "progress": _progress,
    "notice": _notice,
    "question.open": _asked,
    "question.closed": _closed,
}
