"""A real Claude Code in a chat: the end of a turn is no end of work."""

import asyncio
import os
import signal

import pytest

from agent.claude.driver import REMINDER
from bot.demo.model import ScriptedModel
from bot.demo.script import say, step
from tests.fakes.agent_session import Bench, new_prompt, running, script

pytestmark = pytest.mark.claude


@pytest.mark.parametrize("is_chat", [False, True])
async def test_p11_only_a_task_is_reminded_of_its_result(
    bench: Bench, model: ScriptedModel, is_chat: bool
) -> None:
    bench.is_chat = is_chat
    async with running(bench.driver()) as driver:
        await driver.prompt(new_prompt(), script("go", step(say("That is all."))))
        await bench.turns(1)
        await driver.stop()
    assert (REMINDER in str(model.bodies)) is not is_chat


async def test_a_stop_reaches_a_prompt_that_is_on_its_way(bench: Bench) -> None:
    """Written already, and not read yet by a process that stands still."""
    bench.is_chat = True
    early, late = new_prompt(), new_prompt()
    async with running(bench.driver()) as driver:
        await driver.started()
        pid = int((bench.box / "pid").read_text())
        os.kill(pid, signal.SIGSTOP)
        await driver.prompt(early, script("early", step(say("x" * 99, chunks=99, delay_s=0.1))))
        while (await bench.journal.notes(bench.session)).get(f"written.{early}") != "1":
            await asyncio.sleep(0.01)
        stop = asyncio.create_task(driver.interrupt())
        await asyncio.sleep(0)
        os.kill(pid, signal.SIGCONT)
        await stop
        await driver.prompt(late, script("late", step(say("That is all."))))
        await bench.until(lambda: any(late in end["prompts"] for end in bench.of("turn.end")))
        await driver.stop()
    assert [p["state"] for p in bench.of("prompt.state") if p["prompt"] == early][-1] == "cancelled"
