"""B6: a prompt in a workspace whose coding agent runs already, against a cold `claude -p` there.

Both are the real Claude Code in one container, asking the same scripted model on the bridge, in the
same environment. Measured from the prompt to the first piece of the answer: ours at the node
agent's door to the control plane, after its mailbox and journal; the peer's on its output, as
`docker exec` brings it. The start that is paid when a workspace is claimed is told beside them.
"""

import asyncio
import json
import os
import tempfile
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiodocker

from agent.claude.driver import ClaudeDriver
from agent.claude.home import arguments, environment, seed
from agent.driver import SessionSpec
from agent.launcher import INSIDE, ContainerLauncher
from agent.spool import Spool
from bot.demo.model import ScriptedModel
from bot.demo.script import prompt, say, step
from core.ids import RunId, SessionId
from core.wire import SessionDelta
from tests.bench.outside import base_image, docker_host, program
from tests.bench.row import Row, told
from tests.fakes.agent_session import DONE, running

ROUNDS, GOAL, LIMIT_S = 7, 0.25, 60
USER, UID = "dev", 1000
ANSWER = prompt("Say it.", [step(say("It is said.")), step(DONE), step(say("Done."))])


class _Bench:
    """One container, one model; a driver for ours, a process a round for the peer."""

    def __init__(self, docker: aiodocker.Docker, container: Any, model: str, folder: Path) -> None:
        self._docker = docker
        self._container = container
        self._model = model
        self._folder = folder
        self._heard = asyncio.Event()

    def _spec(self) -> SessionSpec:
        return SessionSpec(
            session=SessionId(str(uuid.uuid4())),
            run=RunId("T-1.1"),
            model="claude-sonnet-5",
            frame="You work on a task.",
            mode="bypassPermissions",
            folder=f"/home/{USER}",
            run_dir=self._folder / "run",
            env={
                "PATH": "/usr/local/bin:/usr/bin:/bin",
                "HOME": f"/home/{USER}",
                "ANTHROPIC_BASE_URL": self._model,
                "ANTHROPIC_AUTH_TOKEN": "token",
            },
            claude="/opt/samovar/bin/claude",
            uid=UID,
            gid=UID,
        )

    def _publish(self, _: SessionDelta) -> None:
        self._heard.set()

    @asynccontextmanager
    async def driver(self) -> AsyncGenerator[ClaudeDriver]:
        spec = self._spec()
        spool = Spool(self._folder / f"{spec.session}.db")
        await spool.open()
        driver = ClaudeDriver(
            spec,
            launcher=ContainerLauncher(
                self._docker, self._container.id, user=USER, wake=self._container.start
            ),
            journal=spool,
            publish=self._publish,
            now=lambda: datetime.now(UTC),
        )
        async with running(driver):
            yield driver
            await driver.stop()
        await spool.close()

    async def start(self) -> float:
        """Start a coding agent as a claimed workspace does, and end it."""
        began = time.perf_counter()
        async with self.driver() as driver:
            await driver.started()
            return (time.perf_counter() - began) * 1000

    async def ours(self, driver: ClaudeDriver) -> float:
        self._heard.clear()
        began = time.perf_counter()
        await driver.prompt(str(uuid.uuid4()), ANSWER)
        await self._heard.wait()
        took = (time.perf_counter() - began) * 1000
        while driver.state.phase != "idle":
            await asyncio.sleep(0.02)
        return took

    async def peer(self) -> float:
        spec = self._spec()
        seed(spec)
        given = dict(environment(spec, INSIDE, resume=False))
        words = [word for word in arguments(spec, resume=False) if not word.startswith("{")]
        del words[words.index("--input-format") : words.index("--input-format") + 2]
        words = [word for word in words if word not in {"--replay-user-messages"}]
        at = words.index("--permission-prompt-tool")
        del words[at : at + 2]
        began = time.perf_counter()
        run = await self._container.exec([*words, ANSWER], user=USER, environment=given)
        took = 0.0
        out = b""
        async with run.start(detach=False) as stream:
            while (message := await stream.read_out()) is not None:
                out += message.data
                *lines, out = out.split(b"\n")
                if not took and any(_is_answer(line) for line in lines):
                    took = (time.perf_counter() - began) * 1000
        if not took:
            raise RuntimeError(f"claude -p answered nothing: {out[-500:]!r}")
        return took


def _is_answer(line: bytes) -> bool:
    try:
        event = json.loads(line)
    except ValueError:
        return False
    delta = event.get("event", {}).get("delta", {})
    return event.get("type") == "stream_event" and "text" in delta


@asynccontextmanager
async def _bench(folder: Path) -> AsyncGenerator[_Bench]:
    claude = program("SAMOVAR_CLAUDE", "the Claude Code binary")
    async with aiodocker.Docker(url=docker_host()) as docker:
        (folder / "run").mkdir()
        folder.chmod(0o755)
        config: dict[str, Any] = {
            "Image": await base_image(docker),
            "Cmd": ["sleep", "infinity"],
            "HostConfig": {
                "Init": True,
                "Binds": [f"{claude.parent}:/opt/samovar/bin:ro", f"{folder / 'run'}:{INSIDE}"],
            },
        }
        name = f"samovar-bench-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        container = await docker.containers.run(config, name=name)
        try:
            gateway = (await container.show())["NetworkSettings"]["Gateway"]
            async with ScriptedModel(host=gateway) as model:
                yield _Bench(docker, container, model.url, folder)
        finally:
            await container.delete(force=True)


async def _run(folder: Path) -> Sequence[Row]:
    starts: list[float] = []
    ours: list[float] = []
    peer: list[float] = []
    async with asyncio.timeout(LIMIT_S * ROUNDS), _bench(folder) as bench:
        starts += [await bench.start() for _ in range(ROUNDS)]
        async with bench.driver() as driver:
            await driver.started()
            await bench.ours(driver)
            await bench.peer()
            for _ in range(ROUNDS):
                ours.append(await bench.ours(driver))
                peer.append(await bench.peer())
    return [
        Row(name="B6 prompt to first words / cold claude -p", ours=ours, peer=peer, goal=GOAL),
        told("start of the coding agent in a claimed workspace", starts),
    ]


def main() -> Sequence[Row]:
    """Run both sides in turn."""
    with tempfile.TemporaryDirectory(prefix="samovar-bench-") as folder:
        return asyncio.run(_run(Path(folder)))
