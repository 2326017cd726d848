"""From Claude Code's lines to our events."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.claude.normalise import STEPS, fold
from agent.claude.protocol import decode
from agent.claude.state import State
from core.wire import EVENT_KINDS
from tests.fakes.record_journals import FOLDER, events_of

JOURNALS = sorted(FOLDER.glob("*.jsonl"))


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def after(*lines: dict[str, Any]) -> tuple[State, list[tuple[str, dict[str, Any]]]]:
    state, found = State(), []
    for line in lines:
        state, facts = fold(state, line)
        found += [(fact.kind, fact.data) for fact in facts]
    return state, found


def test_there_are_recorded_journals() -> None:
    assert len(JOURNALS) == 7


@pytest.mark.parametrize("path", JOURNALS, ids=lambda path: path.stem)
def test_a_recorded_journal_makes_the_events_that_were_read_and_approved(path: Path) -> None:
    assert events_of(read(path)) == json.loads(path.with_suffix(".events.json").read_text())


@pytest.mark.parametrize("path", JOURNALS, ids=lambda path: path.stem)
def test_every_event_has_a_known_kind_and_the_keys_that_it_must_have(path: Path) -> None:
    for event in events_of(read(path)):
        if event["kind"] == "message.delta":
            continue
        said = EVENT_KINDS[event["kind"]]
        first = said.split(":")[0].split(",")[0].strip()
        assert first.rstrip("?") in event["data"] or first.endswith("?"), event


@pytest.mark.parametrize("path", JOURNALS, ids=lambda path: path.stem)
def test_p6_the_order_of_keys_in_a_line_means_nothing(path: Path) -> None:
    turned = [dict(reversed(line.items())) for line in read(path)]
    assert events_of(turned) == json.loads(path.with_suffix(".events.json").read_text())


def test_p6_an_attach_in_the_middle_makes_no_events_again() -> None:
    lines = read(FOLDER / "questions.jsonl")
    hello = next(line for line in lines if "session_state" in str(line))
    busy = json.loads(json.dumps(hello).replace('"idle"', '"running"'))
    plain, attached = events_of(lines[:20]), events_of([*lines[:20], busy, busy])
    assert attached == plain


def test_a_prompt_that_is_given_twice_is_shown_once() -> None:
    said = {"content": [{"type": "text", "text": "go"}]}
    echo = {"type": "user", "uuid": "u", "isReplay": True, "message": said}
    done = {"type": "command_lifecycle", "command_uuid": "u", "state": "completed"}
    _, found = after(echo, done, echo, done)
    kinds = [kind for kind, _ in found]
    assert kinds == ["message.user", "prompt.state"]


def test_the_end_of_a_process_closes_all_that_it_left_open() -> None:
    ask = {"method": "tools/call", "params": {"name": "ask", "arguments": {"question": "Why?"}}}
    use = {"type": "tool_use", "id": "t", "name": "Bash", "input": {"command": "ls"}}
    lines: list[dict[str, Any]] = [
        {"type": "samovar", "event": "starting", "run": "T-1.1"},
        {"type": "stream_event", "event": {"type": "message_start", "message": {"id": "m"}}},
        {"type": "assistant", "message": {"id": "m", "content": [use]}},
        {"type": "control_request", "request_id": "q",
         "request": {"subtype": "mcp_message", "message": ask}},
        {"type": "system", "subtype": "background_tasks_changed", "tasks": [{"task_id": "b"}]},
        {"type": "samovar", "event": "exited", "code": 137, "at": 1.0, "lived_s": 1.0},
    ]  # fmt: skip
    state, found = after(*lines)
    ends = dict(found[-5:])
    assert ends["question.closed"] == {"request": "q", "by": "withdrawn"}
    assert ends["message.reset"] == {"message": "m"}
    assert not ends["tool.end"]["ok"]
    assert ends["background"] == {"tasks": []}
    assert ends["notice"]["code"] == "agent_crashed"
    assert (state.waiting, state.tools, state.partial) == ({}, {}, "")


def test_p8_a_session_with_background_work_is_not_idle() -> None:
    hello = {"subtype": "success", "request_id": "r", "response": {"session_state": "running"}}
    lines: list[dict[str, Any]] = [
        {"type": "samovar", "event": "starting", "run": "T-1.1"},
        {"type": "control_response", "response": hello},
        {"type": "system", "subtype": "background_tasks_changed",
         "tasks": [{"task_id": "a", "ambient": True}, {"task_id": "b"}]},
        {"type": "system", "subtype": "session_state_changed", "state": "idle"},
    ]  # fmt: skip
    assert after(*lines)[0].phase == "busy"
    gone = {"type": "system", "subtype": "background_tasks_changed", "tasks": []}
    assert after(*lines, gone)[0].phase == "idle"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
WORDS = st.sampled_from(
    [
        "type",
        "subtype",
        "event",
        "message",
        "content",
        "request",
        "request_id",
        "response",
        "tools",
        "tasks",
        "uuid",
        "state",
        "command_uuid",
        "error_status",
        "user_message_uuids",
        "errors",
        "api_error_status",
        "tool_use_id",
        "id",
        "text",
        "input",
        "params",
        "arguments",
        "questions",
        "options",
        "tool_use_result",
        "structuredPatch",
        "filePath",
        "lines",
        "isReplay",
        "message_start",
        "message_delta",
        "tool_use",
        "tool_result",
        "can_use_tool",
        "mcp_message",
        "AskUserQuestion",
        "tools/call",
        "ask",
        "complete_task",
        "method",
        "name",
        "tool_name",
        "at",
        "code",
    ]
)
NEAR = st.recursive(
    WORDS | JSON,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=6),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([*sorted(STEPS), "unknown"]), st.dictionaries(WORDS, NEAR)),
        max_size=6,
    )
)
def test_c5_no_line_however_odd_breaks_the_normaliser(
    lines: list[tuple[str, dict[str, Any]]],
) -> None:
    state = State()
    for kind, rest in lines:
        state, facts = fold(state, {**rest, "type": kind})
        for fact in facts:
            json.dumps(fact.data)


@given(st.binary(max_size=60))
def test_c5_a_line_that_is_no_json_object_is_passed_over(raw: bytes) -> None:
    line = decode(raw)
    assert line is None or isinstance(line, dict)
