"""Kills of anything at any moment, with real Docker and real Claude Code; seeded."""

import asyncio
import os
import random
import signal
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path

import pytest
from aiodocker.exceptions import DockerError

from adapters.local import process
from bot.demo.script import Step, say, step, use
from tests.fakes.frail_engine import FrailEngine, frail_engine
from tests.fakes.served import REPOSITORY, Served, served
from tests.fakes.world import claude_processes

pytestmark = [pytest.mark.docker, pytest.mark.claude, pytest.mark.timeout(300)]

SEEDS = 20
ALWAYS = {3}
FILES = ("a", "b", "c", "d")
VICTIMS = ["control plane", "node agent", "coding agent", "container", "dockerd"]


def slowly(file: str) -> Step:
    """Commit a file, slowly enough to be killed while it happens; again is as good as once."""
    command = (
        f"sleep 0.4; echo {file} > {file}; git add {file}; "
        f"git log --format=%s | grep -qx 'Add {file}' || git commit -qm 'Add {file}'"
    )
    return step(say("word " * 40, chunks=20, delay_s=0.01), use("Bash", command=command))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Generator[FrailEngine]:
    with frail_engine(tmp_path_factory.mktemp("none")) as frail:
        yield frail


async def strike(samovar: Served, victim: str, folder: Path, engine: FrailEngine) -> None:
    if victim == "control plane":
        await samovar.kill()
        await samovar.start()
    elif victim == "node agent":
        for node in samovar.stage.nodes:
            pid = process.find(node)
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
    elif victim == "dockerd":
        await engine.kill()
    elif victim == "container":
        await _kill_containers(samovar)
    else:
        for pid in claude_processes(folder):
            with suppress(ProcessLookupError):  # It ended by itself meanwhile.
                os.kill(pid, signal.SIGKILL)


async def _kill_containers(samovar: Served) -> None:
    engine = samovar.stage.engine
    for container in await samovar.stage.containers():
        with suppress(DockerError):  # It does not run.
            await engine.client.containers.container(container).kill()


@pytest.mark.parametrize(
    "seed",
    [pytest.param(n, marks=[] if n in ALWAYS else [pytest.mark.long]) for n in range(SEEDS)],
)
async def test_kills_at_random_moments_cost_nothing(
    tmp_path: Path, seed: int, engine: FrailEngine
) -> None:
    chance = random.Random(seed)
    async with served(tmp_path, docker_host=engine.host) as samovar:
        steps = [*map(slowly, FILES), step(say("All four are there."))]
        task = await samovar.ask("Write four files", steps)
        struck = []
        for victim in chance.sample(VICTIMS * 2, k=3):
            await asyncio.sleep(chance.uniform(0.3, 2.5))  # The moment is what the seed says.
            struck.append(victim)
            await strike(samovar, victim, tmp_path, engine)
        card = await samovar.ended(task)
        said = f"seed {seed}: {struck}: {card['result']}"
        assert card["result"]["outcome"] == "pull_request", said
        [pull] = await samovar.stage.forge.pulls(REPOSITORY)
        commits = await samovar.stage.forge.commits(REPOSITORY, f"main..{pull.head}")
        made = sorted(one.message.strip() for one in commits)
        assert made == [f"Add {file}" for file in FILES], said
        view = await samovar.get("tasks", task)
        [run] = view["runs"]
        events = (await samovar.get("sessions", run["session_id"], "events"))["events"]
        offsets = [event["offset"] for event in events]
        assert offsets == sorted(set(offsets)), "none doubled, in order"
        assert claude_processes(tmp_path) == [], "G6: it was stopped with its run"
