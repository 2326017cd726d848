"""Port `Files`: its promises, by number."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.disk.files import DiskFiles
from adapters.disk.sealed import END_SEALED_BYTES, FRAME_BYTES, HEADER_BYTES, WHOLE_BYTES, Key
from adapters.memory.files import MemoryFiles
from adapters.system import SecretBox
from core.errors import ConflictError, NotFoundError, OutsideError, UnavailableError
from core.ports.files import Files
from tests.fakes.lacking import lacking

KEY = b"k" * 32
CONTENT = bytes(range(251)) * 9000
"""Two whole frames and a bit."""
NAME = hashlib.sha256(CONTENT).hexdigest()


def on_disk(folder: Path, key: bytes = KEY) -> DiskFiles:
    return DiskFiles(folder, SecretBox({"2026": key}))


@pytest.fixture(params=["disk", "memory"])
def again(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Files]:
    """Return the store as a new life of the program finds it."""
    memory = MemoryFiles()
    return (lambda: on_disk(tmp_path / "files")) if request.param == "disk" else lambda: memory


@pytest.fixture
def files(again: Callable[[], Files]) -> Files:
    return again()


async def pieces(content: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


class CutError(Exception):
    """The sender is gone."""


async def cut(content: bytes) -> AsyncIterator[bytes]:
    async for piece in pieces(content):
        yield piece
    raise CutError


async def read(files: Files, name: str = NAME, offset: int = 0) -> bytes:
    async with aclosing(files.get(name, offset_bytes=offset)) as got:
        return b"".join([piece async for piece in got])


@pytest.mark.parametrize(
    "size", [0, 1, FRAME_BYTES - 1, FRAME_BYTES, FRAME_BYTES + 1, 2 * FRAME_BYTES]
)
async def test_1_a_file_of_any_size_comes_back(files: Files, size: int) -> None:
    content = os.urandom(size)
    stored = await files.put(pieces(content))
    assert (stored.sha256, stored.size_bytes) == (hashlib.sha256(content).hexdigest(), size)
    assert await read(files, stored.sha256) == content
    assert await files.find(stored.sha256) == stored


@pytest.mark.parametrize(
    "offset", [1, FRAME_BYTES - 1, FRAME_BYTES, len(CONTENT) - 1, len(CONTENT), 10**9]
)
async def test_1_it_is_read_from_any_offset(files: Files, offset: int) -> None:
    await files.put(pieces(CONTENT))
    assert await read(files, offset=offset) == CONTENT[offset:]


async def test_2_what_was_cut_is_not_there(files: Files, again: Callable[[], Files]) -> None:
    with pytest.raises(CutError):
        await files.put(cut(CONTENT))
    with pytest.raises(CutError):
        await files.resume(NAME, cut(CONTENT), offset_bytes=0)
    for store in (files, again()):
        assert await store.find(NAME) is None
        with pytest.raises(NotFoundError):
            await read(store)


async def test_3_the_same_again_changes_nothing(files: Files) -> None:
    first = await files.put(pieces(CONTENT))
    async with aclosing(files.get(NAME)) as reading:
        got = await anext(reading)
        assert await files.put(pieces(CONTENT)) == first
        assert await files.resume(NAME, pieces(CONTENT), offset_bytes=0) == first
        got += b"".join([piece async for piece in reading])
    assert got == CONTENT == await read(files)


@pytest.mark.parametrize("name", [NAME, "", "../" + NAME, NAME.upper(), "a" * 63, "part"])
async def test_4_an_unknown_name_is_not_found(files: Files, name: str) -> None:
    with pytest.raises(NotFoundError):
        await read(files, name)
    assert await files.find(name) is None


@pytest.mark.parametrize("name", ["", "../" + NAME, "part"])
async def test_4_no_file_gets_a_name_that_is_no_sha256(files: Files, name: str) -> None:
    with pytest.raises(NotFoundError):
        await files.resume(name, pieces(CONTENT), offset_bytes=0)
    with pytest.raises(NotFoundError):
        await files.kept_bytes(name)


async def test_5_a_cut_upload_goes_on_in_another_life(
    files: Files, again: Callable[[], Files]
) -> None:
    assert await files.kept_bytes(NAME) == 0
    with pytest.raises(CutError):
        await files.resume(NAME, cut(CONTENT[: FRAME_BYTES + 5]), offset_bytes=0)
    later = again()
    kept = await later.kept_bytes(NAME)
    assert FRAME_BYTES <= kept <= FRAME_BYTES + 5
    with pytest.raises(ConflictError):
        await later.resume(NAME, pieces(CONTENT), offset_bytes=0)
    await later.resume(NAME, pieces(CONTENT[kept:]), offset_bytes=kept)
    assert await read(again()) == CONTENT
    assert await later.kept_bytes(NAME) == 0


async def test_5_another_content_gets_no_name_and_is_thrown_away(files: Files) -> None:
    with pytest.raises(ValueError, match="SHA-256"):
        await files.resume(NAME, pieces(CONTENT + b"!"), offset_bytes=0)
    assert await files.find(NAME) is None
    assert await files.kept_bytes(NAME) == 0


async def test_7_a_deleted_file_is_gone_and_deleting_it_again_is_fine(files: Files) -> None:
    await files.put(pieces(CONTENT))
    await files.delete(NAME)
    await files.delete(NAME)
    assert await files.find(NAME) is None


async def test_8_what_nobody_finished_is_forgotten(files: Files) -> None:
    with pytest.raises(CutError):
        await files.resume(NAME, cut(CONTENT), offset_bytes=0)
    await files.forget(before=datetime.fromtimestamp(0, UTC))
    assert await files.kept_bytes(NAME)
    await files.forget(before=datetime.now(UTC) + timedelta(seconds=5))
    assert await files.kept_bytes(NAME) == 0


# Of the disk alone


async def test_c7_6_no_piece_of_the_content_can_be_read_at_rest(tmp_path: Path) -> None:
    secret = b"the colour of the teapot " * 100_000
    files = on_disk(tmp_path)
    with pytest.raises(CutError):
        await files.resume(NAME, cut(secret), offset_bytes=0)
    await files.put(pieces(secret))
    seen = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(seen) == 2
    for path in seen:
        assert b"teapot" not in path.read_bytes()
        assert path.stat().st_mode & 0o077 == 0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_6_a_changed_byte_gives_an_error_and_never_other_bytes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("files")
    files = on_disk(folder)
    content = CONTENT[: FRAME_BYTES + 100]
    name = (await files.put(pieces(content))).sha256
    raw = bytearray((folder / name).read_bytes())
    at = data.draw(st.integers(0, len(raw) - 1) | st.integers(0, HEADER_BYTES - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    (folder / name).write_bytes(raw)
    got = b""
    try:
        async with aclosing(files.get(name)) as reading:
            async for piece in reading:
                got += piece
    except OutsideError:
        assert content.startswith(got)
    else:
        assert got == content, "only the padding of the header may be changed unseen"
        assert at < HEADER_BYTES


def swapped(raw: bytes) -> bytes:
    first = raw[HEADER_BYTES : HEADER_BYTES + WHOLE_BYTES]
    second = raw[HEADER_BYTES + WHOLE_BYTES : HEADER_BYTES + 2 * WHOLE_BYTES]
    return raw[:HEADER_BYTES] + second + first + raw[HEADER_BYTES + 2 * WHOLE_BYTES :]


@pytest.mark.parametrize(
    "hurt",
    [
        swapped,
        lambda raw: b"",
        lambda raw: raw[:-1],
        lambda raw: raw[:HEADER_BYTES],
        lambda raw: raw + b"\0",
        lambda raw: raw[: HEADER_BYTES + WHOLE_BYTES] + raw[-END_SEALED_BYTES:],
        lambda raw: raw[:HEADER_BYTES] + raw[HEADER_BYTES + WHOLE_BYTES :],
    ],
)
async def test_6_moved_dropped_and_added_pieces_are_noticed(
    tmp_path: Path, hurt: Callable[[bytes], bytes]
) -> None:
    files = on_disk(tmp_path)
    await files.put(pieces(CONTENT))
    (tmp_path / NAME).write_bytes(hurt((tmp_path / NAME).read_bytes()))
    with pytest.raises(OutsideError):
        await read(files)


async def test_6_another_file_in_its_place_and_another_key_are_noticed(tmp_path: Path) -> None:
    files = on_disk(tmp_path)
    other = await files.put(pieces(b"other"))
    await files.put(pieces(CONTENT))
    with pytest.raises(OutsideError):
        await read(on_disk(tmp_path, b"x" * 32))
    shutil.copy(tmp_path / other.sha256, tmp_path / NAME)
    with pytest.raises(OutsideError):
        await read(files)


async def test_6_keys_can_be_rotated(tmp_path: Path) -> None:
    await on_disk(tmp_path).put(pieces(CONTENT))
    newer = DiskFiles(tmp_path, SecretBox({"2026": KEY, "2027": b"n" * 32}))
    assert await read(newer) == CONTENT


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from adapters.disk.files import DiskFiles
from adapters.system import SecretBox

async def pieces():
    content = bytes(range(251)) * 9000
    for start in range(0, len(content), 1000):
        yield content[start : start + 1000]
        if sys.argv[2] == "sending" and start > 1_500_000:
            os.kill(os.getpid(), signal.SIGKILL)

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[2] == "syncing":
    os.fsync = die
if sys.argv[2] == "naming":
    Path.replace = die
files = DiskFiles(Path(sys.argv[1]), SecretBox({"2026": b"k" * 32}))
asyncio.run(files.resume(sys.argv[3], pieces(), offset_bytes=0))
"""


async def test_5_what_is_kept_is_read_once_however_often_it_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    read = Key.open

    def counted(key: Key, frame: bytes, place: str) -> bytes:
        opened.append(place)
        return read(key, frame, place)

    monkeypatch.setattr(Key, "open", counted)
    content = os.urandom(20 * FRAME_BYTES)
    name = hashlib.sha256(content).hexdigest()
    for start in range(0, len(content), 2 * FRAME_BYTES):
        part = content[start : start + 2 * FRAME_BYTES]
        with suppress(CutError):
            files = on_disk(tmp_path)
            assert await files.kept_bytes(name) == start
            is_last = start + len(part) == len(content)
            sent = pieces(part) if is_last else cut(part)
            await files.resume(name, sent, offset_bytes=start)
    assert await files.find(name) is not None
    assert len(opened) <= 20 + 10 * 2 + 1, "once for its name, and the last frame of each part"


async def test_5_a_frame_that_a_crash_of_the_machine_lost_is_sent_again(tmp_path: Path) -> None:
    files = on_disk(tmp_path)
    content = os.urandom(4 * FRAME_BYTES)
    name = hashlib.sha256(content).hexdigest()
    with pytest.raises(CutError):
        await files.resume(name, cut(content[: 3 * FRAME_BYTES]), offset_bytes=0)
    with (tmp_path / "part" / name).open("r+b") as part:
        part.seek(HEADER_BYTES + WHOLE_BYTES)
        part.write(bytes(WHOLE_BYTES))
    kept = await files.kept_bytes(name)
    with pytest.raises(UnavailableError):
        await files.resume(name, pieces(content[kept:]), offset_bytes=kept)
    assert await files.find(name) is None
    kept = await files.kept_bytes(name)
    assert kept == FRAME_BYTES
    await files.resume(name, pieces(content[kept:]), offset_bytes=kept)
    assert await read(files, name) == content


@pytest.mark.parametrize("where", ["sending", "syncing", "naming"])
async def test_2_a_kill_leaves_no_half_file_and_the_upload_goes_on(
    tmp_path: Path, where: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), where, NAME],
        check=False,
        capture_output=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == -9, done.stderr
    files = on_disk(tmp_path)
    assert await files.find(NAME) is None
    kept = await files.kept_bytes(NAME)
    assert kept > 0
    await files.resume(NAME, pieces(CONTENT[kept:]), offset_bytes=kept)
    assert await read(files) == CONTENT


async def test_2_two_who_send_the_same_file_do_not_mix(tmp_path: Path) -> None:
    files = on_disk(tmp_path)

    async def with_another() -> AsyncIterator[bytes]:
        with pytest.raises(UnavailableError):
            await on_disk(tmp_path).resume(NAME, pieces(b"x"), offset_bytes=0)
        async for piece in pieces(CONTENT):
            yield piece

    await files.resume(NAME, with_another(), offset_bytes=0)
    assert await read(files) == CONTENT


async def test_2_a_file_that_got_its_name_meanwhile_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, named = tmp_path / "part" / NAME, tmp_path / NAME
    lock = fcntl.flock

    def late(file: BinaryIO, how: int) -> None:
        part.write_bytes(b"as another life left it")
        part.replace(named)
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(UnavailableError):
        await on_disk(tmp_path).resume(NAME, pieces(b"x"), offset_bytes=0)
    assert named.read_bytes() == b"as another life left it"


async def test_2_a_full_disk_passes_and_leaves_no_half_file(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small)]
    if os.geteuid() or subprocess.run(mount, check=False).returncode:
        lacking("a small file system, which only root may mount")
    try:
        files = on_disk(small)
        with pytest.raises(UnavailableError):
            await files.put(pieces(CONTENT))
        assert [path for path in small.rglob("*") if path.is_file()] == []
        assert await files.find(NAME) is None
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)
