"""`samovar serve` as a process of its own, spoken to over its socket, so that it can be killed."""

import asyncio
import json
import os
import secrets
import signal
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.errors import NodeError
from bot.client import Client, ServerError
from bot.demo.script import Step, prompt
from core.errors import UserError
from tests.fakes.serving import until
from tests.fakes.world import Stage, stage

START_S_MAX = 60.0
TASK_S_MAX = 120.0
PROJECT, REPOSITORY = "sample", "acme/sample"
IN_ORDER_S_MAX = 30.0


@dataclass(kw_only=True)
class Served:
    """A Samovar that others run; its log is everything that it printed."""

    stage: Stage
    folder: Path
    lives: list[asyncio.subprocess.Process] = field(default_factory=list)

    @property
    def log(self) -> Path:
        """What all lives printed on stdout and stderr."""
        return self.folder / "serve.log"

    async def start(self) -> None:
        """Start it and wait until it answers."""
        known = self.stage
        environment = {
            **os.environ,
            "SAMOVAR_STATE": str(known.config.state),
            "SAMOVAR_CLAUDE": str(known.outfit.claude),
            "SAMOVAR_DEVCONTAINER_JS": str(known.outfit.devcontainer_js),
            "SAMOVAR_BASE_IMAGE": known.outfit.base_image,
            "DOCKER_HOST": known.outfit.docker_host,
            known.config.model.key_variable: known.model_key,
        }
        program = Path(sys.executable).parent / "samovar"
        with self.log.open("ab") as log:
            life = await asyncio.create_subprocess_exec(
                *(str(program), "--config", str(self.folder / "config.toml"), "serve"),
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.lives.append(life)
        await until(self._answers, within_s=START_S_MAX)

    async def _answers(self) -> bool:
        assert self.lives[-1].returncode is None, self.log.read_text()[-2000:]
        with suppress(ServerError, UserError):
            await self.get("health")
            return True
        return False

    async def kill(self) -> None:
        """End it without a goodbye."""
        self.lives[-1].kill()
        await self.lives[-1].wait()

    async def stop(self) -> None:
        """End it in order."""
        if self.lives and self.lives[-1].returncode is None:
            self.lives[-1].send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self.lives[-1].wait(), IN_ORDER_S_MAX)
            except TimeoutError:
                await self.kill()

    async def get(self, *path: str) -> dict[str, Any]:
        """Read from the API."""
        async with Client(self.stage.config.state / "api.sock") as client:
            return await client.get(*path)

    async def post(self, *path: str, **body: object) -> dict[str, Any]:
        """Ask for something."""
        async with Client(self.stage.config.state / "api.sock") as client:
            return await client.post(*path, body=body or None)

    async def ask(self, text: str, steps: Sequence[Step]) -> str:
        """Ask for something and return the task that it became."""
        body = {"text": prompt(text, steps), "project": PROJECT, "key": secrets.token_hex(4)}
        heard = await self.post("tasks", **body)
        while heard["task_id"] is None:  # A busy machine: the same words are heard once.
            heard = await self.post("tasks", **body)
        return str(heard["task_id"])

    async def ended(self, task: str) -> dict[str, Any]:
        """Wait for the end of a task and return its card."""
        card: dict[str, Any] = {}

        async def is_over() -> bool:
            card.update((await self.get("tasks", task))["card"])
            return card["result"] is not None

        try:
            await until(is_over, within_s=TASK_S_MAX)
        except AssertionError:
            raise AssertionError(f"{task} does not end: {card}") from None
        return card

    async def inside(self, script: str) -> str:
        """Run a script in the only container, as root; empty while there is none."""
        engine = self.stage.engine
        with suppress(NodeError):  # It is made, and does not run yet.
            for container in await self.stage.containers():
                return (await engine.run(container, ["sh", "-c", script], user="0")).text
        return ""

    async def reached(self) -> None:
        """Wait until the coding agent stands at `HOLD`."""

        async def is_held() -> bool:
            return "held" in await self.inside("ls /tmp")

        await until(is_held, within_s=TASK_S_MAX)

    async def go_on(self) -> None:
        """Let a coding agent that stands at `HOLD` go on."""
        await self.inside("rm /tmp/held")


@asynccontextmanager
async def served(
    folder: Path, *, docker_host: str = "", is_node: bool = True
) -> AsyncGenerator[Served]:
    """Run `samovar serve` with one project; at the end nothing of it is left.

    Args:
        folder: For all files.
        docker_host: See `stage`.
        is_node: Whether this computer is a node of its own accord.
    """
    async with stage(folder, docker_host=docker_host) as around:
        await around.forge.create_repository(REPOSITORY, files={"README.md": "sample\n"})
        (folder / "config.toml").write_text(_toml(around, is_node=is_node))
        running = Served(stage=around, folder=folder)
        try:
            await running.start()
            yield running
        finally:
            await running.stop()


def _toml(known: Stage, *, is_node: bool) -> str:
    config = known.config
    tables: dict[str, dict[str, object]] = {
        "server": {"port": config.server.port},
        "local": {"enabled": is_node},
        "workspace": {"image": known.outfit.base_image},
        "github": {
            "api_url": config.github.api_url,
            "git_url": config.github.git_url,
            "app_id": config.github.app_id,
            "private_key_file": config.github.private_key_file,
        },
        "model": {"api_url": config.model.api_url, "key_variable": config.model.key_variable},
        "[projects]": {"id": PROJECT, "repository": REPOSITORY},
    }
    lines = [f"state = {json.dumps(str(config.state))}"]
    for name, values in tables.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n"
