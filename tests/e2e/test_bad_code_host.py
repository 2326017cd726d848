"""The code host fails while the result is published."""

import pytest

from tests.fakes.world import World, writing

pytestmark = [
    pytest.mark.docker,
    pytest.mark.claude,
    pytest.mark.timeout(180),
    pytest.mark.asyncio(loop_scope="session"),
]


async def test_a_refused_pull_request_leaves_the_branch_and_says_so(samovar: World) -> None:
    await samovar.project("nopull", {"a.txt": "a\n"})
    samovar.forge.fail("POST", "/repos/acme/nopull/pulls$", 403, times=100)
    task = await samovar.ask("nopull", "Write it down", writing("done"))
    result = await samovar.result(task)
    branch = (await samovar.workspace(task)).branch
    assert (result.outcome, result.headline) == ("pushed", f"Pushed to {branch}")
    assert "pull request" in result.advice
    assert f"refs/heads/{branch}" in await samovar.forge.refs("acme/nopull")


async def test_t1_a_lost_answer_makes_no_second_pull_request(samovar: World) -> None:
    await samovar.project("lost", {"a.txt": "a\n"})
    samovar.forge.lose_answer("POST", "/repos/acme/lost/pulls$")
    task = await samovar.ask("lost", "Write it down", writing("done"))
    assert (await samovar.result(task)).outcome == "pull_request"
    assert len(await samovar.forge.pulls("acme/lost")) == 1


async def test_a_push_whose_answer_is_lost_is_not_doubled(samovar: World) -> None:
    await samovar.project("lostpush", {"a.txt": "a\n"})
    samovar.forge.lose_answer("POST", "/acme/lostpush.git/git-receive-pack")
    task = await samovar.ask("lostpush", "Write it down", writing("done"))
    assert (await samovar.result(task)).outcome == "pull_request"
    [pull] = await samovar.forge.pulls("acme/lostpush")
    assert len(await samovar.forge.commits("acme/lostpush", f"main..{pull.head}")) == 1


async def test_g4_a_push_that_is_refused_for_good_keeps_the_work_and_says_so(
    samovar: World,
) -> None:
    await samovar.project("nopush", {"a.txt": "a\n"})
    samovar.forge.fail("*", "/acme/nopush.git/.*git-receive-pack", 403, times=1000)
    task = await samovar.ask("nopush", "Write it down", writing("done"))
    result = await samovar.result(task)
    assert result.outcome == "failed"
    assert "The work is kept" in result.advice
