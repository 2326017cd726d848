"""A message becomes a pull request, with real Docker, devcontainer CLI, Claude Code and git."""

from pathlib import Path

import pytest

from adapters.local import process
from bot.demo.improvise import COMPLETE
from bot.demo.script import say, step, use
from tests.fakes.world import HOLD, World, claude_processes, world

pytestmark = [
    pytest.mark.docker,
    pytest.mark.claude,
    pytest.mark.timeout(180),
    pytest.mark.asyncio(loop_scope="session"),
]

FIX = "sed -i s/helo/hello/ greet.sh && git commit -qam 'Greet in English'"


async def test_g6_a_message_becomes_exactly_one_pull_request(samovar: World) -> None:
    files = {"greet.sh": "echo helo\n"}
    repository = await samovar.project("greet", files, checks=("sh greet.sh | grep -x hello",))
    task = await samovar.ask(
        "greet",
        "The greeting is misspelt",
        [
            step(say("I look first."), use("Bash", command=HOLD)),
            step(say("I mend it."), use("Bash", command=FIX)),
            step(use(COMPLETE, summary="The greeting says hello now.")),
            step(say("Done.")),
        ],
    )
    await samovar.reached(task)
    assert len(claude_processes(samovar.stage.config.state)) == 1, "G6"
    await samovar.go_on(task)
    view = await samovar.ended(task)
    card, result = view.card, view.card.result
    assert result is not None
    assert (result.outcome, result.advice) == ("pull_request", "")
    assert result.says == "The greeting says hello now."
    assert [(check.command, check.ok) for check in result.checks] == [
        ("sh greet.sh | grep -x hello", True)
    ]
    assert (result.files, result.added, result.removed) == (1, 1, 1)
    [pull] = await samovar.forge.pulls(repository)
    assert card.pull_url.endswith(f"/{repository}/pull/{pull.number}")
    assert (pull.base, pull.draft, pull.state) == ("main", False, "open")
    assert pull.body.startswith(f"Asked for by {samovar.samovar.local.name} as [{task}](")
    [commit] = await samovar.forge.commits(repository, f"main..{pull.head}")
    assert commit.message.strip() == "Greet in English"
    assert card.tokens_usd > 0
    assert [one.mark for one in card.steps] == ["done"] * 5
    assert claude_processes(samovar.stage.config.state) == []
    workspace = await samovar.workspace(task)
    assert (workspace.state, workspace.run_id) == ("ready", None), "kept for a reply"
    assert "hello" in await samovar.inside(task, "cat greet.sh")


async def test_g1_nothing_is_left_when_people_let_the_machine_go(tmp_path: Path) -> None:
    async with world(tmp_path) as samovar:
        await samovar.project("small", {"a.txt": "a\n"})
        task = await samovar.ask("small", "Write it down")
        await samovar.ended(task)
        assert len(await samovar.stage.containers()) == 1
        assert [process.find(node) is not None for node in samovar.stage.nodes] == [True]
        owner = samovar.stage.owners
        await samovar.let_go()
        assert await samovar.stage.containers(owner) == []
        assert samovar.mounts == []
        assert samovar.stage.nodes == []
