"""Rescue copies whose time is over, and the keys that seal them, on real records and files."""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.disk.files import DiskFiles
from bot.keys import FILE, vault
from core.errors import ConfigError
from core.ports.store import Wake
from core.reconcile.copies import CopyReconciler
from core.rescue import CopyState, RescueCopy
from core.workspace import Workspace, WorkspaceState
from tests.fakes.desk import REPLICA, Desk
from tests.fakes.nouns import CLOCKS, a_copy, a_workspace


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def swept(desk: Desk, files: DiskFiles) -> None:
    """Let the periodic job look once."""
    await desk.store.commit(Wake("copies", "all"))
    (claim,) = await desk.work.claim(REPLICA, ["copies"], limit=1)
    look = CopyReconciler(store=desk.store, files=files, clock=desk.clock, clocks=CLOCKS)
    assert await look(claim) is None
    await desk.work.give_back(claim, due_in_s=None)


async def state(desk: Desk, copy: str) -> CopyState:
    return (await desk.store.get(RescueCopy, copy)).state


async def test_g4_a_copy_goes_when_its_time_is_over_and_nobody_needs_it(
    desk: Desk, tmp_path: Path
) -> None:
    files = DiskFiles(tmp_path / "files", vault(tmp_path))
    stored = await files.put(pieces(b"all of it"))
    over, later = desk.clock.now(), a_copy().expires_at
    rests = a_workspace(state=WorkspaceState.STOPPED, run_id=None, node_id="")
    await desk.put(
        rests,
        a_copy(sha256=stored.sha256, expires_at=over),
        a_workspace(id="wother", run_id=None, state=WorkspaceState.GONE),
        a_copy(id="wother-1", workspace_id="wother", sha256=stored.sha256, expires_at=later),
    )
    await swept(desk, files)
    assert await state(desk, "wabcdefg-1") is CopyState.KEPT, "a stopped workspace needs it"
    known = await desk.store.get(Workspace, rests.id)
    await desk.put(replace(known, state=WorkspaceState.GONE))
    await swept(desk, files)
    assert await state(desk, "wabcdefg-1") is CopyState.GONE
    assert await files.find(stored.sha256) is not None, "another copy has the same content"
    other = await desk.store.get(RescueCopy, "wother-1")
    await desk.put(replace(other, expires_at=over))
    await desk.put(a_copy(id="wabcdefg-2", state=CopyState.WANTED, sha256=""))
    await swept(desk, files)
    assert await files.find(stored.sha256) is not None, "one with this content may be coming in"
    wanted = await desk.store.get(RescueCopy, "wabcdefg-2")
    await desk.put(replace(wanted, state=CopyState.FAILED))
    await swept(desk, files)
    assert await state(desk, "wother-1") is CopyState.GONE
    assert await files.find(stored.sha256) is None


async def test_what_was_sealed_is_opened_by_the_next_life(tmp_path: Path) -> None:
    content = b"all of it"
    await DiskFiles(tmp_path / "files", vault(tmp_path)).put(pieces(content))
    again = DiskFiles(tmp_path / "files", vault(tmp_path))
    name = hashlib.sha256(content).hexdigest()
    assert b"".join([piece async for piece in again.get(name)]) == content
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("text", ["", "k1 zz\n", "k1\n", "k1 abcd\n", 2 * f"k1 {64 * '0'}\n"])
def test_keys_that_cannot_be_read_stop_the_start(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ConfigError, match="Put it back from a backup"):
        vault(tmp_path)


async def test_keys_that_are_missing_beside_what_they_sealed_are_not_made_anew(
    tmp_path: Path,
) -> None:
    files = DiskFiles(tmp_path / "files", vault(tmp_path))
    own = (tmp_path / FILE).read_text()
    (tmp_path / FILE).unlink()
    vault(tmp_path)
    assert (tmp_path / FILE).read_text().split()[0] != own.split()[0], "no two have one name"
    await files.put(pieces(b"sealed"))
    (tmp_path / FILE).unlink()
    with pytest.raises(ConfigError, match="is missing, and nothing in"):
        vault(tmp_path)
    assert not (tmp_path / FILE).exists()
