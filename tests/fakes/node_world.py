"""A node with its workspaces on a real Docker Engine, and a code host for it to fetch from."""

import json
import os
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from secrets import choice
from typing import Any

import aiohttp
from aiodocker.exceptions import DockerError

from agent import files
from agent.docker import Engine, Executed
from agent.fetch import fetched
from agent.place import Place
from agent.settings import Settings
from agent.workspaces import Workspaces
from core.ids import RunId, WorkspaceId
from core.wire import (
    Collect,
    CreateWorkspace,
    Push,
    RunChecks,
    SaveWorkspace,
    WorkspaceReady,
    WorkspaceStep,
)
from tests.fakes.githost import GitHost, git_host
from tests.fakes.lacking import lacking

BRANCH = "samovar/T-1-try"
REPOSITORY = "acme/web"
ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"


def base_image() -> str:
    return os.environ.get("SAMOVAR_BASE_IMAGE", "samovar-base:bookworm")


def node_settings(state: Path) -> Settings:
    """Return settings with the outside parts; skip, or fail in CI, if one is missing."""
    cli = os.environ.get("SAMOVAR_DEVCONTAINER_JS", "")
    claude = os.environ.get("SAMOVAR_CLAUDE", "")
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    node = shutil.which("node") or ""
    missing = [
        *(["SAMOVAR_DEVCONTAINER_JS: path of devcontainer.js"] if not Path(cli).is_file() else []),
        *(["SAMOVAR_CLAUDE: path of the claude binary"] if not Path(claude).is_file() else []),
        *(["node: Node.js 18"] if not node else []),
        *(["Docker"] if not Path(host.removeprefix("unix://")).exists() else []),
    ]
    if missing:
        lacking("; ".join(missing))
    return Settings(
        state=state, docker_host=host, node_js=node, devcontainer_js=cli, claude=Path(claude)
    )


def a_workspace_id() -> WorkspaceId:
    return WorkspaceId("".join(choice(ALPHABET) for _ in range(8)))


@dataclass
class NodeWorld:
    """One node, one code host, one workspace to play with.

    Levers: rescue copies come from `files_url`, for whoever has `files_token`.
    """

    settings: Settings
    forge: GitHost
    workspaces: Workspaces
    engine: Engine
    client: aiohttp.ClientSession
    files_url: str = "http://127.0.0.1:9"
    files_token: str = ""
    push_url: str = "http://127.0.0.1:9"
    steps: list[WorkspaceStep] = field(default_factory=list)
    scopes: list[str] = field(default_factory=list)
    made: list[WorkspaceId] = field(default_factory=list)
    logins: dict[str, tuple[str, str]] = field(
        default_factory=lambda: {
            "read": ("reader", "read-secret"),
            "write": ("writer", "write-secret"),
        }
    )

    def order(self, workspace: WorkspaceId | None = None, **changes: Any) -> CreateWorkspace:
        name = workspace or a_workspace_id()
        if name not in self.made:
            self.made.append(name)
        values: dict[str, Any] = {
            "workspace": name,
            "attempt": 1,
            "repository": REPOSITORY,
            "url": self.forge.url(REPOSITORY),
            "base": "",
            "branch": BRANCH,
            "cpus": 1.0,
            "memory_mb": 512,
            "devcontainer": "",
            "image": base_image(),
        }
        return CreateWorkspace(**(values | changes))

    async def create(self, content: Mapping[str, str | bytes], **changes: Any) -> WorkspaceReady:
        """Make the repository and a workspace of it."""
        self.forge.add(REPOSITORY, content)
        return await self.workspaces.create(self.order(**changes))

    @property
    def layout(self) -> files.Layout:
        return files.Layout(state=self.settings.state)

    def copies(self) -> list[str]:
        """Return the SHA-256 of the rescue copies on the node."""
        return [path.stem for path in self.layout.rescue.glob("*.copy")]

    def saving(self, ready: WorkspaceReady) -> SaveWorkspace:
        return SaveWorkspace(workspace=ready.workspace, attempt=ready.attempt)

    def restoring(self, ready: WorkspaceReady, sha256: str) -> CreateWorkspace:
        return self.order(ready.workspace, attempt=ready.attempt + 1, restore=sha256)

    async def sh(self, ready: WorkspaceReady, script: str, **changes: Any) -> Executed:
        """Run a script as people would in a terminal of the workspace."""
        place = await self.workspaces.place(ready.workspace)
        return await self.sh_in(place, script, **changes)

    async def sh_in(self, place: Place, script: str, **changes: Any) -> Executed:
        values = {"user": place.user, "folder": place.folder, "environment": place.env} | changes
        return await self.engine.run(place.container, ["sh", "-c", script], **values)

    def collecting(self, ready: WorkspaceReady, run: str = "T-1.1") -> Collect:
        return Collect(
            workspace=ready.workspace,
            run=RunId(run),
            message="Finish the work",
            author="Ana",
            email="ana@example.com",
        )

    def checking(
        self, ready: WorkspaceReady, commit: str, *commands: str, time_limit_s: float = 60
    ) -> RunChecks:
        return RunChecks(
            workspace=ready.workspace,
            run=RunId("T-1.1"),
            commit=commit,
            commands=commands,
            time_limit_s=time_limit_s,
        )

    def pushing(self, ready: WorkspaceReady, commit: str, branch: str = BRANCH) -> Push:
        return Push(workspace=ready.workspace, run=RunId("T-1.1"), commit=commit, branch=branch)

    def another_life(self, *, docker_host: str = "") -> Workspaces:
        """Return the workspaces as a restarted agent sees them, with another engine if named."""
        self.workspaces = _workspaces(self, docker_host or self.settings.docker_host)
        return self.workspaces


def _workspaces(world: NodeWorld, docker_host: str) -> Workspaces:
    async def credentials(_: WorkspaceId, scope: str) -> tuple[str, str]:
        world.scopes.append(scope)
        return world.logins[scope]

    async def tell(step: WorkspaceStep) -> None:
        world.steps.append(step)

    def copies(sha256: str) -> AbstractAsyncContextManager[Path]:
        token, url = (lambda: world.files_token), world.files_url
        return fetched(world.client, url, token, world.layout, sha256, pause_s=0.01)

    return Workspaces(
        replace(world.settings, docker_host=docker_host),
        credentials=credentials,
        copies=copies,
        tell=tell,
        forward_url=lambda: world.push_url,
    )


async def _clean(world: NodeWorld) -> None:
    """Delete the workspaces, and the images that were built for them."""
    images = {str(note["image"]) for note in _notes(world.settings.state / "good")}
    for workspace in world.made:
        for container in await world.engine.belonging(workspace):
            seen = await world.engine.inspect(container) or {}
            images.add(str(seen.get("Config", {}).get("Image", "")))
        await world.workspaces.delete(workspace)
    for image in images - {base_image(), ""}:
        with suppress(DockerError):
            await world.engine.client.images.delete(image)
    await world.workspaces.close()


def _notes(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_bytes()) for path in folder.glob("*.json")]


@asynccontextmanager
async def node_world(folder: Path, *, docker_host: str = "") -> AsyncIterator[NodeWorld]:
    """Start a code host that containers reach, and a node; remove all it made at the end.

    `docker_host` is another engine than the one that the environment names.
    """
    settings = node_settings(folder / "state")
    settings = replace(settings, docker_host=docker_host or settings.docker_host)
    engine = Engine(settings.docker_host)
    (folder / "git").mkdir(parents=True)
    try:
        async with (
            git_host(folder / "git", host=await engine.bridge()) as forge,
            aiohttp.ClientSession() as client,
        ):
            world = NodeWorld(
                settings=settings,
                forge=forge,
                workspaces=None,
                engine=engine,  # type: ignore[arg-type]
                client=client,
            )
            world.another_life()
            try:
                yield world
            finally:
                await _clean(world)
    finally:
        await engine.close()
