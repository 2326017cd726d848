"""Agent sessions as films: valid, in order, bounded, harmless, without secrets."""

import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bot import film
from bot.film import Film, seconds
from core.ids import RunId, SessionId
from core.wire import EVENT_KINDS, SessionEvent
from tests.fakes.asciicast import Cast, read

START = datetime(2026, 11, 24, 12, tzinfo=UTC)
CANARIES = ("ghp_" + "a1" * 18, "wst_" + "b2" * 20, "sk-ant-" + "c3" * 20, "AKIA" + "D4" * 8)
OURS = re.compile(r"\x1b\[(\d;)?\d*m")
KEYS = [
    "tool",
    "name",
    "title",
    "input",
    "text",
    "ok",
    "diff",
    "summary",
    "output",
    "state",
    "level",
]
ANY_TEXT = st.text(max_size=40) | st.sampled_from(CANARIES) | st.text("\x00\x1b\x9b\x7f\u202e\n")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | ANY_TEXT,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
DATA = st.dictionaries(st.sampled_from(KEYS), JSON) | st.fixed_dictionaries(
    {"name": st.just("Bash"), "input": st.fixed_dictionaries({"command": ANY_TEXT})}
)
TIMES = st.text(max_size=10) | st.integers(-5000, 5000).map(
    lambda s: (START + timedelta(seconds=s / 7)).isoformat()
)


def event(offset: int, kind: str, at: str | float, **data: Any) -> SessionEvent:
    told = at if isinstance(at, str) else (START + timedelta(seconds=at)).isoformat()
    session = SessionId("00000000-0000-4000-8000-0123456789ab")
    return SessionEvent(
        session=session, run=RunId("T-1.1"), offset=offset, kind=kind, at=told, data=data
    )


def cast(*events: SessionEvent) -> Cast:
    made = Film()
    return read(made.lines([one]) for one in events)


@given(st.lists(st.tuples(st.sampled_from([*EVENT_KINDS, "of.tomorrow"]), TIMES, DATA), min_size=1))
def test_whatever_happened_is_a_film_that_obeys_nobody_and_tells_no_secret(
    told: list[tuple[str, str, dict[str, Any]]],
) -> None:
    seen = cast(*(event(n, kind, at, **data) for n, (kind, at, data) in enumerate(told)))
    shown = seen.text + "".join(label for _, label in seen.marks)
    assert not any(canary in shown for canary in CANARIES)
    left = OURS.sub("", shown).replace("\r\n", "")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", left)


def test_a_tool_call_is_shown_at_its_second_with_its_command_and_then_its_output() -> None:
    events = [
        event(0, "session.state", 0, state="starting", reason=""),
        event(1, "message.user", 0.5, text="Fix it"),
        event(
            2,
            "tool.start",
            12.34,
            tool="t1",
            name="Bash",
            title="test",
            input={"command": "pytest"},
        ),
        event(3, "tool.end", 15, tool="t1", ok=False, summary="2 failed", output="F..F\n"),
        event(4, "tool.start", 15, tool="t2", name="Edit", title="a.py", input={}),
        event(5, "tool.end", 16, tool="t2", ok=True, summary="+1 -1", diff="@@ -1 +1 @@\n-a\n+b\n"),
    ]
    seen = cast(*events)
    second = seconds(events[0], events[2])
    assert second == 12.4
    assert "$ pytest" in seen.until(second)
    assert "F..F" not in seen.until(second)
    assert "$ pytest" not in seen.until(12.3)
    assert seen.marks == [(12.34, "Bash test"), (15, "Edit a.py")]
    assert "\x1b[31m✗ 2 failed" in seen.text
    assert "\x1b[32m+b" in seen.text


@given(st.lists(st.floats(0, 1e5), min_size=1, max_size=8).map(sorted))
def test_the_second_of_an_event_is_never_before_the_event(times: list[float]) -> None:
    events = [event(n, "message.text", at, text=f"<{n}>") for n, at in enumerate(times)]
    seen = cast(*events)
    for one in events:
        assert f"<{one.offset}>" in seen.until(seconds(events[0], one))


def test_a_film_is_bounded_and_says_so() -> None:
    def many() -> Cast:
        made = Film()
        line = "x" * film.TEXT_CHARS_MAX
        return read(
            made.lines([event(n, "message.text", n, text=line)])
            for n in range(2 * film.BYTES_MAX // film.TEXT_CHARS_MAX)
        )

    seen = many()
    assert len(seen.text) < film.BYTES_MAX + 2 * film.TEXT_CHARS_MAX
    assert seen.text.endswith("too long for a recording.]\x1b[0m\r\n")


def test_a_text_of_any_length_costs_no_more_than_what_is_shown_of_it() -> None:
    hostile = "-----BEGIN PRIVATE KEY-----\n" * 300_000
    began = time.thread_time()
    seen = cast(event(0, "message.user", 0, text=hostile))
    assert time.thread_time() - began < 1
    assert seen.text.endswith(" […]\x1b[0m\r\n")


def test_a_key_is_hidden_where_its_text_is_cut() -> None:
    body = "\n".join(["MIIEvQIBADANBgkqhkiG9w0BAQEFAASC" * 2] * 20)
    key = f"-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n"
    for before in range(film.TEXT_CHARS_MAX - 200, film.TEXT_CHARS_MAX, 25):
        seen = cast(event(0, "message.text", 0, text="." * before + key + "x" * 50_000))
        assert "MIIE" not in seen.text
