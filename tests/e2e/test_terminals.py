"""Terminals with everything real: `samovar attach` in a PTY, the service, a node agent, Docker."""

import os
import signal
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from adapters.local import process
from bot.client import Client
from bot.demo.script import say, step, use
from tests.fakes.asciicast import read
from tests.fakes.screen import Screen, a_screen
from tests.fakes.served import Served, served
from tests.fakes.serving import until

pytestmark = [pytest.mark.docker, pytest.mark.claude, pytest.mark.timeout(300)]

PROGRAM = str(Path(sys.executable).parent / "samovar")
COMMIT = "echo made > made && git add made && git commit -qm 'Add made'"


@pytest.fixture
async def samovar(tmp_path: Path) -> AsyncGenerator[Served]:
    async with served(tmp_path) as running:
        yield running


@pytest.fixture
async def screen() -> AsyncGenerator[Screen]:
    async with a_screen() as opened:
        yield opened


async def attach(samovar: Served, screen: Screen, *words: str) -> None:
    config = ("--config", str(samovar.folder / "config.toml"))
    await screen.start(
        *(PROGRAM, *config, "attach", *words),
        env={"SAMOVAR_STATE": str(samovar.stage.config.state)},
    )
    await screen.shows("$")


async def a_task(samovar: Served) -> str:
    steps = [step(use("Bash", command=COMMIT)), step(say("It is there."))]
    task = await samovar.ask("Make it", steps)
    card = await samovar.ended(task)
    assert card["result"]["outcome"] == "pull_request"
    return task


async def test_w7_a_shell_outlives_the_node_agent_and_the_control_plane(
    samovar: Served, screen: Screen
) -> None:
    task = await a_task(samovar)
    await attach(samovar, screen, task)
    screen.type(b"id -un; pwd; git log --format=%s -1; kept=$((40 + 2))\r")
    await screen.shows("Add made")
    assert b"dev" in screen.shown
    for node in samovar.stage.nodes:
        pid = process.find(node)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    await _says(samovar, screen, "node")
    await samovar.kill()
    await samovar.start()
    await _says(samovar, screen, "control")
    screen.type(b"exit $((kept - 35))\r")
    assert await screen.ended() == 7


async def _says(samovar: Served, screen: Screen, word: str) -> None:
    """Type until the shell says what it kept; what is typed while nobody is there is not sent."""

    async def is_said() -> bool:
        screen.type(f"echo {word}=$kept\r".encode())
        try:
            await screen.shows(f"{word}=42", within_s=2)
        except AssertionError:
            return False
        return True

    await until(is_said, within_s=90)


async def test_a_deleted_workspace_ends_its_shells_with_a_sentence(
    samovar: Served, screen: Screen
) -> None:
    task = await a_task(samovar)
    await attach(samovar, screen, task)
    screen.type(b"echo $((40 + 2))\r")
    await screen.shows("42")
    card = (await samovar.get("tasks", task))["card"]
    async with Client(samovar.stage.config.state / "api.sock") as client:
        await client.delete("workspaces", card["workspace_id"])
    assert await screen.ended() != 0
    await screen.shows("workspace")


async def test_what_a_shell_and_the_agent_showed_is_watched_when_the_workspace_is_gone(
    samovar: Served, screen: Screen
) -> None:
    task = await a_task(samovar)
    await attach(samovar, screen, task)
    screen.type(b"echo $((40 + 2)); echo wst_$(printf 'b%.0s' $(seq 43)); echo shown\r")
    await screen.shows("\r\nshown")
    workspace = (await samovar.get("tasks", task))["card"]["workspace_id"]
    async with Client(samovar.stage.config.state / "api.sock") as client:

        async def is_gone() -> bool:
            found = await client.get("workspaces", workspace)
            return bool(found["workspace"]["state"] == "gone")

        async def film(recording: str) -> str:
            chunks = [chunk async for chunk in client.read("recordings", recording, "cast")]
            return read(b"".join(chunks).decode().splitlines(keepends=True)).text

        await client.delete("workspaces", workspace)
        await until(is_gone, within_s=120)
        found = (await client.get("tasks", task, "recordings"))["recordings"]
        assert [(one["kind"], one["state"]) for one in found] == [
            ("session", "kept"),
            ("terminal", "kept"),
        ]
        agent, shell = [await film(one["id"]) for one in found]
    assert f"$ {COMMIT}" in agent
    assert "It is there." in agent
    assert "42\r\n" in shell
    assert "shown" in shell
    assert "*" * 47 in shell
    assert "wst_b" not in shell
    stored = list((samovar.stage.config.state / "files").glob("*"))
    assert not any(b"asciicast" in path.read_bytes() for path in stored if path.is_file())
