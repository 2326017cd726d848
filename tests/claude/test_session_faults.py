"""A real Claude Code when the model's side fails."""

import pytest

from bot.demo.model import ScriptedModel
from bot.demo.script import say, step
from tests.fakes.agent_session import DONE, Bench, new_prompt, running, script

pytestmark = pytest.mark.claude


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (401, "authentication_error", "authentication_failed"),
        (402, "billing_error", "billing_error"),
        (403, "permission_error", "authentication_failed"),
        (400, "invalid_request_error", "invalid_request_error"),
    ],
)
async def test_a_refusal_of_the_model_ends_the_turn_with_its_code(
    bench: Bench, status: int, error: str, code: str
) -> None:
    async with running(bench.driver()) as driver:
        refused = step(status=status, error=error, message="The budget is used up.")
        await driver.prompt(new_prompt(), script("go", refused))
        end = await bench.turns(1)
        assert "retry_s" not in end
        await driver.stop()
    assert (end["ok"], end["code"]) == (False, code)
    if status != 401:
        assert "The budget is used up." in end["text"]


async def test_an_overloaded_model_is_asked_to_go_on_later(
    bench: Bench, model: ScriptedModel
) -> None:
    prompt = new_prompt()
    model.always = step(status=529, error="overloaded_error")
    bench.env["CLAUDE_CODE_MAX_RETRIES"] = "1"
    async with running(bench.driver(pace=0.01)) as driver:
        await driver.prompt(prompt, script("go", step(DONE), step(DONE)))
        await bench.until(lambda: bench.of("turn.end"))
        assert bench.phase() == "busy"
        model.always = None
        await bench.turns(2)
        await driver.stop()
    first, second = bench.of("turn.end")
    assert (first["ok"], first["code"], first["retry_s"]) == (False, "overloaded", 30.0)
    assert (second["ok"], second["prompts"]) == (True, [])
    assert {p["prompt"] for p in bench.of("prompt.state")} == {prompt}
    assert len(bench.of("message.user")) == 1
    assert bench.of("notice")[0]["code"] == "api_retry"


async def test_after_six_attempts_people_are_told(bench: Bench, model: ScriptedModel) -> None:
    model.always = step(status=529, error="overloaded_error")
    bench.env["CLAUDE_CODE_MAX_RETRIES"] = "0"
    async with running(bench.driver(pace=0.0005)) as driver:
        await driver.prompt(new_prompt(), "go")
        await bench.until(lambda: len(bench.of("turn.end")) == 7)
        await bench.turns(7)
        await driver.stop()
    assert ["retry_s" in end for end in bench.of("turn.end")] == [True] * 6 + [False]


async def test_an_interrupt_ends_the_waiting_for_the_model(bench: Bench) -> None:
    bench.env["CLAUDE_CODE_MAX_RETRIES"] = "0"
    async with running(bench.driver(pace=1)) as driver:
        await driver.prompt(new_prompt(), script("go", step(status=529, error="overloaded_error")))
        await bench.until(lambda: bench.of("turn.end"))
        assert bench.phase() == "busy"
        await driver.interrupt()
        await bench.until(lambda: bench.phase() == "idle")
        await driver.stop()


async def test_a_cut_stream_takes_its_partial_text_back(bench: Bench) -> None:
    async with running(bench.driver()) as driver:
        cut = step(say("one two three", chunks=13, delay_s=0.01), DONE, cut_after=6, times=1)
        await driver.prompt(new_prompt(), script("go", cut))
        await bench.turns(1)
        await driver.stop()
    assert len(bench.of("message.reset")) == 1
    assert bench.of("message.text")[0]["text"] == "one two three"
