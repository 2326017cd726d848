"""A copy that no writer of ours made changes nothing, inside the checkout or outside."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.errors import NodeError
from agent.keep import archive
from agent.keep.capture import capture
from agent.keep.restore import restore
from agent.keep.site import Site
from tests.fakes.kept import URL, Forge, picture

Add = Callable[..., None]
ZEROS = "0" * 40


@pytest.fixture
async def site(tmp_path: Path) -> Site:
    forge = Forge(tmp_path / "forge")
    forge.root.mkdir()
    forge.set_up({"a.txt": "a\n"})
    return await forge.check_out("w-1")


def manifest(**changes: object) -> bytes:
    about = {
        "workspace": "w-0", "url": URL, "base": "main", "base_commit": ZEROS, "head": "",
        "left": [], "same": [], "sha256": {}, "version": 1,
    }  # fmt: skip
    return json.dumps({**about, **changes}).encode()


def packed(*members: tuple[str, bytes, str], end: bytes | None = None) -> bytes:
    """Return a copy with members given as name, type and content or target."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, text in (("tree", tarfile.DIRTYPE, ""), *members):
            info = tarfile.TarInfo(name)
            info.type, info.mode = kind, 0o755
            if kind == tarfile.REGTYPE:
                info.size = len(text)
            else:
                info.linkname = text
            tar.addfile(info, io.BytesIO(text.encode()))
        if end is not None:
            info = tarfile.TarInfo("manifest.json")
            info.size = len(end)
            tar.addfile(info, io.BytesIO(end))
    return gzip.compress(buffer.getvalue())


async def put(site: Site, data: bytes, tmp_path: Path) -> None:
    copy = tmp_path / "hostile.copy"
    copy.write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    await restore(copy, site, sha256=sha256, scratch=tmp_path / "scratch")


REG, DIR, SYM, LNK = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


@pytest.mark.parametrize(
    "members",
    [
        [("/etc/evil", REG, "x")],
        [("tree/../evil", REG, "x")],
        [("tree/a/../../evil", REG, "x")],
        [("../evil", REG, "x")],
        [("tree/./evil", REG, "x")],
        [("tree//evil", REG, "x")],
        [("evil", REG, "x")],
        [("home/evil", DIR, "")],
        [("agent", SYM, "/etc")],
        [("tree/out", SYM, "/etc"), ("tree/out/evil", REG, "x")],
        [("tree/out", SYM, ".."), ("tree/out/evil", REG, "x")],
        [("tree/out", DIR, ""), ("tree/out", SYM, "/etc"), ("tree/out/evil", REG, "x")],
        [("tree/no/parent", REG, "x")],
        [("tree/f", REG, "x"), ("tree/f/g", REG, "x")],
        [("tree/passwd", LNK, "/etc/passwd")],
        [("tree/passwd", LNK, "tree/../../evil")],
        [("tree/out", SYM, "/etc/passwd"), ("tree/passwd", LNK, "tree/out")],
        [("agent", DIR, ""), ("agent/a", REG, "x"), ("tree/b", LNK, "agent/a")],
        [("tree/disk", tarfile.BLKTYPE, "")],
        [("tree/null", tarfile.CHRTYPE, "")],
        [("tree/pipe", tarfile.FIFOTYPE, "")],
        [("tree/sparse", tarfile.GNUTYPE_SPARSE, "")],
        [("tree/twice", REG, "1"), ("tree/twice", REG, "2")],
    ],
)
async def test_g4_names_that_lead_elsewhere_are_refused_before_anything_is_written(
    site: Site, tmp_path: Path, members: list[tuple[str, bytes, str]]
) -> None:
    (tmp_path / "scratch").mkdir()
    before = picture(tmp_path / "forge")
    with pytest.raises(NodeError) as refused:
        await put(site, packed(*members, end=manifest()), tmp_path)
    assert refused.value.code == "copy_refused"
    assert picture(tmp_path / "forge") == before


@pytest.mark.parametrize(
    "end",
    [
        None,
        b"",
        b"[]",
        b"[" * 100_000,
        manifest(version=2),
        manifest(url="https://elsewhere.example/acme/web.git"),
        manifest(same=[{"path": "../evil", "mode": 420, "blob": ZEROS}]),
        manifest(same=[{"path": "/evil", "mode": 420, "blob": ZEROS}]),
        manifest(same=[{"path": "no/parent", "mode": 420, "blob": ZEROS}]),
        manifest(same=[{"path": "a", "mode": 420, "blob": "HEAD\n"}]),
        manifest(same=[{"path": "a", "mode": "x", "blob": ZEROS}]),
        manifest(same=[{"path": "a", "mode": 420, "blob": ZEROS}] * 2),
        manifest(same=[{"path": 1, "mode": 420, "blob": ZEROS}]),
        manifest(same=[{"pfad": "a"}]),
        manifest(left=1),
        manifest(more=1),
    ],
)
async def test_a_manifest_of_strangers_is_refused(
    site: Site, tmp_path: Path, end: bytes | None
) -> None:
    (tmp_path / "scratch").mkdir()
    before = picture(tmp_path / "forge")
    with pytest.raises(NodeError) as refused:
        await put(site, packed(end=end), tmp_path)
    assert refused.value.code == "copy_refused"
    assert picture(tmp_path / "forge") == before


async def test_too_many_members_are_refused(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MEMBERS_MAX", 100)
    (tmp_path / "scratch").mkdir()
    many = [(f"tree/{n}", REG, "") for n in range(101)]
    with pytest.raises(NodeError) as refused:
        await put(site, packed(*many, end=manifest()), tmp_path)
    assert refused.value.code == "copy_refused"


@pytest.mark.parametrize("hurt", ["cut", "flipped", "empty", "other"])
async def test_a_damaged_copy_is_refused(site: Site, tmp_path: Path, hurt: str) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    copy = await capture(site, scratch=scratch, target=tmp_path / "rescue")
    data = copy.path.read_bytes()
    wrong = {
        "cut": data[:-1],
        "flipped": data[:-9] + bytes([data[-9] ^ 1]) + data[-8:],
        "empty": b"",
        "other": b"no copy",
    }[hurt]
    copy.path.write_bytes(wrong)
    named = [copy.sha256]
    if hurt in {"empty", "other"}:
        named.append(hashlib.sha256(wrong).hexdigest())
    for sha256 in named:
        with pytest.raises(NodeError) as refused:
            await restore(copy.path, site, sha256=sha256, scratch=scratch)
        assert refused.value.code == "copy_refused"


async def test_links_that_lead_out_are_links_and_are_not_followed(
    site: Site, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    (site.tree / "a.txt").unlink()
    (site.tree / "a.txt").symlink_to(outside / "kept")
    (site.tree / "folder").symlink_to(outside)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    copy = await capture(site, scratch=scratch, target=tmp_path / "rescue")
    await restore(copy.path, site, sha256=copy.sha256, scratch=scratch)
    assert (site.tree / "folder").is_symlink()
    (site.tree / "folder").unlink()
    (site.tree / "folder").mkdir()
    (site.tree / "folder/kept").write_text("of the workspace")
    copy = await capture(site, scratch=scratch, target=tmp_path / "rescue")
    (site.tree / "folder/kept").unlink()
    (site.tree / "folder").rmdir()
    (site.tree / "folder").symlink_to(outside)
    await restore(copy.path, site, sha256=copy.sha256, scratch=scratch)
    assert (site.tree / "folder/kept").read_text() == "of the workspace"
    assert (outside / "kept").read_text() == "kept"
