"""Kills in the middle of a turn: the work goes on and is published once."""

import os
import signal
from pathlib import Path

import pytest

from adapters.local import process
from bot.demo.script import step, use
from tests.fakes.served import REPOSITORY, Served, served
from tests.fakes.serving import until
from tests.fakes.world import HOLD, claude_processes, writing

pytestmark = [pytest.mark.docker, pytest.mark.claude, pytest.mark.timeout(300)]


@pytest.mark.parametrize(
    "victim",
    [
        "control plane",
        pytest.param("node agent", marks=pytest.mark.long),
        pytest.param("both", marks=pytest.mark.long),
    ],
)
async def test_w7_p6_g6_a_kill_in_mid_turn_costs_nothing(tmp_path: Path, victim: str) -> None:
    async with served(tmp_path) as samovar:
        steps = [*writing("before")[:1], step(use("Bash", command=HOLD)), *writing("after")]
        task = await samovar.ask("Write it down", steps)
        await samovar.reached()
        before = claude_processes(tmp_path)
        if victim != "control plane":
            await _kill_agent(samovar)
        if victim != "node agent":
            await samovar.kill()
        await samovar.go_on()
        if victim != "node agent":
            await samovar.start()
        card = await samovar.ended(task)
        assert card["result"]["outcome"] == "pull_request", card
        assert len(before) == 1, "G6"
        view = await samovar.get("tasks", task)
        assert len(view["runs"]) == 1, "adopted, not restarted"
        [pull] = await samovar.stage.forge.pulls(REPOSITORY)
        commits = await samovar.stage.forge.commits(REPOSITORY, f"main..{pull.head}")
        assert [one.message.strip() for one in commits] == ["Add after", "Add before"]
        asked = [one for one in samovar.stage.model.requests if one.step is not None]
        steps_asked = [one.step for one in asked if one.path.startswith("/v1/messages?")]
        assert steps_asked == sorted(set(steps_asked), key=lambda n: n or 0), "P6: nothing twice"


async def _kill_agent(samovar: Served) -> None:
    [node] = samovar.stage.nodes
    pid = process.find(node)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await until(lambda: process.find(node) != pid)
