"""The command line against the JSON API on a unix socket."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bot.cli import HELP
from bot.cli_root import cli
from bot.cli_tasks import answer_body
from core.errors import UnavailableError, UserError
from core.ids import TaskId
from tests.fakes.asciicast import read
from tests.fakes.commands import FakeCommands, a_person, a_result
from tests.fakes.serving import until
from tests.fakes.story import ask, tell
from tests.fakes.web import a_socket

PROGRAM = Path(sys.executable).parent / "samovar"


@dataclass
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Shell:
    """Runs the real program as a process."""

    state: Path
    commands: FakeCommands

    async def __call__(self, *words: str, text: str = "") -> Ran:
        process = await self.start(*words)
        out, err = await process.communicate(text.encode())
        return Ran(process.returncode or 0, out.decode(), err.decode())

    async def start(self, *words: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            str(PROGRAM),
            *words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "SAMOVAR_STATE": str(self.state), "TZ": "UTC"},
        )


@pytest.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Shell]:
    commands, person = FakeCommands(), a_person()
    await tell(commands, person)
    async with a_socket(tmp_path, commands, person):
        yield Shell(tmp_path, commands)
    await commands.end_terminals()


def test_the_help_that_is_kept_is_what_the_commands_say_of_themselves() -> None:
    result = CliRunner().invoke(cli, ["--help"], prog_name="samovar", terminal_width=80)
    assert result.output == HELP


def test_every_command_states_its_exit_status() -> None:
    def leaves(group: Any, path: tuple[str, ...] = ()) -> Any:
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from leaves(command, (*path, name))
            else:
                yield (*path, name), command

    found = dict(leaves(cli))
    assert len(found) == 44
    for path, command in found.items():
        assert "Exit status: 0" in command.help, path
    told = {
        path for path, command in found.items() if "json_wanted" in {p.name for p in command.params}
    }
    assert set(found) - told == {
        ("serve",),
        ("attach",),
        ("node", "join"),
        ("recording", "get"),
        ("recording", "play"),
    }


async def test_without_a_running_samovar_it_says_how_to_start_it(tmp_path: Path) -> None:
    ran = await Shell(tmp_path, FakeCommands())("task", "list")
    assert (ran.code, ran.out) == (3, "")
    assert ran.err == "samovar: Samovar is not running here. Start it with: samovar serve\n"


JSON_COMMANDS = [
    "task new Fix it --project web",
    "task list",
    "task list --project till --limit 1",
    "task show T-1",
    "task watch T-1",
    "task reply T-4 Mind the refunds --queue",
    "task stop T-4",
    "task answer T-3 1",
    "node list",
    "node enrol",
    "node delete node-77aa01fe",
    "workspace list",
    "workspace show T-1",
    "workspace log k3v9x201",
    "workspace link k3v9x201",
    "terminal open k3v9x201 --title Tests",
    "terminal list T-1",
    "terminal close k3v9x201.t1",
    "workspace new web --size small --branch topic",
    "workspace rebuild k3v9x201",
    "workspace stop T-1",
    "rescue list",
    "rescue restore k3v9x201-1",
    "workspace restart k3v9x201",
    "workspace delete k3v9x201",
    "project list",
    "sign-in",
]


@pytest.mark.timeout(300)
async def test_json_is_one_document_and_remarks_go_elsewhere(shell: Shell) -> None:
    for line in JSON_COMMANDS:
        ran = await shell(*line.split(), "--json")
        assert ran.code == 0, (line, ran)
        assert isinstance(ran.json, dict), line
        assert "\x1b" not in ran.out


@pytest.mark.timeout(300)
async def test_the_same_commands_speak_to_people(shell: Shell) -> None:
    for line in JSON_COMMANDS:
        ran = await shell(*line.split())
        assert ran.code == 0, (line, ran)
        assert ran.out or ran.err, line
        assert "Traceback" not in ran.err


async def test_work_is_thrown_away_only_when_that_is_confirmed(shell: Shell) -> None:
    words = ("workspace", "delete", "k3v9x201", "--without-copy")
    refused = await shell(*words, text="n\n")
    assert refused.code == 1
    assert "that was not pushed is lost for good" in refused.err
    assert "discard_workspace" not in [name for name, _ in shell.commands.calls]
    done = await shell(*words, "--yes", "--json")
    assert (done.code, done.json) == (0, {"workspace_id": "k3v9x201"})
    assert ("discard_workspace", "k3v9x201") in shell.commands.calls


async def test_a_task_is_asked_for_once_per_key(shell: Shell) -> None:
    first = await shell("task", "new", "Fix", "the", "totals", "--project", "web", "--key", "k1")
    again = await shell("task", "new", "Fix the totals", "--project", "web", "--key", "k1")
    assert first.out == again.out == "T-6\n"
    assert shell.commands.views[TaskId("T-6")].prompt == "Fix the totals"
    piped = await shell("task", "new", "-", "--project", "web", text="From\nstdin")
    assert shell.commands.views[TaskId(piped.out.strip())].prompt == "From\nstdin"


async def test_a_list_shows_state_and_what_happens_now(shell: Shell) -> None:
    ran = await shell("task", "list")
    assert "asks: Which theme switch?" in ran.out
    assert "Agent: reading the tests" in ran.out
    assert "PR #3 Fix rounding in cart totals (draft)" in ran.out


async def test_errors_are_a_sentence_and_a_status(shell: Shell) -> None:
    missing = await shell("task", "show", "T-99")
    assert (missing.code, missing.out) == (1, "")
    assert missing.err == "samovar: There is no task T-99.\n"
    shell.commands.fail_next["tasks"] = UnavailableError("PostgreSQL", "no answer")
    down = await shell("task", "list")
    assert (down.code, down.err) == (3, "samovar: PostgreSQL: no answer\n")
    shell.commands.fail_next["tasks"] = RuntimeError("x")  # type: ignore[assignment]
    broken = await shell("task", "list")
    assert broken.code == 70
    assert "Something broke on our side" in broken.err
    assert (await shell("task", "list", "--limit", "0")).code == 2


async def test_an_answer_is_given_by_number_name_or_own_words(shell: Shell) -> None:
    assert (await shell("task", "answer", "T-3", "a switch")).code == 0
    (given,) = [what for method, what in shell.commands.calls if method == "answer"]
    assert given[1:] == ("cli", True, {"How is it chosen?": "A switch"})
    late = await shell("task", "answer", given[0], "1")
    assert late.code == 1
    assert "Nothing waits for an answer" in late.err


async def test_a_permission_wants_a_yes_or_a_no(shell: Shell) -> None:
    decision = shell.commands.ask(TaskId("T-4"), "permission", title="Run it?")
    assert (await shell("task", "answer", "T-4", "maybe")).code == 1
    assert (await shell("task", "answer", decision, "--deny")).code == 0
    (given,) = [what for method, what in shell.commands.calls if method == "answer"]
    assert given == (decision, "cli", False, None)


@pytest.mark.parametrize(
    ("choices", "allow", "body"),
    [
        (["2"], None, {"allow": True, "answers": {"Q": "B"}}),
        (["b"], None, {"allow": True, "answers": {"Q": "B"}}),
        (["3"], None, {"allow": True, "answers": {"Q": "3"}}),
        (["something else"], True, {"allow": True, "answers": {"Q": "something else"}}),
        ([], False, {"allow": False}),
    ],
)
def test_words_become_what_the_api_wants(
    choices: list[str], allow: bool | None, body: dict[str, Any]
) -> None:
    question = {"text": "Q", "options": [{"label": "A"}, {"label": "B"}], "multiple": False}
    assert answer_body({"questions": [question]}, choices, allow=allow) == body


def test_as_many_answers_as_questions_are_wanted() -> None:
    with pytest.raises(UserError, match="asks 2 question"):
        answer_body({"questions": [{"text": "a"}, {"text": "b"}]}, ["1"], allow=None)


async def test_watching_ends_with_the_task_and_tells_how_it_went(shell: Shell) -> None:
    task = await ask(shell.commands, a_person(), "Fix it now")
    process = await shell.start("task", "watch", task)
    assert process.stdout is not None
    session = shell.commands.begin(task)
    await until(lambda: shell.commands.listening(session))
    shell.commands.step(task, "Workspace", "doing", "building", took_s=3.0, usual_s=9.0)
    shell.commands.speak(task, "message.text", message="m1", text="I look.\x1b]0;owned\x07")
    shell.commands.ask(task, title="Which one?", questions=({"text": "Q", "options": []},))
    text = ""
    while "Which one?" not in text or "I look." not in text:
        text += (await process.stdout.read(4096)).decode()
    shell.commands.finish(task, a_result(), pull_url="http://127.0.0.1:9/pull/3")
    out, err = await process.communicate()
    text += out.decode()
    assert process.returncode == 0, err
    assert "… Workspace    building  3.0 s (usually 9.0 s)" in text
    assert f"samovar task answer {task}" in text
    assert "PR #3 Fix rounding" in text
    assert "\x1b" not in text
    assert "\x07" not in text


async def test_watching_a_task_that_fails_ends_with_1(shell: Shell) -> None:
    ran = await shell("task", "watch", "T-2")
    assert ran.code == 1
    assert "no credit" in ran.out


async def test_a_sign_in_link_is_printed_whole(shell: Shell) -> None:
    ran = await shell("sign-in")
    assert ran.out == "/sign-in?token=one-time-1\n"


async def test_a_machine_that_cannot_join_says_so(shell: Shell) -> None:
    ran = await shell("node", "join", "http://127.0.0.1:9", text="token\n")
    assert ran.code == 2
    assert "token" not in ran.err.replace("/token", "")


def test_words_after_a_failure_name_no_machine(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["--state", str(tmp_path), "task", "list"])
    assert result.exit_code == 3


async def test_a_recording_is_listed_saved_and_played(shell: Shell, tmp_path: Path) -> None:
    task = next(task for task, view in shell.commands.views.items() if view.card.state == "done")
    session = shell.commands.session(task)
    listed = await shell("recording", "list", task)
    assert listed.code == 0
    assert session in listed.out
    documents = (await shell("recording", "list", task, "--json")).json
    assert [one["id"] for one in documents["recordings"]] == [session]
    saved = await shell("recording", "get", task, "-o", str(tmp_path / "a.cast"))
    assert (saved.code, saved.out) == (0, "")
    film = read((tmp_path / "a.cast").read_text())
    assert "$ pytest -q tests/test_cart.py" in film.text
    assert (await shell("recording", "get", session)).out == (tmp_path / "a.cast").read_text()
    played = await shell("recording", "play", session, "--at", "1e6")
    assert played.code == 0
    assert played.out.startswith(film.text.partition("\r\n")[0])
    assert "has ended" in played.out


async def test_a_recording_that_is_not_there_is_said_and_no_file_is_begun(
    shell: Shell, tmp_path: Path
) -> None:
    missing = await shell("recording", "get", "t-0000aaaa", "-o", str(tmp_path / "a.cast"))
    assert missing.code == 1
    assert "could not be kept" in missing.err
    assert not (tmp_path / "a.cast").exists()
    assert (await shell("recording", "play", "T-999")).code == 1
    task = next(iter(shell.commands.views))
    nowhere = await shell("recording", "get", task, "-o", str(tmp_path / "no" / "a.cast"))
    assert nowhere.code == 1
    assert "No such file or directory" in nowhere.err
    assert "Traceback" not in nowhere.err


async def test_chats_are_opened_listed_and_closed(shell: Shell) -> None:
    home = "k3v9x204"
    none = await shell("chat", "list", home)
    assert none.code == 0
    assert f"samovar chat new {home}" in none.out + none.err
    made = await shell("chat", "new", home, "Why is it slow?")
    assert made.code == 0
    chat = made.out.strip()
    listed = await shell("chat", "list", home)
    assert all(word in listed.out for word in (chat, "Why is it slow?", "idle"))
    told = (await shell("chat", "list", home, "--json")).json["chats"]
    assert [(one["id"], one["is_own"]) for one in told] == [(chat, False)]
    closed = await shell("chat", "close", chat)
    assert (closed.code, closed.err.strip()) == (0, f"{chat} closes.")
    assert shell.commands.talks == {}
    empty = await shell("chat", "new", home, " ")
    assert (empty.code, "message is empty" in empty.err) == (1, True)
