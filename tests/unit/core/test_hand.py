"""A conversation that goes to a terminal and comes back, as its run plans it."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from core.fold import fold
from core.frame import RETURNED
from core.message import Post
from core.order import NodeOrder
from core.plan.draft import RunView
from core.plan.run import plan_run
from core.plan.step import Planned
from core.plan.terminal import TerminalView, plan_terminal
from core.ports.store import Insert, Update, Wake
from core.run import Outcome, Run, RunState
from core.session import Prompt, SessionState
from core.terminal import Terminal, TerminalState
from tests.fakes.nouns import (
    CLOCKS,
    SESSION,
    a_link,
    a_node,
    a_prompt,
    a_run,
    a_session,
    a_terminal,
    a_view,
    a_workspace,
    an_answer,
    an_event,
    at,
)

TERMINAL = "t-0000aaaa"
BACK = f"T-1.1/back/{TERMINAL}"


def held(state: TerminalState = TerminalState.OPEN) -> Terminal:
    return a_terminal(state=state, session_id=SESSION, container="c1")


def away(**values: Any) -> RunView:
    """Return a run whose conversation is in a terminal."""
    session = a_session(state=SessionState.IN_TERMINAL, turn_ok=True, terminal_id=TERMINAL)
    return a_view(**{"session": session, "terminal": held(), **values})


def of(planned: Planned, kind: type) -> list[Any]:
    return [
        change.noun
        for change in planned.changes
        if isinstance(change, Insert | Update) and isinstance(change.noun, kind)
    ]


def test_a_waiting_terminal_opens_at_the_end_of_the_turn_and_the_run_goes_on():
    idle = a_session(state=SessionState.IDLE, turn_ok=True)
    planned = plan_run(a_view(session=idle, terminal=held(TerminalState.WAITING)))
    (terminal,) = of(planned, Terminal)
    assert terminal.state is TerminalState.OPENING
    assert Wake("terminal", TERMINAL) in planned.changes
    assert of(planned, NodeOrder) == of(planned, Run) == []


@pytest.mark.parametrize(
    ("session", "prompt"),
    [
        (a_session(state=SessionState.BUSY, turn_ok=True), "completed"),
        (a_session(state=SessionState.IDLE, turn_ok=True, background=1), "completed"),
        (a_session(state=SessionState.IDLE, turn_ok=None), "completed"),
        (a_session(state=SessionState.IDLE, turn_ok=True), "queued"),
        (a_session(state=SessionState.IDLE, turn_ok=True), "sent"),
    ],
)
def test_a_waiting_terminal_waits_for_an_agent_that_owes_an_answer(session, prompt):
    waiting = held(TerminalState.WAITING)
    view = a_view(session=session, terminal=waiting, prompts=(a_prompt(state=prompt),))
    assert of(plan_run(view), Terminal) == []


def test_words_reach_a_busy_agent_while_a_terminal_waits_and_wait_while_it_is_open():
    words = (a_prompt(state="pending"),)
    busy = a_view(terminal=held(TerminalState.WAITING), prompts=words)
    assert [one.kind for one in of(plan_run(busy), NodeOrder)] == ["send_prompt"]
    for state in (TerminalState.OPENING, TerminalState.OPEN, TerminalState.CLOSING):
        planned = plan_run(a_view(terminal=held(state), prompts=words))
        assert of(planned, NodeOrder) == of(planned, Prompt) == []


def test_the_clocks_of_a_run_stand_still_while_a_person_has_its_agent():
    run = a_run(deadline_at=at(3600), heard_at=at(0), looks=2)
    planned = plan_run(away(run=run, now=at(5000), link=a_link(seen_at=at(5000))))
    (after,) = of(planned, Run)
    assert after.state is RunState.WORKING
    assert after.deadline_at == at(3600) + timedelta(seconds=5000)
    assert (after.paused_s, after.heard_at, after.looks, after.nudges) == (5000, at(5000), 0, 0)
    assert of(planned, NodeOrder) == [], "it is not looked after"
    assert planned.due_in_s is not None
    assert planned.due_in_s <= CLOCKS.silence_s


def test_a_conversation_without_its_terminal_is_taken_back_and_told_of_it():
    planned = plan_run(away(terminal=None))
    (order,) = of(planned, NodeOrder)
    assert (order.id, order.kind) == (f"{BACK}/1", "take_back")
    assert order.body == {"session": SESSION, "terminal": TERMINAL}
    (prompt,) = of(planned, Prompt)
    assert (prompt.text, prompt.state) == (RETURNED, "pending")


def test_what_waited_in_the_thread_is_told_instead():
    waited = a_prompt(id="p-2", state="pending")
    assert of(plan_run(away(terminal=None, prompts=(waited,))), Prompt) == []
    back = a_view(session=a_session(state=SessionState.STARTING), prompts=(waited,))
    (sent,) = of(plan_run(back), Prompt)
    assert sent.state == "sent"


def test_a_terminal_that_waits_gets_a_conversation_after_it_came_back():
    planned = plan_run(away(terminal=held(TerminalState.WAITING), run=a_run(heard_at=at(9))))
    assert [one.kind for one in of(planned, NodeOrder)] == ["take_back"]
    assert of(planned, Terminal) == []


def test_a_conversation_that_does_not_come_back_ends_its_run():
    answers = [an_answer(f"{BACK}/{n}", ok=False, text="It broke.") for n in (1, 2, 3)]
    again = plan_run(away(terminal=None, orders=answers[:1]))
    assert [one.id for one in of(again, NodeOrder)] == [f"{BACK}/2"]
    (over,) = of(plan_run(away(terminal=None, orders=answers)), Run)
    assert (over.verdict, over.code) == (Outcome.FAILED, "session_failed")


@pytest.mark.parametrize("state", [TerminalState.WAITING, TerminalState.OPEN])
def test_a_stopped_run_ends_its_terminal_and_its_agent(state):
    planned = plan_run(away(run=a_run(cancel_by="ana"), terminal=held(state)))
    (terminal,) = of(planned, Terminal)
    assert terminal.state is TerminalState.CLOSING
    assert [one.kind for one in of(planned, NodeOrder)] == ["stop_session"]


def test_an_agent_that_ended_is_nobodys_any_more():
    session = a_session(state=SessionState.ENDED, ended="The workspace is gone.")
    (over,) = of(plan_run(away(session=session)), Run)
    assert over.verdict is Outcome.FAILED


def test_the_terminal_of_a_session_is_opened_by_the_order_that_hands_it_over():
    view = TerminalView(
        terminal=held(TerminalState.OPENING), workspace=a_workspace(container="c1"),
        node=a_node(), link=a_link(), orders={}, now=at(1), fence=1, clocks=CLOCKS,
        run_id=a_run().id,
    )  # fmt: skip
    (order,) = of(plan_terminal(view), NodeOrder)
    assert (order.id, order.kind) == (f"{TERMINAL}/open", "hand_over")
    answer = an_answer(order.id, ok=False, text="The disk is full.")
    failed = plan_terminal(replace(view, orders={order.id: answer}))
    (over,) = of(failed, Terminal)
    assert (over.state, over.error) == (TerminalState.EXITED, "The disk is full.")
    assert Wake("run", "T-1.1") in failed.changes


def test_a_waiting_terminal_does_not_grow_late():
    view = TerminalView(
        terminal=held(TerminalState.WAITING), workspace=a_workspace(container="c1"),
        node=a_node(), link=a_link(), orders={}, now=at(10**6), fence=1, clocks=CLOCKS,
        run_id=a_run().id,
    )  # fmt: skip
    assert plan_terminal(view) == Planned()


def test_the_state_of_a_session_names_its_terminal_and_forgets_it():
    events = [
        an_event(0, "session.state", state="in_terminal", terminal=TERMINAL),
        an_event(1, "session.state", state="starting"),
    ]
    there = fold(a_session(), (), (), events[:1], at=at(0)).session
    assert (there.state, there.terminal_id) == (SessionState.IN_TERMINAL, TERMINAL)
    back = fold(there, (), (), events, at=at(0)).session
    assert (back.state, back.terminal_id) == (SessionState.STARTING, None)


def test_who_goes_past_the_lease_is_told_of_in_the_thread_once():
    told = [
        an_event(0, "notice", level="warning", code="opened_by_hand", text="Somebody did."),
        an_event(1, "notice", level="warning", code="api_retry", text="Again."),
    ]
    found = fold(a_session(), (), (), told, at=at(0))
    assert [text for _, text in found.warnings] == ["Somebody did."]
    assert fold(found.session, (), (), told, at=at(0)).warnings == ()
    posts = of(plan_run(a_view(warnings=found.warnings)), Post)
    assert [post.text for post in posts] == ["Somebody did."]
