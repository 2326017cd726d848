"""Looking changes nothing by itself: however often an object is looked at, its clocks run on."""

from dataclasses import replace

import pytest

from core.plan.run import plan_run
from core.ports.store import Insert, Update
from core.run import Outcome, Run, RunState
from tests.fakes.nouns import a_link, a_prompt, a_run, a_view, at


def the_run(view, planned) -> Run:
    nouns = [c.noun for c in planned.changes if isinstance(c, Insert | Update)]
    return next((noun for noun in nouns if isinstance(noun, Run)), view.run)


@pytest.mark.parametrize(
    ("run", "code"),
    [
        (a_run(state=RunState.STARTING, started_at=None, deadline_at=at(120)), "not_acknowledged"),
        (a_run(deadline_at=at(120), nudges=1), "out_of_time"),
    ],
)
def test_t3_a_deadline_fires_although_it_is_looked_at_and_the_node_beats_all_the_time(
    run: Run, code: str
):
    state = run.state
    for second in range(0, 125, 5):
        view = a_view(
            run=run,
            now=at(second),
            link=a_link(seen_at=at(second)),
            prompts=(a_prompt(state="sent" if state is RunState.STARTING else "completed"),),
        )
        run = the_run(view, plan_run(view))
        if run.state is not state:
            break
        assert (run.deadline_at, run.state_since) == (view.run.deadline_at, view.run.state_since)
    assert (run.code, run.verdict) == (code, Outcome.FAILED)
    assert second == 120


def test_t3_a_look_without_news_writes_nothing():
    view = a_view(now=at(10))
    assert plan_run(view).changes == ()
    assert plan_run(replace(view, now=at(20))).changes == ()
