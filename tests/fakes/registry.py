"""A registry on this machine, and features that are published to it by the devcontainer CLI."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from agent.settings import Settings
from tests.fakes.lacking import lacking
from tests.fakes.serving import free_port, until

CONFIG = """
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {folder}}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


def program() -> str:
    """Return the registry's program; skip, or fail in CI, if it is missing."""
    found = Path(os.environ.get("SAMOVAR_REGISTRY", "/")) / "usr/bin/docker-registry"
    if not found.is_file():
        lacking("SAMOVAR_REGISTRY: folder with usr/bin/docker-registry")
    return str(found)


@dataclass(frozen=True)
class Registry:
    """A registry that runs.

    Attributes:
        address: Host and port. The CLI speaks plain HTTP to `localhost` alone, by that name.
    """

    address: str
    folder: Path
    settings: Settings

    async def publish(self, name: str, install: str, **properties: object) -> str:
        """Publish a feature, version 1.2.3; return the name by which configurations use it."""
        source = self.folder / "source" / name
        source.mkdir(parents=True)
        about: Mapping[str, object] = {"id": name, "version": "1.2.3", "name": name, **properties}
        (source / "devcontainer-feature.json").write_text(json.dumps(about))
        (source / "install.sh").write_text(install)
        process = await asyncio.create_subprocess_exec(
            self.settings.node_js,
            self.settings.devcontainer_js,
            *("features", "publish", "--registry", self.address, "--namespace", "acme/features"),
            str(self.folder / "source"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await process.communicate()
        assert process.returncode == 0, out.decode()
        return f"{self.address}/acme/features/{name}:1"

    async def manifests(self) -> list[str]:
        """Return the repositories that it has."""
        url = f"http://{self.address}/v2/_catalog"
        async with aiohttp.ClientSession() as client, client.get(url) as answer:
            return list((await answer.json())["repositories"])


@asynccontextmanager
async def registry(folder: Path, settings: Settings) -> AsyncIterator[Registry]:
    """Serve a registry on 127.0.0.1."""
    serving = program()
    port = free_port()
    folder.mkdir(parents=True)
    (folder / "config.yml").write_text(CONFIG.format(folder=folder / "data", port=port))
    process = await asyncio.create_subprocess_exec(
        serving,
        *("serve", str(folder / "config.yml")),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    made = Registry(f"localhost:{port}", folder, settings)

    async def answers() -> bool:
        try:
            await made.manifests()
        except aiohttp.ClientError:
            return False
        return True

    try:
        await until(answers)
        yield made
    finally:
        process.kill()
        await process.wait()
