"""Bad input before the coding agent starts: the repository, its branch, its devcontainer."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.fakes.node_world import base_image
from tests.fakes.world import World, writing

pytestmark = [
    pytest.mark.docker,
    pytest.mark.claude,
    pytest.mark.timeout(180),
    pytest.mark.asyncio(loop_scope="session"),
]

CONFIGURATION = ".devcontainer/devcontainer.json"
DOCKERFILE = {"build": {"dockerfile": "Dockerfile"}}


async def test_an_unknown_repository_fails_with_what_to_do(samovar: World) -> None:
    await samovar.project("absent")
    result = await samovar.result(await samovar.ask("absent", "Write it down"))
    assert result.outcome == "failed"
    assert "The repository of absent cannot be read" in result.advice
    assert "installs our App there; then reply `try again`." in result.advice


async def test_an_unknown_branch_fails_with_its_name(samovar: World) -> None:
    await samovar.project("branchless", {"a.txt": "a\n"}, branch="release/9")
    result = await samovar.result(await samovar.ask("branchless", "Write it down"))
    assert result.outcome == "failed"
    assert "acme/branchless has no branch 'release/9'; name one that exists." in result.advice


@pytest.mark.parametrize(
    ("status", "said"),
    [(403, "check that the app is installed for it"), (500, "try again")],
    ids=["refused", "broken"],
)
async def test_a_clone_that_the_code_host_refuses_fails_with_what_to_do(
    samovar: World, status: int, said: str
) -> None:
    name = f"closed{status}"
    await samovar.project(name, {"a.txt": "a\n"})
    samovar.forge.fail("*", f"/acme/{name}.git/", status, times=1000)
    result = await samovar.result(await samovar.ask(name, "Write it down"))
    assert result.outcome == "failed"
    assert f"acme/{name}" in result.advice
    assert said in result.advice.lower()


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("brokenjson", {CONFIGURATION: '{"image": "samov'}),
        (
            "brokenbuild",
            {
                CONFIGURATION: json.dumps(DOCKERFILE),
                ".devcontainer/Dockerfile": f"FROM {base_image()}\nRUN echo no luck; exit 7\n",
            },
        ),
        (
            "brokenhook",
            {
                CONFIGURATION: json.dumps(
                    {"image": base_image(), "postCreateCommand": "echo no luck; exit 7"}
                )
            },
        ),
    ],
)
async def test_w4_a_broken_devcontainer_falls_back_and_the_card_says_so(
    samovar: World, name: str, files: Mapping[str, str]
) -> None:
    await samovar.project(name, files)
    task = await samovar.ask(name, "Write it down", writing("done"))
    view = await samovar.ended(task)
    assert view.card.result is not None
    assert view.card.result.outcome == "pull_request"
    step = next(one for one in view.card.steps if one.name == "Workspace")
    assert (step.mark, bool(view.card.notes)) == ("warning", True)
    workspace = await samovar.workspace(task)
    assert workspace.recovered in view.card.notes
    log = await samovar.samovar.commands.build_log(samovar.samovar.local, workspace.id)
    assert name == "brokenjson" or "no luck" in log, "the log of the failure is kept"


async def test_w4_a_named_configuration_that_is_not_there_is_an_error(samovar: World) -> None:
    await samovar.project("named", {"a.txt": "a\n"}, devcontainer="gpu")
    result = await samovar.result(await samovar.ask("named", "Write it down"))
    assert result.outcome == "failed"
    assert "has no devcontainer configuration 'gpu'; it has:" in result.advice


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("privileged", {"privileged": True}),
        ("hostmount", {"mounts": ["type=bind,source=/etc,target=/host"]}),
        ("initialize", {"initializeCommand": "touch /tmp/samovar-e2e-owned"}),
    ],
)
async def test_w6_what_a_repository_may_not_do_to_a_machine_is_left_out(
    samovar: World, name: str, settings: Mapping[str, object]
) -> None:
    await samovar.project(name, {CONFIGURATION: json.dumps({"image": base_image(), **settings})})
    task = await samovar.ask(name, "Write it down", writing("done"))
    view = await samovar.ended(task)
    assert view.card.result is not None
    assert view.card.result.outcome == "pull_request"
    assert any(note.endswith("it was left out.") for note in view.card.notes)
    seen = await samovar.stage.engine.inspect((await samovar.workspace(task)).container)
    assert seen is not None
    assert seen["HostConfig"]["Privileged"] is False
    assert "/host" not in {mount["Destination"] for mount in seen["Mounts"]}
    assert not Path("/tmp/samovar-e2e-owned").exists()


async def test_w6_what_a_feature_adds_is_refused_with_what_to_do(samovar: World) -> None:
    feature = {"id": "evil", "version": "1.0.0", "name": "evil", "privileged": True}
    settings = {"image": base_image(), "features": {"./evil": {}}}
    files = {
        CONFIGURATION: json.dumps(settings),
        ".devcontainer/evil/devcontainer-feature.json": json.dumps(feature),
        ".devcontainer/evil/install.sh": "true\n",
    }
    await samovar.project("evil", files)
    result = await samovar.result(await samovar.ask("evil", "Write it down"))
    assert result.outcome == "failed"
    assert "The devcontainer is refused" in result.advice
    assert "Change it, or let an admin of the project permit" in result.advice
    assert "[privileged]" in result.advice
