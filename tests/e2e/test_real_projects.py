"""Real projects with different tool chains: their own test suites measure the change."""

import asyncio

import pytest

from bot.demo import sample
from tests.fakes.real_projects import NODE, C, RealProject, sources
from tests.fakes.world import World

pytestmark = [
    pytest.mark.docker,
    pytest.mark.claude,
    pytest.mark.timeout(300),
    pytest.mark.asyncio(loop_scope="session"),
]


@pytest.mark.parametrize(
    "project",
    [pytest.param(NODE, id=NODE.name), pytest.param(C, id=C.name, marks=pytest.mark.long)],
)
async def test_a_real_project_gets_its_change(samovar: World, project: RealProject) -> None:
    image = sample.devcontainer(samovar.stage.outfit.base_image)
    tree = await asyncio.to_thread(sources, project)
    repository = f"acme/{project.name}"
    await samovar.forge.create_repository(
        repository, from_tree=tree, files={**image, **project.files}
    )
    await samovar.project(project.name, checks=(project.check,))
    task = await samovar.ask(project.name, project.task, project.steps())
    view = await samovar.ended(task, within_s=200)
    result = view.card.result
    assert result is not None
    assert (result.outcome, [check.ok for check in result.checks]) == ("pull_request", [True]), view
    [pull] = await samovar.forge.pulls(repository)
    names = await samovar.forge.git(repository, "diff", "--name-only", f"main...{pull.head}")
    assert set(names.split()) == project.changed
    assert not pull.draft
