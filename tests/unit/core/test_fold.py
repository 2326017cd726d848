from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.decision import Decision, DecisionState
from core.fold import Folded, fold
from core.session import AgentSession, Prompt, SessionState
from core.wire import EVENT_KINDS, SessionEvent
from tests.fakes.nouns import a_prompt, a_session, an_event, at

RECEIPTS = ("queued", "started", "completed", "cancelled", "ambiguous", "lost")
FINAL = {"completed", "cancelled", "lost"}
TEXTS = st.sampled_from(["", "q1", "q2", "p-1", "p-2", "Done.", "x" * 30_000])
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**400)
    | st.floats()
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
KEYS = (
    *("state", "prompt", "request", "kind", "by", "questions", "input", "detail", "summary"),
    *("answer", "ok", "code", "text", "reason", "cost_usd", "tasks", "title"),
)
STRANGE = st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS, JSON | TEXTS))
SENSIBLE = st.one_of(
    st.tuples(
        st.just("session.state"),
        st.fixed_dictionaries({"state": st.sampled_from(list(SessionState)), "reason": TEXTS}),
    ),
    st.tuples(
        st.just("prompt.state"),
        st.fixed_dictionaries(
            {"prompt": st.sampled_from(["p-1", "p-2"]), "state": st.sampled_from(RECEIPTS)}
        ),
    ),
    st.tuples(
        st.just("question.open"),
        st.fixed_dictionaries({"request": st.sampled_from(["q1", "q2"]), "title": TEXTS}),
    ),
    st.tuples(
        st.just("question.closed"),
        st.fixed_dictionaries(
            {
                "request": st.sampled_from(["q1", "q2"]),
                "by": st.sampled_from(["answered", "withdrawn"]),
            }
        ),
    ),
    st.tuples(st.just("complete"), st.fixed_dictionaries({"summary": TEXTS})),
    st.tuples(st.just("turn.end"), st.fixed_dictionaries({"ok": st.booleans(), "text": TEXTS})),
    st.tuples(st.just("background"), st.just({"tasks": [{"id": "1"}]})),
    st.tuples(st.just("progress"), st.fixed_dictionaries({"text": TEXTS})),
)
KINDS = st.sampled_from([*EVENT_KINDS, "unheard.of"])


@st.composite
def stories(draw: st.DrawFn, *, strange: bool = True) -> list[SessionEvent]:
    """Draw events with growing offsets, some of them left out."""
    one = SENSIBLE | st.tuples(KINDS, STRANGE) if strange else SENSIBLE
    told = draw(st.lists(one, max_size=25))
    steps = draw(st.lists(st.integers(1, 3), min_size=len(told), max_size=len(told)))
    offset, events = -1, []
    for (kind, data), step in zip(told, steps, strict=True):
        offset += step
        events.append(replace(an_event(offset, kind), data=data))
    return events


class Known:
    """What the database would hold after each batch."""

    def __init__(self) -> None:
        self.session: AgentSession = a_session(state=SessionState.STARTING)
        self.prompts = {
            "p-1": a_prompt(id="p-1", state="sent"),
            "p-2": a_prompt(id="p-2", state="sent"),
        }
        self.decisions: dict[str, Decision] = {}

    def hear(self, events: list[SessionEvent]) -> Folded:
        folded = fold(
            self.session, [*self.prompts.values()], [*self.decisions.values()], events, at=at(1)
        )
        self.session = folded.session
        self.prompts |= {prompt.id: prompt for prompt in folded.prompts}
        for decision in folded.opened:
            assert decision.id not in self.decisions, "a decision is inserted once"
            self.decisions[decision.id] = decision
        for decision in folded.withdrawn:
            assert self.decisions[decision.id].state is DecisionState.OPEN
            self.decisions[decision.id] = decision
        return folded

    def facts(self) -> tuple[AgentSession, list[Prompt], dict[str, Decision]]:
        return self.session, sorted(self.prompts.values(), key=lambda p: p.id), self.decisions


def heard(*events: SessionEvent) -> Known:
    known = Known()
    known.hear([*events])
    return known


def same(one: Known, other: Known) -> bool:
    return repr(one.facts()) == repr(other.facts())  # `repr`, since nan is not nan.


@given(stories(), st.lists(st.integers(0, 25), max_size=4))
def test_p5_any_split_of_the_events_gives_the_same_result(
    events: list[SessionEvent], cuts: list[int]
) -> None:
    at_once, in_parts = heard(*events), Known()
    edges = [0, *sorted(min(cut, len(events)) for cut in cuts), len(events)]
    for start, end in pairwise(edges):
        in_parts.hear(events[start:end])
    assert same(at_once, in_parts)


@given(stories(), st.integers(0, 25))
def test_p6_repeated_events_change_nothing(events: list[SessionEvent], back: int) -> None:
    once, again = heard(*events), heard(*events)
    assert not again.hear(events[-back:]).heard
    assert same(once, again)


@given(st.lists(st.tuples(KINDS, JSON | STRANGE), max_size=10))
def test_hostile_data_never_stops_a_session(told: list[tuple[str, Any]]) -> None:
    events = [
        replace(an_event(offset, kind), data=data if isinstance(data, dict) else {"state": data})
        for offset, (kind, data) in enumerate(told)
    ]
    known = heard(*events)
    assert known.session.seen == len(events) - 1
    assert 0 <= known.session.cost_usd < float("inf")
    assert all(decision.kind != "budget" for decision in known.decisions.values())


@given(stories(strange=False), stories(strange=False))
def test_p4_a_final_receipt_is_never_taken_back(
    first: list[SessionEvent], second: list[SessionEvent]
) -> None:
    known = heard(*first)
    before = {name: prompt.state for name, prompt in known.prompts.items()}
    known.hear([replace(event, offset=100 + event.offset) for event in second])
    for name, state in before.items():
        if state in FINAL:
            assert known.prompts[name].state == state
        if state == "started":
            assert known.prompts[name].state != "queued"


@pytest.mark.parametrize("state", ["pending", "sent"])
def test_p4_a_node_cannot_claim_that_an_unsent_prompt_was_sent(state: str) -> None:
    known = Known()
    known.prompts["p-1"] = replace(known.prompts["p-1"], state="pending")
    known.hear([an_event(0, "prompt.state", prompt="p-1", state=state)])
    assert known.prompts["p-1"].state == "pending"


def test_a_receipt_of_a_prompt_that_is_not_ours_is_ignored() -> None:
    known = heard(an_event(0, "prompt.state", prompt="somebody-else", state="started"))
    assert {prompt.state for prompt in known.prompts.values()} == {"sent"}


def test_a_new_prompt_takes_back_that_the_work_is_complete() -> None:
    known = heard(
        an_event(0, "prompt.state", prompt="p-1", state="started"),
        an_event(1, "complete", summary="All done."),
        an_event(2, "turn.end", ok=False, code="overloaded", text="?"),
    )
    assert (known.session.is_complete, known.session.turn_ok) == (True, False)
    known.hear([an_event(3, "prompt.state", prompt="p-2", state="queued")])
    assert not known.session.is_complete
    assert (known.session.turn_ok, known.session.turn_code) == (None, "")
    assert known.session.summary == "All done."


def test_p6_an_update_changes_only_the_fields_that_it_carries() -> None:
    known = heard(
        an_event(0, "complete", summary="Fixed.", answer="42"),
        an_event(1, "turn.end", ok=True, text="Bye.", cost_usd=0.5),
        an_event(2, "complete", summary=""),
        an_event(3, "turn.end", ok=True, text="Bye."),
        an_event(4, "session.state", state="idle"),
    )
    assert (known.session.summary, known.session.answer) == ("Fixed.", "42")
    assert known.session.cost_usd == 0.5


def test_p13_a_question_is_opened_once_with_what_it_is_about() -> None:
    known = heard(
        an_event(0, "question.open", request="q1", kind="permission", input={"command": "rm x"}),
        an_event(1, "question.open", request="q1", kind="permission", input={"command": "rm y"}),
    )
    (decision,) = known.decisions.values()
    assert (decision.id, decision.kind) == (f"{known.session.id}:q1", "permission")
    assert (decision.detail, decision.state) == ("rm x", DecisionState.OPEN)


def test_p13_a_question_that_was_withdrawn_is_over_also_within_one_look() -> None:
    known = heard(
        an_event(0, "question.open", request="q1"),
        an_event(1, "question.closed", request="q1", by="withdrawn"),
    )
    assert [d.state for d in known.decisions.values()] == [DecisionState.WITHDRAWN]


def test_p13_an_answer_is_kept_when_its_question_is_withdrawn_late() -> None:
    known = heard(an_event(0, "question.open", request="q1"))
    (decision,) = known.decisions.values()
    answered = decision.moved(DecisionState.ANSWERED, at=at(5), answered_by="ana")
    known.decisions[decision.id] = answered
    known.hear([an_event(1, "question.closed", request="q1", by="withdrawn")])
    assert known.decisions[decision.id] == answered


def test_a_coding_agent_cannot_ask_for_more_budget_in_our_name() -> None:
    known = heard(an_event(0, "question.open", request="q1", kind="budget", title="More money?"))
    assert [decision.kind for decision in known.decisions.values()] == ["question"]


def test_a_session_that_ended_comes_back_when_it_is_resumed() -> None:
    known = heard(an_event(0, "session.state", state="ended", reason="Killed."))
    assert (known.session.state, known.session.ended) == (SessionState.ENDED, "Killed.")
    known.hear([an_event(1, "session.state", state="starting")])
    assert (known.session.state, known.session.ended) == (SessionState.STARTING, "")
