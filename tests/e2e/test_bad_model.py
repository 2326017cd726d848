"""The model fails or costs too much."""

import pytest

from bot.demo.script import say, step, use
from tests.fakes.world import World, writing

pytestmark = [
    pytest.mark.docker,
    pytest.mark.claude,
    pytest.mark.timeout(180),
    pytest.mark.asyncio(loop_scope="session"),
]

DEAR = {"output_tokens": 160_000}
"""$3.20 at the price of the model that runs ask for; their budget is $3."""
COMMIT = use("Bash", command="echo some > some && git add some && git commit -qm 'Add some'")


async def test_a_key_that_the_model_refuses_blocks_with_what_to_do(samovar: World) -> None:
    await samovar.project("key", {"a.txt": "a\n"})
    refused = step(status=401, error="authentication_error", message="invalid x-api-key")
    result = await samovar.result(await samovar.ask("key", "Write it down", [refused]))
    assert result.outcome == "blocked"
    assert "our key is missing or wrong" in result.advice
    assert samovar.stage.model_key not in result.advice


async def test_no_credit_at_the_vendor_blocks_with_what_to_do(samovar: World) -> None:
    await samovar.project("credit", {"a.txt": "a\n"})
    refused = step(status=402, error="billing_error", message="Your credit balance is too low")
    result = await samovar.result(await samovar.ask("credit", "Write it down", [refused]))
    assert result.outcome == "blocked"
    assert "has no credit" in result.advice


@pytest.mark.parametrize("status", [429, pytest.param(529, marks=pytest.mark.long)])
async def test_a_storm_of_refusals_is_waited_out(samovar: World, status: int) -> None:
    await samovar.project(f"storm{status}", {"a.txt": "a\n"})
    storm = step(COMMIT, status=status, error="overloaded_error", times=4)
    task = await samovar.ask(f"storm{status}", "Write it down", [storm, step(say("Done."))])
    assert (await samovar.result(task)).outcome == "pull_request"


async def test_an_answer_that_is_cut_in_mid_stream_is_asked_for_again(samovar: World) -> None:
    await samovar.project("cut", {"a.txt": "a\n"})
    cut = step(say("I begin to write.", chunks=4), COMMIT, cut_after=2, times=2)
    task = await samovar.ask("cut", "Write it down", [cut, step(say("Done."))])
    assert (await samovar.result(task)).outcome == "pull_request"
    [pull] = await samovar.forge.pulls("acme/cut")
    assert len(await samovar.forge.commits("acme/cut", f"main..{pull.head}")) == 1


@pytest.mark.parametrize("is_raised", [True, False], ids=["yes", "no"])
async def test_a_budget_that_is_used_up_asks_and_does_what_is_answered(
    samovar: World, is_raised: bool
) -> None:
    """Yes goes on; no publishes what there is as a draft."""
    name = f"budget-{is_raised}".lower()
    await samovar.project(name, {"a.txt": "a\n"})
    steps = [step(COMMIT, usage=DEAR), *writing("more")]
    task = await samovar.ask(name, "Write it down", steps)
    question = await samovar.asked(task, "budget")
    assert "$3" in f"{question.title} {question.detail}"
    commands, me = samovar.samovar.commands, samovar.samovar.local
    await commands.answer(me, question.id, surface="web", allow=is_raised)
    view = await samovar.ended(task)
    [pull] = await samovar.forge.pulls(f"acme/{name}")
    subjects = [c.message.strip() for c in await samovar.forge.commits(f"acme/{name}", pull.head)]
    assert "Add some" in subjects
    assert view.card.result is not None
    if is_raised:
        assert (view.card.result.outcome, pull.draft) == ("pull_request", False)
    else:
        assert (view.card.result.outcome, pull.draft) == ("pull_request", True)
        assert "The budget was used up and not raised." in view.card.result.advice
