"""The coding agent does not do what it should, or more than it may."""

import pytest

from bot.demo.improvise import COMPLETE
from bot.demo.script import say, step, use
from tests.fakes.world import World, writing

pytestmark = [
    pytest.mark.docker,
    pytest.mark.claude,
    pytest.mark.timeout(180),
    pytest.mark.asyncio(loop_scope="session"),
]


async def test_p11_an_agent_that_changes_nothing_ends_with_what_to_do(samovar: World) -> None:
    await samovar.project("idle", {"a.txt": "a\n"})
    task = await samovar.ask("idle", "Improve it", [step(say("It is perfect."))])
    result = await samovar.result(task)
    assert result.outcome == "no_change"
    assert "Say more precisely what should be different." in result.advice
    assert await samovar.forge.pulls("acme/idle") == []


async def test_p12_a_claim_of_success_without_a_commit_is_no_result(samovar: World) -> None:
    await samovar.project("claim", {"a.txt": "a\n"})
    claim = step(use(COMPLETE, summary="Rewrote everything, all tests pass."))
    task = await samovar.ask("claim", "Improve it", [claim, step(say("Done."))])
    result = await samovar.result(task)
    assert result.outcome == "no_change"
    assert result.files == 0
    assert await samovar.forge.pulls("acme/claim") == []


async def test_p12_an_agent_that_pushes_its_branch_itself_gets_the_same_pull_request(
    samovar: World,
) -> None:
    await samovar.project("pusher", {"a.txt": "a\n"})
    push = step(use("Bash", command="git push origin HEAD 2>&1; git status -sb"))
    task = await samovar.ask("pusher", "Write it down", writing("done", push))
    result = await samovar.result(task)
    assert result.outcome == "pull_request"
    assert result.measured[0].startswith("1 commit at ")
    [pull] = await samovar.forge.pulls("acme/pusher")
    assert len(await samovar.forge.commits("acme/pusher", f"main..{pull.head}")) == 1


async def test_t5_a_push_to_the_default_branch_is_refused(samovar: World) -> None:
    await samovar.project("bold", {"a.txt": "a\n"})
    before = (await samovar.forge.refs("acme/bold"))["refs/heads/main"]
    command = (
        "git push origin HEAD:main > /tmp/push 2>&1; echo $? >> /tmp/push; "
        "git push --force origin HEAD:refs/heads/main HEAD:refs/tags/v1 >> /tmp/push 2>&1; "
        "git push origin HEAD:refs/heads/samovar/T-9999-other >> /tmp/push 2>&1; true"
    )
    push = step(use("Bash", command=command))
    task = await samovar.ask("bold", "Write it down", writing("done", push))
    assert (await samovar.result(task)).outcome == "pull_request"
    refs = await samovar.forge.refs("acme/bold")
    branch = (await samovar.workspace(task)).branch
    assert refs["refs/heads/main"] == before
    heads = {name for name in refs if not name.startswith("refs/pull/")}
    assert heads == {"refs/heads/main", f"refs/heads/{branch}"}
    said = await samovar.inside(task, "cat /tmp/push")
    assert "only" in said.lower(), "the refusal says what may be pushed"


async def test_checks_that_fail_make_a_draft_that_says_so(samovar: World) -> None:
    checks = ("echo one; true", "echo 3 tests failed; exit 3")
    await samovar.project("failing", {"a.txt": "a\n"}, checks=checks)
    view = await samovar.ended(await samovar.ask("failing", "Write it down", writing("done")))
    result = view.card.result
    assert result is not None
    assert (result.outcome, [one.ok for one in result.checks]) == ("pull_request", [True, False])
    assert "3 tests failed" in result.checks[1].tail
    assert "(draft)" in result.headline
    [pull] = await samovar.forge.pulls("acme/failing")
    assert pull.draft
    assert "failed with exit code 3" in pull.body
    assert next(one.mark for one in view.card.steps if one.name == "Checks") == "warning"


async def test_without_checks_the_card_and_the_pull_request_say_so(samovar: World) -> None:
    await samovar.project("unchecked", {"a.txt": "a\n"})
    result = await samovar.result(await samovar.ask("unchecked", "Add it", writing("done")))
    assert "no checks are set for this project" in result.measured
    [pull] = await samovar.forge.pulls("acme/unchecked")
    assert (pull.draft, "no checks are set for this project" in pull.body) == (False, True)


async def test_a_question_ends_with_an_answer_and_no_pull_request(samovar: World) -> None:
    await samovar.project("asked", {"a.txt": "a\n"})
    steps = [
        step(use("Bash", command="cat a.txt")),
        step(use(COMPLETE, summary="Read a.txt", answer="It holds the letter a.")),
        step(say("Done.")),
    ]
    task = await samovar.ask("asked", "What is in a.txt?", steps)
    result = await samovar.result(task)
    assert (result.outcome, result.headline) == ("answer", "Answered")
    assert result.says == "It holds the letter a."
    assert await samovar.forge.pulls("acme/asked") == []


async def test_uncommitted_work_is_committed_but_for_secrets(samovar: World) -> None:
    await samovar.project("untidy", {"a.txt": "a\n", ".gitignore": "build/\n"})
    command = "echo b > b.txt; echo TOKEN=1 > .env; mkdir build; echo x > build/x"
    steps = [step(use("Bash", command=command)), step(say("There."))]
    task = await samovar.ask("untidy", "Add b", steps)
    result = await samovar.result(task)
    assert result.outcome == "pull_request"
    [pull] = await samovar.forge.pulls("acme/untidy")
    names = await samovar.forge.git("acme/untidy", "ls-tree", "-r", "--name-only", pull.head)
    assert "b.txt" in names.split()
    assert not {".env", "build/x"} & set(names.split())
    assert any(".env" in line for line in result.measured), "it is said what was left out"
