"""Devcontainers whose image has musl instead of glibc, as Alpine's have."""

import asyncio
import io
import json
import os
import tarfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.override import CLAUDE, CLAUDE_MUSL
from tests.fakes.lacking import lacking
from tests.fakes.node_world import NodeWorld, a_workspace_id, base_image, node_world

pytestmark = pytest.mark.docker

IMAGE = f"samovar-musl:{a_workspace_id()}"
"""Another one in each process: two at once take nothing from each other."""
CONFIG = {".devcontainer.json": json.dumps({"image": IMAGE, "remoteUser": "ada"})}
FILES = {
    "etc/passwd": "root:x:0:0::/root:/bin/sh\nada:x:1234:1234::/home/ada:/bin/sh\n",
    "etc/group": "root:x:0:\nada:x:1234:\n",
}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[NodeWorld]:
    async with node_world(tmp_path) as opened:
        await build(opened)
        yield opened
        await opened.engine.untag(IMAGE)


async def build(world: NodeWorld) -> None:
    """Make an image of BusyBox, musl and one ordinary user."""
    parts = Path(os.environ.get("SAMOVAR_MUSL", "/nowhere"))
    loaders = [*parts.glob("lib/*/libc.so"), *parts.glob("usr/lib/*/libc.so")]
    if not loaders:
        lacking("SAMOVAR_MUSL: folder with the packages busybox-static and musl")
    busybox = parts / "bin/busybox"
    asking = await asyncio.create_subprocess_exec(busybox, "--list", stdout=asyncio.subprocess.PIPE)
    applets = (await asking.communicate())[0].decode().split()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(busybox, "bin/busybox")
        tar.add(loaders[0], f"lib/ld-musl-{os.uname().machine}.so.1")
        for applet in applets:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            if applet != "busybox":
                tar.addfile(link)
        for name, text in FILES.items():
            about = tarfile.TarInfo(name)
            about.size = len(text)
            tar.addfile(about, io.BytesIO(text.encode()))
        for name, mode, owner in (
            ("tmp", 0o1777, 0),
            ("home/ada", 0o755, 1234),
            ("root", 0o700, 0),
        ):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode, folder.uid, folder.gid = tarfile.DIRTYPE, mode, owner, owner
            tar.addfile(folder)
    importing = await asyncio.create_subprocess_exec(
        *("docker", "-H", world.settings.docker_host, "import"),
        *("--change", "ENV PATH=/bin", "-", IMAGE),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )
    await importing.communicate(archive.getvalue())
    assert importing.returncode == 0


async def test_w4_an_image_with_musl_is_refused_with_what_to_do_without_a_binary_for_it(
    world: NodeWorld,
) -> None:
    ready = await world.create(CONFIG)
    assert "its image has musl (Alpine)" in ready.recovered
    assert "SAMOVAR_CLAUDE_MUSL" in ready.recovered
    assert ready.recovered.endswith("the default image is used instead.")
    place = await world.workspaces.place(ready.workspace)
    assert (await world.sh(ready, f"{place.claude} --version")).code == 0


async def test_w5_an_image_with_musl_runs_its_own_claude_code_as_its_ordinary_user(
    world: NodeWorld,
) -> None:
    binary = Path(os.environ.get("SAMOVAR_CLAUDE_MUSL", "/nowhere"))
    if not binary.is_file():
        lacking("SAMOVAR_CLAUDE_MUSL: path of the claude binary for musl")
    world.settings = replace(world.settings, claude_musl=binary)
    world.another_life()
    ready = await world.create(CONFIG)
    assert (ready.recovered, ready.user) == ("", "ada")
    place = await world.workspaces.place(ready.workspace)
    assert (place.claude, place.uid) == (CLAUDE_MUSL, 1234)
    said = await world.sh(ready, f"id -un; {place.claude} --version; stat -c %U .git/HEAD")
    assert said.text.split()[0] == "ada"
    assert "(Claude Code)" in said.text, said
    assert said.text.split()[-1] == "ada"


async def test_an_image_that_has_both_libraries_counts_as_glibc(world: NodeWorld) -> None:
    build = f"FROM {base_image()}\nRUN touch /lib/ld-musl-{os.uname().machine}.so.1\n"
    files = {
        ".devcontainer/devcontainer.json": json.dumps({"build": {"dockerfile": "Dockerfile"}}),
        ".devcontainer/Dockerfile": build,
    }
    ready = await world.create(files)
    assert ready.recovered == ""
    assert (await world.workspaces.place(ready.workspace)).claude == CLAUDE
