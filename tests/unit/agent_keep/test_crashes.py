"""A copy is whole or not there, and making one changes nothing."""

import hashlib
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import NodeError
from agent.keep.capture import capture
from agent.keep.site import Site
from tests.fakes.kept import Forge, git, picture
from tests.fakes.lacking import lacking

KILLED = """
import asyncio, os, pickle, signal, sys
from agent import files
from agent.keep import archive, capture, objects

where, at = sys.argv[1], int(sys.argv[2])
owner, name = {
    "add": (archive.Writer, "add"),
    "end": (archive.Writer, "end"),
    "pack": (objects.Objects, "pack"),
    "compare": (capture, "_is_equal"),
    "settle": (files, "settle"),
}[where]
kept, calls = getattr(owner, name), 0

def die(*arguments, **named):
    global calls
    calls += 1
    if calls == at:
        os.kill(os.getpid(), signal.SIGKILL)
    return kept(*arguments, **named)

setattr(owner, name, die)
site, scratch, target = pickle.load(sys.stdin.buffer)
asyncio.run(capture.capture(site, scratch=scratch, target=target))
"""


@pytest.fixture
async def forge(tmp_path: Path) -> Forge:
    forge = Forge(tmp_path)
    forge.set_up({"a.txt": "a\n"})
    return forge


async def worked_in(forge: Forge) -> Site:
    site = await forge.check_out("w-1")
    (site.tree / "new.bin").write_bytes(os.urandom(2 << 20))
    (site.tree / "staged.txt").write_text("staged")
    git(site.tree, "add", "staged.txt")
    site.agent.mkdir(parents=True)
    (site.agent / "1.jsonl").write_text("{}")
    return site


@pytest.mark.parametrize(
    ("where", "at"),
    [("pack", 1), ("add", 1), ("add", 9), ("end", 1), ("compare", 1), ("settle", 1)],
)
async def test_a_kill_leaves_the_workspace_and_no_half_copy(
    forge: Forge, where: str, at: int
) -> None:
    site = await worked_in(forge)
    before = picture(site.tree.parents[1])
    layout = forge.layout()
    done = subprocess.run(
        [sys.executable, "-c", KILLED, where, str(at)],
        input=pickle.dumps((site, layout.scratch, layout.rescue)),
        check=False,
        cwd=Path(__file__).parents[3],
        capture_output=True,
    )
    assert done.returncode == -9, done.stderr
    assert picture(site.tree.parents[1]) == before
    for copy in layout.rescue.glob("*"):
        assert where == "settle", "only the name may be lost after that"
        assert copy.name == f"{hashlib.sha256(copy.read_bytes()).hexdigest()}.copy"
    copy = await capture(site, scratch=layout.scratch, target=layout.rescue)
    assert copy.sha256 == hashlib.sha256(copy.path.read_bytes()).hexdigest()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one mebibyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False).returncode:
        lacking("a small file system, which only root may mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def test_a_full_disk_is_said_and_leaves_the_workspace_and_no_half_copy(
    forge: Forge, small_disk: Path
) -> None:
    site = await worked_in(forge)
    before = picture(site.tree.parents[1])
    with pytest.raises(NodeError) as full:
        await capture(site, scratch=small_disk / "tmp", target=small_disk / "rescue")
    assert full.value.code == "disk_full"
    assert picture(site.tree.parents[1]) == before
    assert [*small_disk.rglob("*")] == [small_disk / "tmp"]


async def test_a_copy_that_the_disk_changed_is_noticed_before_success_is_said(
    forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agent.keep import capture as module

    site = await worked_in(forge)
    look = module._is_equal

    def corrupt(site: Site, taken: module._Taken) -> bool:
        data = bytearray(taken.file.read_bytes())
        data[len(data) // 2] ^= 1
        taken.file.write_bytes(data)
        return look(site, taken)

    monkeypatch.setattr(module, "_is_equal", corrupt)
    layout = forge.layout()
    with pytest.raises(NodeError) as refused:
        await capture(site, scratch=layout.scratch, target=layout.rescue)
    assert refused.value.code == "copy_refused"
    assert not list(layout.rescue.glob("*"))
