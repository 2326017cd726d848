"""A real Claude Code and its driver, killed at every point of a prompt's life."""

import asyncio
import json
import os
import signal
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from agent.claude.home import Transcript
from agent.claude.prompts import Prompts
from agent.errors import NodeError
from agent.launcher import LocalLauncher
from agent.mailbox import Mailbox
from bot.demo.model import ScriptedModel
from bot.demo.script import say, step, use
from tests.fakes.agent_session import DONE, Bench, new_prompt, running, script

pytestmark = pytest.mark.claude

SLOW = say("x" * 100, chunks=100, delay_s=0.01)


def pid(bench: Bench) -> int:
    return int((bench.box / "pid").read_text())


def processes(bench: Bench) -> list[psutil.Process]:
    """Return every process that carries the session's name."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("SAMOVAR_SESSION") == bench.session:
                found.append(process)
        except psutil.Error:
            continue
    return found


def lines(bench: Bench) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (bench.box / "out.jsonl").read_text().splitlines()]


def states(bench: Bench, prompt: str) -> list[str]:
    return [p["state"] for p in bench.of("prompt.state") if p["prompt"] == prompt]


def whole(bench: Bench) -> None:
    """Check what must hold after any kill: nothing is repeated and no offset stands still."""
    assert bench.journal.repeated == 0
    offsets = [event.offset for event in bench.journal.events(bench.session)]
    assert offsets == sorted(set(offsets))
    shown = [m["prompt"] for m in bench.of("message.user") if "prompt" in m]
    assert len(shown) == len(set(shown))


async def test_w7_a_turn_goes_on_while_nobody_looks_and_is_adopted(bench: Bench) -> None:
    prompt = new_prompt()
    async with running(bench.driver()) as driver:
        await driver.prompt(prompt, script("go", step(SLOW, DONE)))
        await bench.until(lambda: bench.deltas)
    first = pid(bench)
    async with running(bench.driver()) as driver:
        await driver.started()
        await bench.turns(1)
        assert pid(bench) == first
        await driver.stop()
    assert states(bench, prompt) == ["queued", "started", "completed"]
    whole(bench)


async def test_p4_a_prompt_accepted_but_not_written_is_sent_by_the_next_driver(
    bench: Bench,
) -> None:
    prompt = new_prompt()
    async with running(bench.driver()) as driver:
        await driver.started()
    prompts = Prompts(bench.session, bench.journal)
    await prompts.add(prompt, script("go", step(DONE)))
    async with running(bench.driver()) as driver:
        assert (await bench.turns(1))["prompts"] == [prompt]
        await driver.stop()
    whole(bench)


async def test_p4_a_prompt_noted_as_written_that_never_was_is_sent_again(bench: Bench) -> None:
    prompt = new_prompt()
    async with running(bench.driver()) as driver:
        await driver.started()
    prompts = Prompts(bench.session, bench.journal)
    await prompts.add(prompt, script("go", step(DONE)))
    await prompts.write(prompts.unwritten(driver.state)[0], start=1)
    async with running(bench.driver()) as driver:
        assert (await bench.turns(1))["prompts"] == [prompt]
        await driver.stop()
    assert len(bench.of("turn.end")) == 1
    whole(bench)


async def test_p4_a_prompt_that_died_in_the_queue_with_claude_is_sent_again(
    bench: Bench, model: ScriptedModel
) -> None:
    first, second = new_prompt(), new_prompt()
    async with running(bench.driver()) as driver:
        await driver.prompt(first, script("go", step(SLOW, DONE)))
        await bench.until(lambda: bench.deltas)
        await driver.prompt(second, script("more", step(DONE)))
        await bench.until(lambda: "queued" in states(bench, second))
        os.kill(pid(bench), signal.SIGKILL)
        await bench.until(lambda: "completed" in states(bench, second))
        await bench.turns(1)
        await driver.stop()
    assert "completed" in states(bench, first)
    given = [body for body in model.bodies if "more <<" in str(body["messages"])]
    assert str(given[-1]["messages"]).count("more <<") == 1
    whole(bench)


async def test_p4_a_prompt_claimed_when_claude_dies_is_run_again_by_itself(bench: Bench) -> None:
    prompt = new_prompt()
    async with running(bench.driver()) as driver:
        stuck = step(SLOW, DONE, stall_after=50, times=1)
        await driver.prompt(prompt, script("go", stuck))
        await bench.until(lambda: Transcript(bench.spec).holds(prompt))
        await bench.until(lambda: bench.deltas)
        os.kill(pid(bench), signal.SIGKILL)
        end = await bench.turns(1)
        await driver.stop()
    assert end["prompts"] == [prompt]
    assert states(bench, prompt) == ["queued", "started", "completed"]
    assert len(bench.of("message.reset")) == 1
    assert [n["code"] for n in bench.of("notice")] == ["agent_crashed"]
    begun = [line for line in lines(bench) if line.get("subtype") == "init"]
    assert all("mcp__samovar__complete_task" in line["tools"] for line in begun)
    assert len(begun) == 2
    whole(bench)


async def test_p4_a_completed_prompt_is_never_sent_again(
    bench: Bench, model: ScriptedModel
) -> None:
    prompt = new_prompt()
    async with running(bench.driver()) as driver:
        await driver.prompt(prompt, script("go", step(DONE)))
        await bench.turns(1)
    os.kill(pid(bench), signal.SIGKILL)
    asked = len(model.bodies)
    async with running(bench.driver()) as driver:
        await driver.started()
        await driver.prompt(prompt, script("go", step(DONE)))
        await driver.prompt(new_prompt(), script("other", step(DONE)))
        await bench.turns(2)
        await driver.stop()
    assert states(bench, prompt) == ["queued", "started", "completed"]
    assert len(model.bodies) == asked + 2
    whole(bench)


async def test_p4_a_prompt_whose_conversation_is_gone_is_ambiguous(bench: Bench) -> None:
    first, second = new_prompt(), new_prompt()
    async with running(bench.driver()) as driver:
        await driver.prompt(first, script("go", step(DONE)))
        await bench.turns(1)
    prompts = Prompts(bench.session, bench.journal)
    prompts.load(await bench.journal.notes(bench.session))
    await prompts.add(second, script("more", step(DONE)))
    await prompts.write(prompts.unwritten(driver.state)[0], start=1)
    os.kill(pid(bench), signal.SIGKILL)
    for file in (bench.root / "claude/projects").rglob("*.jsonl"):
        file.unlink()
    async with running(bench.driver()) as driver:
        await bench.until(lambda: states(bench, second) == ["ambiguous"])
        await driver.stop()


async def test_p13_a_permission_that_died_with_claude_is_withdrawn_and_asked_anew(
    bench: Bench,
) -> None:
    async with running(bench.driver()) as driver:
        question = use("mcp__samovar__ask", question="Which colour?")
        await driver.prompt(new_prompt(), script("go", step(question), step(DONE)))
        await bench.until(lambda: bench.of("question.open"))
        os.kill(pid(bench), signal.SIGKILL)
        await bench.until(lambda: len(bench.of("question.open")) == 2)
        old, new = (opened["request"] for opened in bench.of("question.open"))
        assert bench.of("question.closed") == [{"request": old, "by": "withdrawn"}]
        with pytest.raises(NodeError, match="question_gone"):
            await driver.answer(old, allow=True, answers={"Which colour?": "Red"}, message="")
        await driver.answer(new, allow=True, answers={"Which colour?": "Red"}, message="")
        await bench.turns(1)
        await driver.stop()


def named(bench: Bench, word: str) -> list[psutil.Process]:
    found = []
    for process in processes(bench):
        with suppress(psutil.NoSuchProcess):  # It ended while we looked.
            found += [process] * (word in process.name())
    return found


async def test_orphans_of_a_killed_claude_are_swept_before_it_is_resumed(bench: Bench) -> None:
    async with running(bench.driver()) as driver:
        bash = use("Bash", command="for i in 1 2 3 4 5 6 7 8 9; do sleep 7; done")
        await driver.prompt(new_prompt(), script("go", step(bash), step(DONE)))
        await bench.until(lambda: bool(named(bench, "sleep")))
        sleeper = named(bench, "sleep")[0]
        os.kill(pid(bench), signal.SIGKILL)
        await bench.until(lambda: not sleeper.is_running())
        await bench.until(lambda: len(bench.of("session.state")) > 4)
        await driver.stop()
    assert not bench.of("tool.end")[0]["ok"]
    assert processes(bench) == []


async def test_g6_two_drivers_in_a_row_never_make_two_processes(bench: Bench) -> None:
    for wait_s in (0.0, 0.02, 0.05, 0.1, 0.2):
        async with running(bench.driver()):
            await asyncio.sleep(wait_s)
    async with running(bench.driver()) as driver:
        await driver.started()
        assert len(named(bench, "claude")) == 1
        await driver.stop()
    assert processes(bench) == []


async def test_p10_equal_fast_ends_stop_the_loop_and_say_why(bench: Bench, tmp_path: Path) -> None:
    broken = tmp_path / "claude"
    broken.write_text("#!/bin/sh\necho 'cannot find my hat' >&2\nexit 1\n")
    broken.chmod(0o755)
    bench.claude = str(broken)
    async with running(bench.driver()) as driver:
        with pytest.raises(NodeError, match="cannot find my hat"):
            await driver.started()
    end = bench.of("session.state")[-1]
    assert (end["state"], end["exit_code"]) == ("ended", 1)
    assert [n["code"] for n in bench.of("notice")] == ["agent_crashed"] * 3


async def test_an_end_of_its_own_accord_is_an_end(bench: Bench, tmp_path: Path) -> None:
    calm = tmp_path / "claude"
    calm.write_text("#!/bin/sh\nexit 0\n")
    calm.chmod(0o755)
    bench.claude = str(calm)
    async with running(bench.driver()) as driver:
        with pytest.raises(NodeError, match="session_ended"):
            await driver.started()


async def test_w11_stopping_one_session_leaves_its_neighbour(
    bench: Bench, model: ScriptedModel, claude: str
) -> None:
    other = Bench(bench.root, model.url, claude)
    bash = use("Bash", command="for i in 1 2 3 4 5 6 7 8 9; do sleep 7; done")
    async with running(bench.driver()) as driver, running(other.driver()) as neighbour:
        for each, session in ((driver, bench), (neighbour, other)):
            await each.prompt(new_prompt(), script("go", step(bash), step(DONE)))
            await session.until(partial(session.of, "tool.start"))
        await driver.stop()
        assert processes(bench) == []
        assert len(processes(other)) >= 3
        await neighbour.interrupt()
        await other.turns(1)
        await neighbour.stop()
    other.journal.close()


async def test_p9_five_stops_at_once_are_one_and_a_stopped_session_stays_stopped(
    bench: Bench,
) -> None:
    async with running(bench.driver()) as driver:
        await driver.prompt(new_prompt(), script("go", step(SLOW)))
        await bench.until(lambda: bench.deltas)
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(driver.stop())
        with pytest.raises(NodeError, match="session_ended"):
            await driver.prompt(new_prompt(), "more")
    assert [s["state"] for s in bench.of("session.state")].count("ended") == 1
    again = bench.driver()
    await asyncio.wait_for(again.run(), 60)
    assert processes(bench) == []


async def test_a_frozen_claude_is_killed_by_a_stop(bench: Bench) -> None:
    async with running(bench.driver(step_s_max=0.2)) as driver:
        await driver.started()
        os.kill(pid(bench), signal.SIGSTOP)
        await driver.stop()
    assert processes(bench) == []
    assert bench.of("session.state")[-1]["reason"] == "stopped"


async def test_the_next_run_goes_on_with_the_conversation(
    bench: Bench, model: ScriptedModel
) -> None:
    async with running(bench.driver()) as driver:
        await driver.prompt(new_prompt(), script("remember the hat", step(DONE)))
        await bench.turns(1)
        await driver.stop()
    bench.run = "T-1.2"
    async with running(bench.driver()) as driver:
        await driver.prompt(new_prompt(), script("next", step(DONE)))
        await bench.turns(2)
        await driver.stop()
    assert "remember the hat" in str(model.bodies[-1]["messages"])
    runs = [event.run for event in bench.journal.events(bench.session)]
    assert set(runs) == {"T-1.1", "T-1.2"}
    assert runs == sorted(runs)


async def test_another_session_continues_a_conversation_without_writing_to_it(
    bench: Bench, model: ScriptedModel, claude: str
) -> None:
    async with running(bench.driver()) as driver:
        await driver.prompt(new_prompt(), script("remember the hat", step(DONE)))
        await bench.turns(1)
        await driver.stop()
    old = next((bench.root / "claude/projects").rglob(f"{bench.session}.jsonl"))
    before = old.read_bytes()
    fork = Bench(bench.root, model.url, claude, continues=bench.session)
    async with running(fork.driver()) as driver:
        await driver.prompt(new_prompt(), script("next", step(DONE)))
        await fork.turns(1)
        await driver.stop()
    assert "remember the hat" in str(model.bodies[-1]["messages"])
    assert old.read_bytes() == before
    fork.journal.close()


async def test_a_full_journal_is_archived_and_nothing_is_lost(bench: Bench) -> None:
    async with running(bench.driver(journal_bytes_max=20_000)) as driver:
        for number in range(1, 4):
            text = script("go", step(say("y" * 50, chunks=50), DONE))
            await driver.prompt(new_prompt(), text)
            await bench.turns(number)
        await bench.until((bench.box / "out.2.jsonl").exists)
        await bench.until(lambda: (bench.box / "out.jsonl").stat().st_size < 20_000)
    async with running(bench.driver()) as driver:
        await driver.started()
        await driver.stop()
    assert len(bench.of("turn.end")) == 3
    assert len(bench.of("complete")) == 3
    whole(bench)


async def test_c7_the_token_is_in_no_argument_and_no_event(bench: Bench) -> None:
    async with running(bench.driver()) as driver:
        await driver.prompt(new_prompt(), script("go", step(SLOW, DONE)))
        await bench.until(lambda: bench.deltas)
        seen = []
        for process in processes(bench):
            with suppress(psutil.NoSuchProcess):  # It ended while we looked.
                seen.append(" ".join(process.cmdline()))
        await bench.turns(1)
        await driver.stop()
    assert seen
    assert not any("wst-canary" in line for line in seen)
    assert "wst-canary" not in str(bench.journal.events(bench.session))


async def test_half_a_line_of_a_killed_writer_costs_a_restart_and_nothing_else(
    bench: Bench,
) -> None:
    prompt = new_prompt()
    async with running(bench.driver()) as driver:
        await driver.started()
    fifo = os.open(bench.box / "in.fifo", os.O_WRONLY)
    os.write(fifo, b'{"type":"user","uuid":')
    os.close(fifo)
    async with running(bench.driver()) as driver:
        await driver.prompt(prompt, script("go", step(DONE)))
        await bench.turns(1)
        await driver.stop()
    assert states(bench, prompt) == ["queued", "started", "completed"]
    whole(bench)


async def test_a_link_in_place_of_the_mailbox_is_not_followed(bench: Bench, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("keep me")
    box = Mailbox(bench.root, bench.session, uid=os.getuid(), gid=os.getgid())
    box.prepare()
    (bench.box / "in.fifo").unlink()
    (bench.box / "in.fifo").symlink_to(secret)
    with pytest.raises(NodeError, match="mailbox_invalid"):
        await box.write(b"line")
    (bench.box / "out.jsonl").unlink()
    (bench.box / "out.jsonl").symlink_to(secret)
    with pytest.raises(NodeError, match="mailbox_invalid"):
        await bench.driver().run()
    assert secret.read_text() == "keep me"
    assert await LocalLauncher(bench.root).sweep(bench.session) == 0
