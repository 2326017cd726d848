"""How long a workspace takes to start, phase by phase, beside what others start.

Ours is the whole order on a warm node: fetch, working tree, policy, container, lifecycle commands,
environment of the user. The peers, in turn with it: `docker run -d` of the same image, which is the
floor, and `devcontainer up` on a fresh clone of the same repository, which is what people do by
hand.
"""

import asyncio
import json
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import aiodocker

from core.wire import WorkspaceStep
from tests.bench.outside import base_image, docker_host, program
from tests.bench.row import ROUNDS, Row, told
from tests.fakes.node_world import REPOSITORY, NodeWorld, node_world

FILES: Mapping[str, str] = {f"src/f{number}.py": "x = 1\n" for number in range(60)}
LABEL = "samovar.bench"


async def _took_ms(*words: str) -> float:
    """Run a command to its end and return how long it took."""
    began = time.perf_counter()
    child = await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    _, said = await child.communicate()
    if child.returncode:
        raise RuntimeError(f"{' '.join(words)}: {said.decode()[-500:]}")
    return (time.perf_counter() - began) * 1000


class _Bench:
    def __init__(self, world: NodeWorld, image: str, folder: Path) -> None:
        self._world = world
        self._image = image
        self._folder = folder

    async def ours(self) -> tuple[float, Mapping[str, float]]:
        """Return milliseconds of a start, and of its phases."""
        self._world.steps.clear()
        began = time.perf_counter()
        ready = await self._world.workspaces.create(self._world.order())
        took = (time.perf_counter() - began) * 1000
        await self._world.workspaces.delete(ready.workspace)
        return took, _phases(self._world.steps)

    async def floor(self) -> float:
        words = ("docker", "run", "-d", "--init", "--label", f"{LABEL}={self._folder.name}")
        return await _took_ms(*words, self._image, "sleep", "infinity")

    async def by_hand(self) -> tuple[float, float]:
        """Return milliseconds of the clone, and of `devcontainer up`."""
        target = self._folder / "clone"
        reader = self._world.forge.url(REPOSITORY).replace("://", "://reader:read-secret@")
        cloned = await _took_ms("git", "clone", "--quiet", reader, str(target))
        settings = self._world.settings
        up = await _took_ms(
            *(settings.node_js, settings.devcontainer_js, "up", "--gpu-availability=none"),
            *(f"--workspace-folder={target}", f"--id-label={LABEL}={self._folder.name}"),
            "--remove-existing-container",
        )
        await asyncio.to_thread(shutil.rmtree, target)
        return cloned, up


def _phases(steps: Sequence[WorkspaceStep]) -> Mapping[str, float]:
    """Return milliseconds by step, from its start to its end."""
    since: dict[str, datetime] = {}
    took: dict[str, float] = {}
    for step in steps:
        at = datetime.fromisoformat(step.at)
        if step.state == "started":
            since.setdefault(step.step, at)
        else:
            took[step.step] = (at - since[step.step]).total_seconds() * 1000
    return took


async def _run(folder: Path) -> Sequence[Row]:
    program("SAMOVAR_CLAUDE", "the Claude Code binary")
    program("SAMOVAR_DEVCONTAINER_JS", "devcontainer.js of the devcontainer CLI")
    async with aiodocker.Docker(url=docker_host()) as docker:
        image = await base_image(docker)
        try:
            async with node_world(folder / "node") as world:
                config = json.dumps({"image": image, "remoteUser": "dev"})
                world.forge.add(REPOSITORY, {**FILES, ".devcontainer.json": config})
                return await _rounds(_Bench(world, image, folder))
        finally:
            mine = json.dumps({"label": [f"{LABEL}={folder.name}"]})
            for container in await docker.containers.list(all=True, filters=mine):
                await container.delete(force=True)


async def _rounds(bench: _Bench) -> Sequence[Row]:
    ours: list[float] = []
    phases: defaultdict[str, list[float]] = defaultdict(list)
    floor: list[float] = []
    clones: list[float] = []
    ups: list[float] = []
    await bench.ours()  # Fills the mirror and the ready tree, as on a warm node.
    for _ in range(ROUNDS):
        took, steps = await bench.ours()
        ours.append(took)
        for name, each in steps.items():
            phases[name].append(each)
        floor.append(await bench.floor())
        cloned, up = await bench.by_hand()
        clones.append(cloned)
        ups.append(up)
    by_hand = [sum(both) for both in zip(clones, ups, strict=True)]
    return [
        Row(name="workspace on a warm node / docker run -d", ours=ours, peer=floor),
        Row(name="workspace on a warm node / devcontainer up", ours=ours, peer=ups),
        Row(name="workspace on a warm node / clone + devcontainer up", ours=ours, peer=by_hand),
        *(told(f"  of it: {name}", each) for name, each in phases.items()),
    ]


def main() -> Sequence[Row]:
    """Start each in turn."""
    with tempfile.TemporaryDirectory(prefix="samovar-bench-") as folder:
        return asyncio.run(_run(Path(folder)))
