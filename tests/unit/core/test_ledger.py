"""The ledger of a workspace's start."""

from collections.abc import Mapping
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from core.ledger import Spread, phases, spread, start_of, usual_of
from tests.fakes.nouns import NOW, a_workspace

TEXT = st.text(max_size=20)


def told(step: str, state: str, seconds: float, text: str = "", **more: str) -> Mapping[str, str]:
    at = (NOW + timedelta(seconds=seconds)).isoformat()
    return {"step": step, "state": state, "at": at, "text": text, **more}


MADE = (
    told("fetch", "started", 0, limit_s="7200", then="the run ends"),
    told("fetch", "started", 1, "remote: Enumerating objects"),
    told("fetch", "done", 2),
    told("build", "started", 2),
    told("build", "failed", 5, "no such image"),
    told("build", "started", 5),
)


def test_a_start_is_one_line_for_each_phase():
    shown = phases(MADE, is_building=True, now=NOW + timedelta(seconds=9))
    assert [(each.name, each.mark, each.text, each.took_s) for each in shown] == [
        ("fetching the repository", "done", "", 2.0),
        ("building the devcontainer", "failed", "no such image", 3.0),
        ("building the devcontainer", "doing", "", 4.0),
    ]


def test_a_phase_says_what_is_usual_how_long_it_may_take_and_what_comes_then():
    usual = {"fetch": Spread(p50_s=1.5, p95_s=3.0, count=9)}
    first, second, _ = phases(MADE, is_building=True, now=NOW, usual=usual)
    assert (first.usual, first.limit_s, first.then) == (usual["fetch"], 7200, "the run ends")
    assert (second.usual, second.limit_s, second.then) == (None, 0, "")


def test_a_workspace_that_is_not_being_made_shows_nothing_at_work():
    steps = (told("fetch", "started", 0), told("tree", "started", 1))
    assert [each.mark for each in phases(steps, is_building=False, now=NOW)] == ["skipped"] * 2
    shown = phases(steps, is_building=True, now=NOW)
    assert [each.mark for each in shown] == ["skipped", "doing"]


def test_a_clock_of_a_machine_that_is_ahead_makes_no_negative_time():
    (shown,) = phases((told("fetch", "started", 60),), is_building=True, now=NOW)
    assert shown.took_s == 0


def test_a_step_that_was_repeated_counts_in_all():
    again = (
        *MADE,
        told("build", "done", 12),
        told("probe", "started", 12),
        told("probe", "done", 13),
    )
    start = start_of(a_workspace(steps=again, recovered="the default image is used"))
    assert start is not None
    assert start.took_s == {"fetch": 2, "build": 10, "probe": 1}
    assert (start.total_s, start.is_recovered) == (13, True)


def test_a_start_that_did_not_come_to_its_end_is_no_measure():
    assert start_of(a_workspace(steps=MADE)) is None
    assert start_of(a_workspace(steps=())) is None


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=60))
def test_percentiles_are_values_that_were_seen(values: list[float]):
    seen = spread(values)
    assert {seen.p50_s, seen.p95_s} <= {*values}
    assert sum(value <= seen.p50_s for value in values) >= 0.5 * len(values)
    assert sum(value <= seen.p95_s for value in values) >= 0.95 * len(values)
    assert sum(value < seen.p50_s for value in values) < 0.5 * len(values)


def test_what_is_usual_is_taken_from_the_starts_that_had_the_step():
    def made(seconds: float, *, has_build: bool):
        build = (told("build", "started", 0), told("build", "done", seconds)) if has_build else ()
        probe = (told("probe", "started", seconds), told("probe", "done", seconds + 1))
        start = start_of(a_workspace(steps=(*build, *probe)))
        assert start is not None
        return start

    usual = usual_of([made(2, has_build=True), made(4, has_build=True), made(9, has_build=False)])
    assert usual["build"] == Spread(p50_s=2, p95_s=4, count=2)
    assert usual["probe"].count == 3


@given(
    st.lists(st.dictionaries(st.sampled_from(["step", "state", "at", "text", "limit_s"]), TEXT)),
    st.booleans(),
)
def test_phases_can_be_made_of_whatever_a_machine_told(steps: list[dict[str, str]], is_building):
    assert len(phases(steps, is_building=is_building, now=NOW)) <= len(steps)
    start_of(a_workspace(steps=tuple(steps)))
