"""A real Claude Code in a chat: the end of a turn is no end of work."""

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
