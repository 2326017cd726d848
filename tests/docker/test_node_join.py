"""`samovar node join` makes a machine a node with all that workspaces need on it."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.fakes.node_link import NODE, ControlPlane, control_plane
from tests.fakes.serving import until

pytestmark = [pytest.mark.docker, pytest.mark.claude]
PROGRAM = Path(sys.executable).parent / "samovar"


@pytest.fixture
async def plane() -> AsyncGenerator[ControlPlane]:
    async with control_plane() as served:
        yield served


@asynccontextmanager
async def joining(
    url: str, state: Path, text: str = ""
) -> AsyncGenerator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(str(PROGRAM), "node", "join", url),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "SAMOVAR_STATE": str(state)},
    )
    assert process.stdin is not None
    process.stdin.write(text.encode())
    process.stdin.close()
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            await process.communicate()


async def test_a_machine_joins_once_and_works_again_after_every_start(
    plane: ControlPlane, tmp_path: Path
) -> None:
    token = plane.store.add_enrolment(NODE)
    async with joining(plane.url, tmp_path, f"{token}\n"):
        await until(lambda: NODE in plane.link.connected())
    settings = json.loads((tmp_path / "joined" / "settings.json").read_text())
    for name in ("node_js", "devcontainer_js", "claude"):
        assert Path(settings[name]).exists(), name
    await until(lambda: NODE not in plane.link.connected())
    async with joining(plane.url, tmp_path):
        await until(lambda: NODE in plane.link.connected())


async def test_a_machine_works_for_one_samovar(plane: ControlPlane, tmp_path: Path) -> None:
    token = plane.store.add_enrolment(NODE)
    async with joining(plane.url, tmp_path, f"{token}\n"):
        await until(lambda: NODE in plane.link.connected())
    async with joining("http://127.0.0.1:9", tmp_path) as refused:
        _, said = await refused.communicate()
    assert refused.returncode == 2
    assert f"This machine is {NODE} of {plane.url} already." in said.decode()
