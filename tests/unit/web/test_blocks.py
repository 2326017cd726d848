"""Events of a coding agent as pieces of a page."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from adapters.web import render
from adapters.web.blocks import block, folded
from core.ids import RunId, SessionId
from core.wire import EVENT_KINDS, SessionEvent

SESSION = SessionId("00000000-0000-4000-8000-0123456789ab")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
KEYS = [
    "tool",
    "name",
    "title",
    "input",
    "text",
    "message",
    "ok",
    "diff",
    "summary",
    "tasks",
    "state",
]


def event(kind: str, offset: int = 0, **data: Any) -> SessionEvent:
    return SessionEvent(
        session=SESSION,
        run=RunId("T-1.1"),
        offset=offset,
        kind=kind,
        at="2026-11-24T12:00:00+00:00",
        data=data,
    )


@given(
    st.sampled_from([*EVENT_KINDS, "of.tomorrow"]),
    st.dictionaries(st.sampled_from(KEYS), JSON),
    st.text(max_size=20),
)
def test_c5_an_event_of_any_shape_breaks_no_page(kind: str, data: dict[str, Any], at: str) -> None:
    strange = SessionEvent(
        session=SESSION, run=RunId("T-1.1"), offset=1, kind=kind, at=at, data=data
    )
    assert "<script" not in render.event_html(strange)
    for shown in folded([strange, strange]):
        render.block_html(shown)


def test_the_end_of_a_tool_call_is_part_of_its_beginning() -> None:
    start = event("tool.start", 1, tool="t1", name="Bash", title="ls", input={"command": "ls"})
    end = event("tool.end", 2, tool="t1", ok=False, summary="exit 1")
    (one,) = folded([start, end])
    assert one.outcome is not None
    assert "exit 1" in render.block_html(one)


def test_an_end_whose_beginning_is_elsewhere_stands_alone() -> None:
    (alone,) = folded([event("tool.end", 2, tool="t1", ok=True, summary="3 lines")])
    assert "3 lines" in render.block_html(alone)


def test_a_live_end_names_the_beginning_that_it_completes() -> None:
    start = block(event("tool.start", 1, tool="t/1 '", name="Bash", title="ls"))
    end = block(event("tool.end", 2, tool="t/1 '", ok=True, summary=""))
    assert start is not None
    assert end is not None
    assert end.into == start.id


def test_background_tasks_are_one_piece_that_is_replaced() -> None:
    first = event("background", 1, tasks=[{"id": "a", "kind": "bash", "title": "npm run watch"}])
    (shown,) = folded([first, event("background", 9, tasks=[])])
    assert shown.text == ""


def test_what_the_agent_only_tells_us_is_not_shown() -> None:
    quiet = [
        event("prompt.state", 1, prompt="p", state="queued"),
        event("session.state", 2, state="busy"),
        event("complete", 3, summary="done"),
    ]
    assert folded(quiet) == []


def test_a_message_that_was_thrown_away_leaves_nothing_on_a_whole_page() -> None:
    assert folded([event("message.reset", 1, message="m1")]) == []
