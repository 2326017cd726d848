"""Whatever ends a run that a coding agent worked in, its work is collected first (G4)."""

from collections.abc import Mapping
from datetime import timedelta

import pytest

from core.decision import DecisionState
from core.plan.draft import RunView
from core.plan.run import plan_run
from core.ports.store import Insert, Update
from core.run import Outcome, Run, RunState
from core.session import SessionState
from core.wire import Collected, to_json
from tests.fakes.nouns import (
    CLOCKS,
    a_decision,
    a_prompt,
    a_run,
    a_session,
    a_view,
    an_answer,
    at,
)

REFUSALS = (
    *("authentication_failed", "billing_error", "permission_error", "usage_limit_reached"),
    *("overloaded", "server_error", "connection_failed", "something_new"),
)
NO = a_decision(kind="budget", request="", state=DecisionState.ANSWERED, allow=False)
ENDED = a_session(state=SessionState.ENDED, ended="It printed: no space left")
STARTING = a_run(state=RunState.STARTING, started_at=None, deadline_at=at(5))
CAUSES: Mapping[str, RunView] = {
    "cancelled while it starts": a_view(run=a_run(state=RunState.STARTING, cancel_by="ana")),
    "cancelled while it works": a_view(run=a_run(cancel_by="ana")),
    "cancelled while it asks": a_view(run=a_run(state=RunState.ASKING, cancel_by="ana")),
    "no receipt in time": a_view(run=STARTING, prompts=(a_prompt(state="sent"),)),
    "ended before its first word": a_view(run=STARTING, session=ENDED),
    "ended in its midst": a_view(session=ENDED),
    "out of time": a_view(run=a_run(deadline_at=at(5), nudges=1), now=at(6)),
    "budget not raised": a_view(decisions=(NO,)),
    **{
        f"the model says {code}": a_view(
            session=a_session(state=SessionState.IDLE, turn_ok=False, turn_code=code)
        )
        for code in REFUSALS
    },
}
"""A look at each at which the run's end is decided."""


def run_of(view: RunView) -> Run:
    (run,) = [
        change.noun
        for change in plan_run(view).changes
        if isinstance(change, Insert | Update) and isinstance(change.noun, Run)
    ]
    return run


@pytest.mark.parametrize("cause", CAUSES)
def test_g4_every_end_collects_what_was_done_before_it_is_one(cause: str) -> None:
    run = run_of(CAUSES[cause])
    assert run.state is RunState.CHECKING
    assert run.ended_at is None
    limit_s = CLOCKS.stop_s + CLOCKS.check_s
    assert run.deadline_at == CAUSES[cause].now + timedelta(seconds=limit_s)


@pytest.mark.parametrize("cause", CAUSES)
def test_g4_what_was_collected_is_pushed_and_the_end_says_where(cause: str) -> None:
    found = Collected(head="b" * 40, base_commit="a" * 40, remote="", commits=1)
    done = [an_answer("T-1.1/stop"), an_answer("T-1.1/collect/1", result=to_json(found))]
    checking = run_of(CAUSES[cause])
    publishing = run_of(a_view(run=checking, orders=done))
    if checking.verdict is None:  # Nothing speaks against a pull request.
        assert publishing.state in {RunState.CHECKING, RunState.PUBLISHING}
        return
    assert publishing.state is RunState.PUBLISHING
    pushed = [*done, an_answer("T-1.1/push/1")]
    ended = run_of(a_view(run=publishing, orders=pushed))
    assert (ended.state, ended.verdict) == (RunState.ENDED, checking.verdict)
    assert ended.verdict in {Outcome.CANCELLED, Outcome.FAILED, Outcome.BLOCKED}
    assert ended.reason.endswith("It is on `samovar/T-1-fix-the-cart`.")
