"""The driver against a stand-in of Claude Code: histories without the real program."""

import asyncio
import json
import os
import shutil
import signal
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from agent.launcher import LocalLauncher
from bot.demo.script import prompt as with_script
from bot.demo.script import say, step, use
from tests.fakes.agent_session import DONE, Bench, new_prompt, running
from tests.fakes.claude_process import install


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


async def test_t4_a_stop_that_comes_while_a_driver_begins_starts_nothing(bench: Bench) -> None:
    driver, bench.journal.after_notes = bench.driver(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(driver.run())
        await asyncio.sleep(0)
        stopping = group.create_task(driver.stop())
        await asyncio.sleep(0)
        bench.journal.after_notes.set()
        await asyncio.wait_for(stopping, 10)
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
        await asyncio.wait_for(driver.started(), 10)
        assert (await bench.turns(1))["ok"]
        await driver.stop()


async def test_p8_a_lost_report_of_a_turns_end_is_found_out_by_asking(bench: Bench) -> None:
    async with running(bench.driver(pace=0.005)) as driver:
        await driver.prompt(new_prompt(), levers({"mute": True}))
        await bench.until(lambda: bench.of("turn.end"))
        assert bench.phase() == "busy"
        await bench.until(lambda: bench.phase() == "idle")
        await driver.stop()


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
