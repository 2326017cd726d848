"""The driver against a stand-in of Claude Code: histories without the real program."""

import asyncio
import json
import os
import shutil
import signal
import tracemalloc
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.claude import home
from agent.claude.driver import ClaudeDriver
from agent.claude.home import Transcript
from agent.launcher import BEGAN, LocalLauncher
from agent.mailbox import JOURNAL, LINE_BYTES_MAX
from bot.demo.script import prompt as with_script
from bot.demo.script import say, step, use
from core.ids import TerminalId
from tests.fakes.agent_session import DONE, Bench, new_prompt, running
from tests.fakes.claude_process import install
from tests.fakes.session_fixtures import Looks, looks

__all__ = ["looks"]


def levers(*blocks: dict[str, object]) -> str:
    done = {"use": "mcp__samovar__complete_task", "input": {"summary": "It is done."}}
    return f"go <<{json.dumps([{'blocks': [*blocks, done]}])}>>"


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncGenerator[Bench]:
    bench = Bench(tmp_path / "run", "http://nowhere.invalid", install(tmp_path))
    yield bench
    await LocalLauncher(bench.root).sweep(bench.session)
    bench.journal.close()


async def test_a_turn_of_the_stand_in_looks_like_one_of_the_real_program(bench: Bench) -> None:
    prompt = new_prompt()
    async with running(bench.driver()) as driver:
        await driver.started()
        steps = [step(say("Hello.", chunks=3), use("Bash", command="echo hi")), step(DONE)]
        await driver.prompt(prompt, with_script("go", steps))
        end = await bench.turns(1)
        await driver.stop()
    assert (end["ok"], end["prompts"]) == (True, [prompt])
    assert [p["state"] for p in bench.of("prompt.state")] == ["queued", "started", "completed"]
    assert bench.of("tool.end")[0]["summary"] == "hi"
    phases = [p["state"] for p in bench.of("session.state")]
    assert phases == ["starting", "idle", "busy", "idle", "ended"]


async def test_a_killed_stand_in_runs_its_turn_again(bench: Bench) -> None:
    once = str(bench.root / "once")
    async with running(bench.driver()) as driver:
        await driver.prompt(new_prompt(), levers({"exit": -9, "once": once}))
        assert (await bench.turns(1))["ok"]
        await driver.stop()
    assert len(bench.of("notice")) == 1
    assert len(bench.of("complete")) == 1


async def test_p10_a_turn_that_always_kills_ends_after_three_restarts(bench: Bench) -> None:
    async with running(bench.driver()) as driver:
        await driver.prompt(new_prompt(), levers({"sleep": 0.01}, {"exit": 3}))
        await bench.until(lambda: bench.phase() == "ended")
        await driver.stop()
    assert "told to exit" in bench.of("session.state")[-1]["reason"]


async def test_w7_starts_that_are_cut_off_with_their_node_agent_are_no_crashes(
    bench: Bench,
) -> None:
    class Stuck(LocalLauncher):
        async def start(self, script: str, env: Mapping[str, str]) -> None:
            await asyncio.Event().wait()

    for life in range(1, 6):
        async with running(bench.driver(launcher=Stuck(bench.root))) as driver:
            async with asyncio.timeout(60):
                while driver.state.starts < life:
                    await asyncio.sleep(0.01)
    async with running(bench.driver()) as driver:
        await driver.started()
        await driver.stop()
    assert bench.of("notice") == []


async def test_t4_a_stop_that_comes_while_a_driver_begins_starts_nothing(bench: Bench) -> None:
    driver, bench.journal.after_notes = bench.driver(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(driver.run())
        await asyncio.sleep(0)
        stopping = group.create_task(driver.stop())
        await asyncio.sleep(0)
        bench.journal.after_notes.set()
        await asyncio.wait_for(stopping, 60)
    assert [p["state"] for p in bench.of("session.state")] == ["ended"]
    assert not (bench.box / "pid").exists()


async def test_a_turn_that_fails_once_is_continued(bench: Bench) -> None:
    once = str(bench.root / "once")
    fail = {"fail": "overloaded", "status": 529, "once": once}
    async with running(bench.driver(pace=0.001)) as driver:
        await driver.prompt(new_prompt(), levers(fail))
        await bench.turns(2)
        await driver.stop()
    assert [end["ok"] for end in bench.of("turn.end")] == [False, True]


async def test_five_thousand_pieces_of_text_keep_their_order_behind_a_slow_reader(
    bench: Bench,
) -> None:
    text = "".join(f"{number:05d}" for number in range(5000))
    async with running(bench.driver()) as driver:
        await driver.prompt(new_prompt(), levers({"say": text, "chunks": 5000}))
        await bench.turns(1)
        await driver.stop()
    assert "".join(delta.text for delta in bench.deltas) == text
    assert bench.of("message.text")[0]["text"] == text


async def test_an_open_question_is_withdrawn_by_an_interrupt(bench: Bench) -> None:
    question = {"use": "mcp__samovar__ask", "input": {"question": "Which?"}}
    async with running(bench.driver()) as driver:
        await driver.prompt(new_prompt(), levers(question))
        await bench.until(lambda: bench.of("question.open"))
        await driver.interrupt()
        end = await bench.turns(1)
        await driver.stop()
    assert end["code"] == "interrupted"
    assert bench.of("question.closed")[0]["by"] == "withdrawn"


async def test_a_sigkill_between_two_looks_of_a_cancelled_driver_is_seen_later(
    bench: Bench,
) -> None:
    async with running(bench.driver()) as driver:
        await driver.started()
    os.kill(int((bench.box / "pid").read_text()), signal.SIGKILL)
    async with running(bench.driver()) as driver:
        await driver.prompt(new_prompt(), levers())
        await asyncio.wait_for(driver.started(), 60)
        assert (await bench.turns(1))["ok"]
        await driver.stop()


async def test_p8_a_lost_report_of_a_turns_end_is_found_out_by_asking(bench: Bench) -> None:
    async with running(bench.driver(pace=0.005)) as driver:
        await driver.prompt(new_prompt(), levers({"mute": True}))
        await bench.turns(1)
        await driver.stop()
    assert '"request_id": "initialize:' in (bench.box / JOURNAL).read_text(), "it was not asked"


async def test_a_session_whose_conversation_came_back_alone_goes_on_above_its_old_offsets(
    bench: Bench,
) -> None:
    """As after a restore: in the same run, by a node that remembers how it was stopped."""
    async with running(bench.driver()) as driver:
        await driver.prompt(new_prompt(), levers())
        await bench.turns(1)
        await driver.stop()
    before = bench.journal.events(bench.session)
    shutil.rmtree(bench.root / "s")
    prompt = new_prompt()
    async with running(bench.driver()) as driver:
        await driver.prompt(prompt, levers())
        assert (await bench.turns(2))["prompts"] == [prompt]
    async with running(bench.driver()) as driver:
        await driver.prompt(new_prompt(), levers())
        await bench.turns(3)
        await driver.stop()
    after = bench.journal.events(bench.session)[len(before) :]
    assert [one.kind for one in after[:1]] == ["session.state"]
    assert after[0].offset > before[-1].offset
    assert bench.journal.repeated == 0


def states(bench: Bench, prompt: str) -> list[str]:
    return [p["state"] for p in bench.of("prompt.state") if p["prompt"] == prompt]


async def test_a_stop_drops_a_prompt_that_was_only_taken_so_far(bench: Bench) -> None:
    early, late = new_prompt(), new_prompt()
    async with running(bench.driver()) as driver:
        await driver.started()
        await driver.prompt(early, levers())
        await driver.interrupt()
        await driver.prompt(late, levers())
        assert (await bench.turns(1))["prompts"] == [late]
        await driver.stop()
    assert states(bench, early) == ["cancelled"]
    assert len(bench.of("turn.end")) == 1


class StoppedAtRestart(LocalLauncher):
    """Has somebody press Stop when the second process has just been started."""

    driver: ClaudeDriver
    stop: asyncio.Task[None] | None = None
    starts = 0

    async def start(self, script: str, env: Mapping[str, str]) -> None:
        await super().start(script, env)
        self.starts += 1
        if self.starts == 2:
            self.stop = asyncio.create_task(self.driver.interrupt())
            await asyncio.sleep(0)


@pytest.mark.parametrize("moment", ["waits", "restarts"])
async def test_a_turn_whose_process_crashed_is_not_resumed_after_a_stop(
    bench: Bench, moment: str
) -> None:
    crashed, queued, late = new_prompt(), new_prompt(), new_prompt()
    crash = {"use": "Bash", "input": {"command": "until test -e crash; do sleep 0.01; done"}}
    if moment == "waits":
        driver = bench.driver(pace=60)
    else:
        launcher = StoppedAtRestart(bench.root)
        driver = launcher.driver = bench.driver(launcher=launcher)
    async with running(driver):
        await driver.prompt(crashed, levers(crash, {"exit": -9, "once": "once"}))
        await bench.until(lambda: states(bench, crashed)[-1:] == ["started"])
        await driver.prompt(queued, levers())
        await bench.until(lambda: states(bench, queued) == ["queued"])
        (bench.root / "work/crash").touch()
        await bench.until(lambda: bench.of("notice"))
        if moment == "waits":
            await driver.interrupt()
            driver._is_paused_until = 0.0  # The wait is over.
        await bench.until(lambda: states(bench, crashed)[-1] == "cancelled")
        await driver.prompt(late, levers())
        assert (await bench.turns(2))["prompts"] == [late]
        await driver.stop()
    assert [states(bench, name)[-1] for name in (crashed, queued)] == ["cancelled"] * 2
    cut, _ = bench.of("turn.end")
    assert (cut["code"], cut["prompts"]) == ("interrupted", [crashed])
    assert len(bench.of("complete")) == 1
    assert [notice["code"] for notice in bench.of("notice")] == ["agent_crashed"]


async def test_what_waits_behind_a_turn_that_is_interrupted_for_a_terminal_is_given_after_it(
    bench: Bench,
) -> None:
    cut, waiting = new_prompt(), new_prompt()
    async with running(bench.driver()) as driver:
        await driver.prompt(cut, levers({"say": "x" * 1000, "chunks": 1000, "delay_s": 0.05}))
        await bench.until(lambda: bench.deltas)
        await driver.prompt(waiting, levers())
        await bench.until(lambda: states(bench, waiting) == ["queued"])
        await driver.hand_over(TerminalId("t-1"))
        assert states(bench, waiting) == ["queued"]
        await driver.take_back(TerminalId("t-1"))
        assert (await bench.turns(2))["prompts"] == [waiting]
        await driver.stop()
    assert "cancelled" not in states(bench, waiting)
    assert states(bench, waiting)[-1] == "completed"


async def test_a_stop_drops_what_waits_for_the_return_from_a_terminal(bench: Bench) -> None:
    waiting = new_prompt()
    async with running(bench.driver()) as driver:
        await driver.prompt(new_prompt(), levers())
        await bench.turns(1)
        await driver.hand_over(TerminalId("t-1"))
        await driver.prompt(waiting, levers())
        await driver.interrupt()
        assert states(bench, waiting) == ["cancelled"]
        await driver.take_back(TerminalId("t-1"))
        await driver.prompt(new_prompt(), levers())
        await bench.turns(2)
        await driver.stop()


def transcript(bench: Bench) -> Path:
    [path] = bench.root.glob(f"claude/projects/*/{bench.session}.jsonl")
    return path


async def test_a_conversation_that_is_blown_up_ends_its_session_and_no_more(bench: Bench) -> None:
    async with running(bench.driver()) as driver:
        await driver.prompt(new_prompt(), levers())
        await bench.turns(1)
        os.truncate(transcript(bench), 30 << 30)
        os.kill(int((bench.box / "pid").read_text()), signal.SIGKILL)
        await bench.until(lambda: bench.phase() == "ended")
    assert "larger than 1 GiB" in bench.of("session.state")[-1]["reason"]


def test_a_conversation_is_read_a_line_at_a_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(home, "TRANSCRIPT_BYTES_MAX", 4 * LINE_BYTES_MAX)
    folder = bench.root / "claude/projects/work"
    folder.mkdir(parents=True)
    path = folder / f"{bench.session}.jsonl"
    path.write_bytes(b'{"type":"mode"}\n')
    os.truncate(path, 30 << 30)
    conversation = Transcript(bench.spec)
    tracemalloc.start()
    try:
        assert not conversation.exists()
        assert not conversation.holds(new_prompt())
        assert len(conversation.lines(0)) == 2
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * LINE_BYTES_MAX


def began() -> str:
    return Path("/proc/self/stat").read_text().rpartition(")")[2].split()[BEGAN]


def opened(bench: Bench, session: str, *, since: str) -> None:
    """Write what Claude Code writes for a process in a terminal: us."""
    folder = bench.root / "claude/sessions"
    folder.mkdir(parents=True, exist_ok=True)
    said: dict[str, Any] = {"pid": os.getpid(), "procStart": since, "sessionId": session}
    part = folder / "part"
    part.write_text(json.dumps({**said, "entrypoint": "cli"}))
    part.rename(folder / f"{os.getpid()}.json")


async def test_the_file_of_a_dead_process_is_not_taken_for_the_one_that_has_its_id_now(
    bench: Bench, looks: Looks
) -> None:
    async with running(bench.driver()) as driver:
        await driver.started()
        opened(bench, bench.session, since="1")
        await bench.until(lambda: looks.saw(bench.session, "1"))
        opened(bench, bench.session, since=began())
        await bench.until(lambda: bench.of("notice"))
        await driver.stop()
    assert [notice["code"] for notice in bench.of("notice")] == ["opened_by_hand"]


async def test_a_terminal_that_goes_on_with_another_conversation_is_told_of(
    bench: Bench, looks: Looks
) -> None:
    async with running(bench.driver()) as driver:
        await driver.prompt(new_prompt(), levers())
        await bench.turns(1)
        opened(bench, "another", since="1")
        await driver.hand_over(TerminalId("t-1"))
        opened(bench, bench.session, since=began())
        await bench.until(lambda: looks.saw(bench.session, began()))
        opened(bench, "new", since=began())
        await bench.until(lambda: bench.of("notice"))
        await driver.stop()
    assert [notice["code"] for notice in bench.of("notice")] == ["conversation_left"]
