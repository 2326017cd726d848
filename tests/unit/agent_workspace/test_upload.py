"""Files that are sent into a workspace: whole or not at all, and nowhere else."""

import asyncio
import os
import shutil
import stat
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.memory.nodes import a_view
from agent import upload
from agent.errors import NodeError
from agent.upload import put_file
from core.ids import WorkspaceId
from core.viewing import View, ViewClosedError
from core.wire import CLOSE_MISSING, PutFile

names = st.binary(min_size=1, max_size=60).filter(
    lambda name: not {b"/", b"\0"} & {bytes([c]) for c in name} and name not in {b".", b".."}
)


def wanted(path: str, **values: Any) -> PutFile:
    return PutFile(ticket="", workspace=WorkspaceId("w"), path=path, **values)


@asynccontextmanager
async def putting(root: Path, asked: PutFile) -> AsyncIterator[View]:
    """Be who sends a file: the node closes with the code of what it refuses."""
    ours, theirs = a_view()

    async def serve() -> None:
        try:
            await put_file(root, asked, theirs, uid=os.geteuid(), gid=os.getegid())
        except NodeError as error:
            await theirs.close(CLOSE_MISSING, error.code)

    async with asyncio.TaskGroup() as group:
        group.create_task(serve())
        yield ours
        await ours.close(1000, "")


async def put(root: Path, path: str, *pieces: bytes, **values: Any) -> str:
    """Send a file; return the code of why it was refused, empty if it was taken."""
    async with putting(root, wanted(path, **values)) as pipe:
        try:
            await _send(pipe, pieces)
        except ViewClosedError as closed:
            return closed.reason
    return ""


async def _send(pipe: View, pieces: Sequence[bytes]) -> None:
    assert await pipe.receive() == b""
    for piece in (*pieces, b""):
        await pipe.send(piece)
    assert await pipe.receive() == b""


@pytest.fixture(params=["unnamed", "draft"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout, on a file system that knows files without a name and on one that does not."""
    if request.param == "draft":
        really = os.open

        def refusing(path: Any, flags: int, *rest: Any, **more: Any) -> int:
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                raise OSError(95, "Operation not supported")
            return really(path, flags, *rest, **more)

        monkeypatch.setattr(upload.os, "open", refusing)
    (tmp_path / "root" / "made").mkdir(parents=True)
    return tmp_path / "root"


async def test_a_file_is_there_whole_with_its_owner(root: Path) -> None:
    assert not await put(root, "made/notes.txt", b"one ", b"two")
    written = root / "made/notes.txt"
    assert written.read_bytes() == b"one two"
    status = written.stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (os.geteuid(), 0o644)


async def test_a_file_that_is_there_stays_unless_it_may_be_replaced(root: Path) -> None:
    (root / "run.sh").write_bytes(b"old")
    (root / "run.sh").chmod(0o755)
    assert await put(root, "run.sh", b"new") == "file_exists"
    assert (root / "run.sh").read_bytes() == b"old"
    assert not await put(root, "run.sh", b"new", replaces=True)
    assert (root / "run.sh").read_bytes() == b"new"
    assert stat.S_IMODE((root / "run.sh").stat().st_mode) == 0o755
    assert [path.name for path in root.iterdir() if path.is_file()] == ["run.sh"]


async def test_a_name_that_somebody_takes_meanwhile_stays_theirs(root: Path) -> None:
    async with putting(root, wanted("a")) as pipe:
        assert await pipe.receive() == b""
        await pipe.send(b"ours")
        (root / "a").write_bytes(b"theirs")
        await pipe.send(b"")
        with pytest.raises(ViewClosedError) as refused:
            await pipe.receive()
    assert refused.value.reason == "file_exists"
    assert (root / "a").read_bytes() == b"theirs"


async def test_an_interruption_leaves_nothing_behind(root: Path) -> None:
    async with putting(root, wanted("big")) as pipe:
        assert await pipe.receive() == b""
        await pipe.send(b"x" * 1000)
    assert [path.name for path in root.iterdir()] == ["made"]


async def test_fewer_bytes_than_were_said_are_no_file(root: Path) -> None:
    assert await put(root, "a", b"12", size_bytes=3) == "upload_cut"
    assert [path.name for path in root.iterdir()] == ["made"]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("", "bad_name"),
        ("made/", "bad_name"),
        ("a" * 256, "bad_name"),
        ("nowhere/a", "no_such_file"),
        ("../a", "no_such_file"),
        ("made/%2e%2e/%2e%2e/a", "no_such_file"),
        ("made%00/a", "no_such_file"),
        ("made", "not_a_file"),
        ("link", "not_a_file"),
        ("linked/a", "no_such_file"),
    ],
)
async def test_nothing_is_written_elsewhere(root: Path, path: str, code: str) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (root / "link").symlink_to(outside / "a")
    (root / "linked").symlink_to(outside)
    assert await put(root, path, b"x", replaces=True) == code
    assert list(outside.iterdir()) == []


async def test_what_has_no_room_is_refused_before_it_is_sent(root: Path) -> None:
    assert await put(root, "a", size_bytes=1 << 60) == "too_large"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", root], check=True)
    try:
        assert await put(root, "a", size_bytes=1 << 20) == "disk_full"
        assert await put(root, "a", *([b"x" * 65536] * 20)) == "disk_full"
        assert list(root.iterdir()) == []
    finally:
        subprocess.run(["umount", root], check=True)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(name=names, data=st.binary(max_size=2000))
def test_c10_names_are_data(tmp_path: Path, name: bytes, data: bytes) -> None:
    assert asyncio.run(put(tmp_path, quote_from_bytes(name), data, replaces=True)) == ""
    assert (tmp_path / os.fsdecode(name)).read_bytes() == data


async def test_a_file_whose_folder_is_removed_meanwhile_is_refused(root: Path) -> None:
    async with putting(root, wanted("made/a")) as pipe:
        assert await pipe.receive() == b""
        await pipe.send(b"x")
        shutil.rmtree(root / "made")
        await pipe.send(b"")
        with pytest.raises(ViewClosedError) as refused:
            await pipe.receive()
    assert refused.value.reason == "no_such_file"
