"""A real Claude Code in a real container: detached, adopted, resumed."""

import asyncio
import json
import os
import sys
import uuid
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import aiodocker
import pytest

from agent.claude.driver import ClaudeDriver
from agent.errors import NodeError
from agent.launcher import INSIDE, ContainerLauncher
from bot.demo.model import ScriptedModel
from bot.demo.script import say, step, use
from tests.fakes.agent_session import DONE, Bench, new_prompt, running, script
from tests.fakes.lacking import lacking
from tests.fakes.serving import until
from tests.fakes.session_fixtures import outside_part

pytestmark = [pytest.mark.docker, pytest.mark.claude]

DOCKER = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
IMAGE = os.environ.get("SAMOVAR_BASE_IMAGE", "samovar-base:bookworm")
USER, UID = "dev", 1000
SLOW = say("x" * 100, chunks=100, delay_s=0.01)


class ContainerBench(Bench):
    """A session whose process runs in a container."""

    launcher: ContainerLauncher

    @property
    def spec(self) -> Any:
        env = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": f"/home/{USER}",
            "ANTHROPIC_BASE_URL": self.model_url,
            "ANTHROPIC_AUTH_TOKEN": "wst-canary",
        }
        plain = super().spec
        return replace(plain, folder=f"/home/{USER}", env=env, uid=UID, gid=UID)

    def driver(self, **more: Any) -> ClaudeDriver:
        return ClaudeDriver(
            self.spec,
            launcher=self.launcher,
            journal=self.journal,
            publish=self.deltas.append,
            now=lambda: datetime.now(UTC),
            pace=0.02,
            **more,
        )


@pytest.fixture
async def docker() -> AsyncGenerator[aiodocker.Docker]:
    async with aiodocker.Docker(url=DOCKER) as docker:
        try:
            await docker.images.inspect(IMAGE)
        except (aiodocker.DockerError, OSError) as error:
            lacking(f"Docker with {IMAGE}: {error}")
        yield docker


@pytest.fixture
async def container(
    docker: aiodocker.Docker, tmp_path: Path
) -> AsyncGenerator[aiodocker.containers.DockerContainer]:
    claude = outside_part("SAMOVAR_CLAUDE", "the Claude Code binary")
    (tmp_path / "run").mkdir()
    config = {
        "Image": IMAGE,
        "Cmd": ["sleep", "infinity"],
        "HostConfig": {
            "Init": True,
            "Binds": [f"{Path(claude).parent}:/opt/samovar/bin:ro", f"{tmp_path / 'run'}:{INSIDE}"],
        },
    }
    name = f"samovar-test-session-{uuid.uuid4().hex[:8]}"
    container = await docker.containers.run(config, name=name)
    yield container
    await container.delete(force=True)


@pytest.fixture
async def model(
    container: aiodocker.containers.DockerContainer,
) -> AsyncGenerator[ScriptedModel]:
    gateway = (await container.show())["NetworkSettings"]["Gateway"]
    async with ScriptedModel(host=gateway) as model:
        yield model


@pytest.fixture
async def bench(
    docker: aiodocker.Docker,
    container: aiodocker.containers.DockerContainer,
    model: ScriptedModel,
    tmp_path: Path,
) -> AsyncGenerator[ContainerBench]:
    bench = ContainerBench(tmp_path / "run", model.url, "/opt/samovar/bin/claude")
    bench.launcher = ContainerLauncher(docker, container.id, user=USER, wake=container.start)
    yield bench
    bench.journal.close()


async def inside(container: aiodocker.containers.DockerContainer, script: str) -> str:
    run = await container.exec(["/bin/sh", "-c", script], user="0")
    out = b""
    async with run.start(detach=False) as stream:
        while (message := await stream.read_out()) is not None:
            out += message.data
    return out.decode()


async def test_g6_no_process_of_a_session_is_left_whoever_it_became(
    bench: ContainerBench, docker: aiodocker.Docker, container: aiodocker.containers.DockerContainer
) -> None:
    """The user's own, one that became root, and one of another session, which stays."""
    root = ContainerLauncher(docker, container.id, user="0", wake=container.start)
    mine, other = {"SAMOVAR_SESSION": bench.session}, {"SAMOVAR_SESSION": "another"}
    await bench.launcher.start("exec sleep 1001", mine)
    await root.start("exec sleep 1002", mine)
    await bench.launcher.start("exec sleep 1003", other)

    async def sleepers() -> set[str]:
        return set((await inside(container, "pgrep -ax sleep | cut -d' ' -f3")).split())

    async def all_sleep() -> bool:
        return {"1001", "1002", "1003"} <= await sleepers()

    await until(all_sleep)
    pid, began = (
        await inside(
            container, "p=$(pgrep -fx 'sleep 1003'); echo $p; cut -d' ' -f22 /proc/$p/stat"
        )
    ).split()
    alive = partial(bench.launcher.is_alive, int(pid))
    assert (await alive(), await alive(began=began), await alive(began="1")) == (True, True, False)
    assert await bench.launcher.sweep(bench.session) == 2
    assert await sleepers() == {"infinity", "1003"}


async def test_a_turn_in_a_container_runs_as_its_user_and_leaves_nothing(
    bench: ContainerBench, container: aiodocker.containers.DockerContainer
) -> None:
    async with running(bench.driver()) as driver:
        who = use("Bash", command="id -un; pwd; echo $IS_SANDBOX", description="Who")
        await driver.prompt(new_prompt(), script("go", step(who), step(DONE)))
        assert (await bench.turns(1))["ok"]
        await driver.stop()
    assert bench.of("tool.end")[0]["output"] == f"{USER}\n/home/{USER}\n1"
    assert (bench.root / "s" / bench.session).stat().st_mode & 0o777 == 0o700
    assert "claude" not in await inside(container, "cat /proc/[0-9]*/comm")


async def test_w7_a_killed_driver_process_is_followed_by_another(
    bench: ContainerBench,
    container: aiodocker.containers.DockerContainer,
    tmp_path: Path,
) -> None:
    plan = tmp_path / "plan.json"
    slow = say("word " * 300, chunks=300, delay_s=0.01)
    given = {
        "root": str(bench.root),
        "bench": {"model_url": bench.model_url, "claude": bench.claude, "session": bench.session},
        "prompts": [[new_prompt(), script("go", step(slow, DONE))]],
        "turns": 1,
        "container": container.id,
        "docker": DOCKER,
        "user": USER,
        "spec": {"folder": f"/home/{USER}", "uid": UID, "gid": UID},
    }
    plan.write_text(json.dumps(given))
    program = (sys.executable, "-m", "tests.fakes.driver_process", str(plan))
    first = await asyncio.create_subprocess_exec(*program)
    await bench.until(lambda: bench.of("message.user"))
    first.kill()
    await first.wait()
    pid = (bench.box / "pid").read_text()
    async with running(bench.driver()) as driver:
        assert (await bench.turns(1))["ok"]
        assert (bench.box / "pid").read_text() == pid
        await driver.stop()
    assert bench.journal.repeated == 0
    assert len(bench.of("complete")) == 1


async def test_w7_a_session_starts_its_container_again_and_goes_on(
    bench: ContainerBench, container: aiodocker.containers.DockerContainer
) -> None:
    prompt = new_prompt()
    async with running(bench.driver()) as driver:
        await driver.prompt(prompt, script("go", step(SLOW, DONE)))
        await bench.until(lambda: len(bench.deltas) > 2)
        await container.stop(timeout=0)
        end = await bench.turns(1)
        await driver.stop()
    assert (end["ok"], end["prompts"]) == (True, [prompt])


async def test_a_removed_container_ends_its_session(
    bench: ContainerBench, docker: aiodocker.Docker
) -> None:
    config = {"Image": IMAGE, "Cmd": ["true"]}
    gone = await docker.containers.create(config)
    await gone.delete(force=True)
    bench.launcher = ContainerLauncher(docker, gone.id, user=USER, wake=gone.start)
    async with running(bench.driver()) as driver:
        with pytest.raises(NodeError, match="The workspace is gone"):
            await driver.started()


async def test_w11_stopping_one_of_two_sessions_in_a_container_leaves_the_other(
    bench: ContainerBench, container: aiodocker.containers.DockerContainer
) -> None:
    other = ContainerBench(bench.root, bench.model_url, bench.claude)
    other.launcher = bench.launcher
    bash = use("Bash", command="for i in 1 2 3 4 5 6 7 8 9; do sleep 7; done")
    async with running(bench.driver()) as driver, running(other.driver()) as neighbour:
        for each, session in ((driver, bench), (neighbour, other)):
            await each.prompt(new_prompt(), script("go", step(bash), step(DONE)))
            await session.until(partial(session.of, "tool.start"))
        await driver.stop()
        count = "grep -l -- '--session-id=" + other.session + "' /proc/[0-9]*/cmdline | wc -l"
        assert int(await inside(container, count)) >= 2
        await neighbour.interrupt()
        await other.turns(1)
        await neighbour.stop()
    other.journal.close()


async def test_a_full_journal_is_archived_while_claude_stands_still(bench: ContainerBench) -> None:
    async with running(bench.driver(journal_bytes_max=20_000)) as driver:
        for number in (1, 2):
            await driver.prompt(new_prompt(), script("go", step(SLOW, DONE)))
            await bench.turns(number)
        await bench.until((bench.box / "out.1.jsonl").exists)
        await driver.stop()
    assert len(bench.of("complete")) == 2
    assert bench.journal.repeated == 0
