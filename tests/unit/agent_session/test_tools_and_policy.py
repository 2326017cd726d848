"""Our tools, questions, prompts, restarts and command line: pure parts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.claude.home import arguments, environment
from agent.claude.policy import restart_after_s
from agent.claude.prompts import check
from agent.claude.questions import as_answer, as_question
from agent.claude.state import Crash, continue_after_s, is_ours
from agent.claude.text import clip, diff
from agent.claude.tools import TOOLS, reply
from agent.driver import SessionSpec
from agent.errors import NodeError
from core.ids import RunId, SessionId

SPEC = SessionSpec(
    session=SessionId("5f1b3a52-7d0c-4a9e-9a55-2f7c6a1d2e3f"), run=RunId("T-1.1"), model="m",
    frame="f", mode="bypassPermissions", folder="/work", run_dir=Path("/run"), uid=1, gid=1,
    env={"PATH": "/bin", "ANTHROPIC_API_KEY": "k"}, claude="/bin/claude",
)  # fmt: skip


def call(name: str, **given: object) -> dict[str, Any]:
    params = {"name": name, "arguments": given}
    message = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}
    return {"subtype": "mcp_message", "server_name": "samovar", "message": message}


def test_the_tools_are_listed_and_answered_under_the_ids_of_the_requests() -> None:
    listed = reply({"subtype": "mcp_message", "message": {"id": 1, "method": "tools/list"}})
    assert listed is not None
    assert listed["mcp_response"]["result"]["tools"] == TOOLS
    done = reply(call("complete_task", summary="Done."))
    assert done is not None
    assert done["mcp_response"]["id"] == 7


@pytest.mark.parametrize(
    "bad",
    [call("complete_task"), call("report_progress", text=7), call("ask", question=" "), call("x")],
)
def test_a_call_that_makes_no_sense_is_answered_as_an_error(bad: dict[str, Any]) -> None:
    answered = reply(bad)
    assert answered is not None
    assert answered["mcp_response"]["result"]["isError"]
    assert as_question("r", bad) is None


def test_a_question_of_ours_waits_for_people() -> None:
    asked = call("ask", question="Which?", options=["a", 5, "b"])
    assert reply(asked) is None
    opened = as_question("r", asked)
    assert opened is not None
    assert [o["label"] for o in opened["questions"][0]["options"]] == ["a", "b"]
    said = as_answer(asked, allow=False, answers={}, message="Nobody knows.")
    assert said["mcp_response"]["result"]["content"][0]["text"] == "Nobody knows."


def crash(at: float, *, lived_s: float = 100.0, code: int | None = 1, tail: str = "x") -> Crash:
    return Crash(at=at, lived_s=lived_s, code=code, tail=tail)


def test_p10_three_equal_fast_ends_are_enough() -> None:
    fast = [crash(float(at), lived_s=1.0) for at in range(3)]
    assert restart_after_s(fast[:2]) == 2.0
    assert "3 times the same way (exit status 1): x" in str(restart_after_s(fast))
    other = [*fast[:2], crash(2.0, lived_s=1.0, tail="y")]
    assert restart_after_s(other) == 4.0


def test_more_than_three_restarts_in_ten_minutes_are_too_many() -> None:
    crashes = [crash(float(at * 60)) for at in range(4)]
    assert "4 times within ten minutes" in str(restart_after_s(crashes))
    assert restart_after_s([*crashes[:3], crash(10_000.0)]) == 1.0


def test_waiting_for_the_model_grows_up_to_five_minutes() -> None:
    assert [continue_after_s(n) for n in range(6)] == [30, 60, 120, 240, 300, 300]


def test_only_our_own_prompts_are_ours() -> None:
    assert is_ours("886313e1-3b8a-5372-9b90-0c9aee199e5d")
    assert not is_ours("b650872b-f871-4e41-9173-b53f2177e39a")
    assert not is_ours("")


def test_a_key_of_the_user_never_wins_over_the_workspaces_token() -> None:
    env = environment(SPEC, "/run/samovar", resume=True)
    assert "ANTHROPIC_API_KEY" not in env
    assert env["IS_SANDBOX"] == "1"
    assert env["CLAUDE_CODE_RESUME_INTERRUPTED_TURN"] == "1"
    assert "CLAUDE_CODE_RESUME_INTERRUPTED_TURN" not in environment(SPEC, "/run", resume=False)


def test_a_fork_names_both_conversations_until_it_has_its_own() -> None:
    fork = replace(SPEC, continues="old")
    assert {"--resume=old", "--fork-session", f"--session-id={SPEC.session}"} <= set(
        arguments(fork, resume=False)
    )
    assert "--fork-session" not in arguments(fork, resume=True)


@pytest.mark.parametrize("frame", ["a\0b", "x" * 200_000])
def test_a_frame_that_is_no_argument_is_refused(frame: str) -> None:
    with pytest.raises(NodeError, match="frame_invalid"):
        arguments(replace(SPEC, frame=frame), resume=False)


@pytest.mark.parametrize("text", ["", " \n", "\ud800", "x" * (17 << 20)])
def test_a_prompt_that_cannot_be_given_unchanged_is_refused(text: str) -> None:
    with pytest.raises(NodeError, match="prompt_invalid"):
        check(text)


def test_a_long_text_is_cut_between_characters_with_a_note() -> None:
    cut = clip("ü" * 10_000)
    assert cut.endswith("[… 4000 more bytes]")
    assert "�" not in cut


def test_a_new_file_and_a_change_are_shown_as_diffs() -> None:
    made = {"type": "create", "filePath": "/a", "content": "x\ny\n", "structuredPatch": []}
    assert diff(made) == "--- /dev/null\n+++ /a\n@@ -0,0 +1,2 @@\n+x\n+y\n"
    hunk = {"oldStart": 1, "oldLines": 1, "newStart": 1, "newLines": 1, "lines": ["-x", "+z"]}
    assert diff({"filePath": "/a", "structuredPatch": [hunk]}).endswith("@@ -1,1 +1,1 @@\n-x\n+z\n")
    assert diff({"stdout": "x"}) == ""
