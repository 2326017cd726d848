"""A driver in a process of its own, to be killed: `python -m tests.fakes.driver_process PLAN`.

PLAN is a JSON file with the fields of `Bench`, what its spec has otherwise, the prompts to give
and the number of turns after which it ends. It may be started again and again: prompts are
idempotent by their id.
"""

import asyncio
import json
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiodocker

from agent.claude.driver import ClaudeDriver
from agent.driver import Launcher
from agent.launcher import ContainerLauncher
from tests.fakes.agent_session import Bench, running


def make_driver(bench: Bench, launcher: Launcher | None, given: dict[str, Any]) -> ClaudeDriver:
    if launcher is None:
        return bench.driver()
    return ClaudeDriver(
        replace(bench.spec, **given),
        launcher=launcher,
        journal=bench.journal,
        publish=bench.deltas.append,
        now=lambda: datetime.now(UTC),
        pace=0.02,
    )


async def drive(plan: dict[str, Any], launcher: Launcher | None) -> None:
    bench = Bench(root=Path(plan["root"]), **plan["bench"])
    async with running(make_driver(bench, launcher, plan.get("spec", {}))) as driver:
        await driver.started()
        for prompt, text in plan["prompts"]:
            await driver.prompt(prompt, text)
        await bench.turns(plan["turns"], within_s=90)


async def main(path: str) -> None:
    plan = json.loads(Path(path).read_text())
    if not plan.get("container"):
        await drive(plan, None)
        return
    async with aiodocker.Docker(url=plan["docker"]) as docker:
        known = docker.containers.container(plan["container"])
        launcher = ContainerLauncher(docker, known.id, user=plan["user"], wake=known.start)
        await drive(plan, launcher)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
