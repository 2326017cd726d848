"""However a run ends, what its coding agent did is kept: committed or not (G4)."""

import pytest

from bot.demo.script import Step, say, step, use
from tests.fakes.world import World, claude_processes, writing

pytestmark = [
    pytest.mark.docker,
    pytest.mark.claude,
    pytest.mark.timeout(180),
    pytest.mark.asyncio(loop_scope="session"),
]

DRAFT = use(
    "Bash", command="echo draft > uncommitted.txt; rm README.md; mkdir -p a/b; echo x > a/b/c"
)
ENDS = {
    "blocked": [step(status=402, error="billing_error", message="Your credit balance is too low")],
    "failed": [step(use("Bash", command="kill -9 $PPID"))],
}


@pytest.mark.parametrize("outcome", ["failed", pytest.param("blocked", marks=pytest.mark.long)])
async def test_g4_a_run_that_cannot_go_on_keeps_commits_and_what_was_not_committed(
    samovar: World, outcome: str
) -> None:
    repository = await samovar.project(f"end-{outcome}", {"README.md": "first\n"})
    steps: list[Step] = [
        *writing("half")[:1],
        step(DRAFT),
        *ENDS[outcome],
        step(say("Never said.")),
    ]
    task = await samovar.ask(f"end-{outcome}", "Half of it", steps)
    result = await samovar.result(task)
    assert result.outcome == outcome
    branch = (await samovar.workspace(task)).branch
    assert f"It is on `{branch}`." in result.advice
    names = await samovar.forge.git(repository, "ls-tree", "-r", "--name-only", branch)
    assert set(names.split()) >= {"half", "uncommitted.txt", "a/b/c"}
    assert "README.md" not in names.split(), "what was removed stays removed"
    assert claude_processes(samovar.stage.config.state) == []
