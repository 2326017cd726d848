"""A machine that was joined by hand: its own state folder, its own Docker Engine, the same job."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent import overlay
from agent.docker import Engine
from tests.fakes.frail_engine import FrailEngine, frail_engine
from tests.fakes.served import REPOSITORY, Served, served
from tests.fakes.serving import until
from tests.fakes.world import mounted_below, writing

pytestmark = [pytest.mark.docker, pytest.mark.claude, pytest.mark.timeout(300)]


@asynccontextmanager
async def joined(samovar: Served, engine: FrailEngine, state: Path) -> AsyncGenerator[None]:
    """Run `samovar node join` as on another machine."""
    known = samovar.stage
    enrolment = await samovar.post("nodes", "enrolments")
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        "SAMOVAR_STATE": str(state),
        "SAMOVAR_CLAUDE": str(known.outfit.claude),
        "SAMOVAR_DEVCONTAINER_JS": str(known.outfit.devcontainer_js),
        "SAMOVAR_BASE_IMAGE": known.outfit.base_image,
        "DOCKER_HOST": engine.host,
        "SAMOVAR_JOIN_TOKEN": enrolment["token"],
    }
    program = Path(sys.executable).parent / "samovar"
    url = f"http://127.0.0.1:{known.config.server.port}"
    with (state.parent / "join.log").open("ab") as log:
        machine = await asyncio.create_subprocess_exec(
            *(str(program), "node", "join", url), env=environment, stdout=log, stderr=log
        )
    try:
        yield
    finally:
        machine.terminate()
        await machine.wait()
        for target in mounted_below(state):
            await overlay.unmount(target)


async def test_g6_a_task_is_done_on_a_machine_that_was_joined_by_hand(tmp_path: Path) -> None:
    state = tmp_path / "other" / "state"
    state.mkdir(parents=True)
    with frail_engine(tmp_path / "none") as engine:
        async with served(tmp_path / "here", is_node=False) as samovar:
            task = await samovar.ask("Write it down", writing("there"))
            async with joined(samovar, engine, state):
                await until(lambda: _is_up(samovar))
                card = await samovar.ended(task)
                assert card["result"]["outcome"] == "pull_request", card
                [node] = (await samovar.get("nodes"))["nodes"]
                assert (node["supplier"], node["link"]) == ("joined", "up")
                there = Engine(engine.host)
                assert len(await there.find({"samovar.workspace": node["workspaces"][0]})) == 1
                await there.close()
            [pull] = await samovar.stage.forge.pulls(REPOSITORY)
            commits = await samovar.stage.forge.commits(REPOSITORY, f"main..{pull.head}")
            assert [one.message.strip() for one in commits] == ["Add there"]
            assert await samovar.stage.containers() == [], "none on the control plane's machine"


async def _is_up(samovar: Served) -> bool:
    nodes = (await samovar.get("nodes"))["nodes"]
    return [node["link"] for node in nodes] == ["up"]
