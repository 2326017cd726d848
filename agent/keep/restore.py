"""Put a rescue copy back into a fresh checkout of the same repository, before its container runs.

What is there already and right stays: an overlay keeps its lower files. Doing it again after it was
cut does the rest.
"""

import asyncio
import math
import os
import shutil
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from secrets import token_hex
from typing import IO

from agent import disk, files
from agent.errors import NodeError
from agent.git import GitFailed, git
from agent.keep import folders
from agent.keep.archive import (
    Manifest,
    Member,
    Same,
    blob_of,
    members,
    sha256_of,
    shown,
)
from agent.keep.blobs import Blobs
from agent.keep.folders import CREATE, FOLDER, READ
from agent.keep.objects import Objects, references
from agent.keep.site import OF_THE_NODE, Site
from agent.keep.tell import what_came_back
from agent.process import Identity

REFERENCE_BYTES_MAX = 64 << 20
LOST_MAX = 20
HOLE_BYTES = 64 * 1024
"""Zeros of this length become a hole."""
TIME_MAX = 2**33
"""Seconds; what a file's time can be is above it on every file system that we know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What a workspace is after a copy was put back.

    Attributes:
        base_commit: Where its work starts; empty if the code host does not have that any more.
        sentences: What came back, what could not, and what was not in the copy.
    """

    base_commit: str
    sentences: tuple[str, ...]


async def restore(copy: Path, site: Site, *, sha256: str, scratch: Path) -> Restored:
    """Make the workspace what it was when the copy was made.

    Nothing is changed if the copy is refused.

    Raises:
        NodeError: `copy_refused` if this is not the file with that SHA-256, was not made by us, or
            is of a repository whose commits the workspace's one does not have; `disk_full`.
    """
    part = scratch / f"restore-{token_hex(8)}"
    part.mkdir(parents=True)
    try:
        manifest, roots = await asyncio.to_thread(_checked, copy, site, sha256)
        await _check_repository(manifest, site)
        for root in roots:
            site.roots()[root].mkdir(parents=True, exist_ok=True)
        done = await asyncio.to_thread(_write, copy, manifest, site)
        lost = [*done.sentences(), *await _configure(site, part)]
        objects = await Objects.taken(site.tree, site.mirror, part / "objects.git")
        bases = await objects.existing({manifest.base_commit, site.base_commit})
        lost += await _references(site, objects, bases)
        told = await what_came_back(site, objects, bases, {s.path: s.blob for s in manifest.same})
    except OSError as error:
        if disk.is_full(error):
            raise disk.full(scratch) from error
        raise NodeError(
            "restore_failed",
            f"The rescue copy could not be written to {site.workspace}: {error}; try again.",
        ) from error
    finally:
        await asyncio.to_thread(files.remove, part)
    return Restored(
        base_commit=manifest.base_commit if manifest.base_commit in bases else "",
        sentences=(*told, *lost, *manifest.left),
    )


def _checked(copy: Path, site: Site, sha256: str) -> tuple[Manifest, Sequence[str]]:
    """Return what a good copy says about itself, and of which folders it is."""
    with copy.open("rb") as file:
        if sha256_of(file) != sha256:
            raise _refused("it is damaged")
    size, roots = 0, []
    manifest = None
    for one in members(copy):
        if isinstance(one, Manifest):
            manifest = one
            continue
        size += sum(len(piece) for piece in _pieces(one.file) if not _is_hole(piece))
        if "/" not in one.name:
            roots.append(one.name)
    if manifest is None:
        raise _refused("it has no manifest")
    if size > shutil.disk_usage(site.tree).free:
        raise disk.full(site.tree)
    return manifest, roots


async def _check_repository(manifest: Manifest, site: Site) -> None:
    """Refuse another repository; one that was renamed or moved has the commits of the copy."""
    if manifest.url == site.url:
        return
    start = manifest.base_commit
    found = await git("cat-file", "-e", f"{start}^{{commit}}", repository=site.mirror, check=False)
    if found.code != 0:
        raise NodeError(
            "copy_refused",
            f"The rescue copy is of {shown(manifest.url)}, and the project's repository "
            f"{shown(site.url)} does not have the commit {start[:12]} that its work starts from. "
            "Set the project to the repository of the copy, then restore it.",
        )


def _refused(why: str) -> NodeError:
    return NodeError("copy_refused", f"The rescue copy cannot be used: {why}; restore another one.")


# Writing


@dataclass(slots=True, kw_only=True)
class _Done:
    """What was written.

    Attributes:
        names: All that is in the copy; the rest goes.
        lost: Files that are as in the base commit, which is not there.
    """

    names: set[str] = field(default_factory=set)
    folders: list[Member] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def sentences(self) -> Iterator[str]:
        """Say what did not come back."""
        for path in self.lost[:LOST_MAX]:
            yield (
                f"{shown(path)} could not be restored: it was as in a commit that the code host "
                "does not have any more."
            )
        if len(self.lost) > LOST_MAX:
            yield f"{len(self.lost) - LOST_MAX} more files could not be restored for that reason."


class _Writer:
    """Writes below the open roots of a workspace."""

    def __init__(self, tops: Mapping[str, int], site: Site) -> None:
        self._tops = tops
        self._site = site
        self.done = _Done()

    def put(self, member: Member) -> None:
        """Put a member in place of whatever has its name."""
        if member.name in OF_THE_NODE:
            return
        self.done.names.add(member.name)
        if member.kind == "folder":
            self.done.folders.append(member)
        if member.name in self._tops:
            return
        owner = self._site.owner_of(member.name)
        with self._place(member.name) as (folder, name):
            match member.kind:
                case "folder":
                    self._put_folder(folder, name)
                case "file":
                    pieces = _pieces(member.file)
                    self._put_file(folder, name, pieces, owner, mode=member.mode, at=member.mtime)
                case "symlink":
                    folders.clear(folder, name)
                    os.symlink(member.target, name, dir_fd=folder)
                    os.chown(name, owner.uid, owner.gid, dir_fd=folder, follow_symlinks=False)
                    os.utime(name, ns=_ns(member.mtime), dir_fd=folder, follow_symlinks=False)
                case _:
                    folders.clear(folder, name)
                    with self._place(member.target) as (other, first):
                        os.link(
                            *(first, name),
                            src_dir_fd=other,
                            dst_dir_fd=folder,
                            follow_symlinks=False,
                        )

    def put_same(self, same: Same, blobs: Blobs) -> None:
        """Make sure of a file that is as in the base commit; what is there already may stay."""
        with self._place(f"tree/{same.path}") as (folder, name):
            if not self._is_there(folder, name, same):
                pieces = blobs.read(same.blob)
                if pieces is None:
                    self.done.lost.append(same.path)
                    return
                self._put_file(folder, name, pieces, self._site.owner, mode=same.mode)
        self.done.names.add(f"tree/{same.path}")

    def end(self) -> None:
        """Remove what is not in the copy, and finish the folders from the inside out."""
        for root, top in self._tops.items():
            if root in self.done.names:
                self._remove_others(root, top)
        for member in reversed(self.done.folders):
            with self._open_folder(member.name) as folder:
                owner = self._site.owner_of(member.name)
                _finish(folder, owner, mode=member.mode, at=member.mtime)

    def replace(self, name: str, text: bytes) -> None:
        """Replace a small file of git's."""
        with self._place(name) as (folder, last):
            self._put_file(folder, last, iter((text,)), self._site.owner, mode=0o644)

    def remove(self, name: str) -> None:
        """Remove one thing."""
        with self._place(name) as (folder, last):
            folders.clear(folder, last)

    def _put_folder(self, folder: int, name: str) -> None:
        about = _look(folder, name)
        if about is None or not stat.S_ISDIR(about.st_mode):
            folders.clear(folder, name)
            os.mkdir(name, 0o700, dir_fd=folder)

    def _put_file(
        self,
        folder: int,
        name: str,
        pieces: Iterator[bytes],
        owner: Identity,
        *,
        mode: int,
        at: float | None = None,
    ) -> None:
        folders.clear(folder, name)
        with folders.opened(name, CREATE, folder=folder) as file:
            size = 0
            for piece in pieces:
                size += len(piece)
                if _is_hole(piece):
                    os.lseek(file, len(piece), os.SEEK_CUR)  # Stays a hole.
                else:
                    _write_all(file, piece)
            os.ftruncate(file, size)
            _finish(file, owner, mode=mode, at=at)

    def _is_there(self, folder: int, name: str, same: Same) -> bool:
        about = _look(folder, name)
        if about is None or not stat.S_ISREG(about.st_mode) or about.st_nlink > 1:
            return False
        with os.fdopen(os.open(name, READ, dir_fd=folder), "rb", buffering=0) as file:
            if blob_of(file, about.st_size) != same.blob:
                return False
            # An overlay copies the whole file for a change of these, so only when needed.
            owner = self._site.owner
            if stat.S_IMODE(about.st_mode) != same.mode or about.st_uid != owner.uid:
                _finish(file.fileno(), owner, mode=same.mode)
        return True

    def _remove_others(self, root: str, top: int) -> None:
        kept = set(self.done.names)
        for name in OF_THE_NODE:
            kept |= {name, *map(str, PurePosixPath(name).parents)}
        for found in folders.walk(top, enter=lambda one: f"{root}/{one.path}" in kept):
            if f"{root}/{found.path}" not in kept:
                folders.clear(found.folder, found.name)

    @contextmanager
    def _place(self, name: str) -> Iterator[tuple[int, str]]:
        root, _, path = name.partition("/")
        with folders.parent_of(self._tops[root], path) as place:
            yield place

    @contextmanager
    def _open_folder(self, name: str) -> Iterator[int]:
        if name in self._tops:
            yield self._tops[name]
            return
        with (
            self._place(name) as (folder, last),
            folders.opened(last, FOLDER, folder=folder) as opened,
        ):
            yield opened


def _write(copy: Path, manifest: Manifest, site: Site) -> _Done:
    with _writer(site) as writer, Blobs(site.mirror) as blobs:
        for member in members(copy):
            if isinstance(member, Member):
                writer.put(member)
        for same in manifest.same:
            writer.put_same(same, blobs)
        writer.end()
        return writer.done


@contextmanager
def _writer(site: Site) -> Iterator[_Writer]:
    with ExitStack() as stack:
        tops = {}
        for root, folder in site.roots().items():
            with suppress(FileNotFoundError):
                tops[root] = stack.enter_context(folders.opened(folder, FOLDER))
        yield _Writer(tops, site)


def _look(folder: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _pieces(file: IO[bytes] | None) -> Iterator[bytes]:
    while file is not None and (piece := file.read(HOLE_BYTES)):
        yield piece


def _finish(file: int, owner: Identity, *, mode: int, at: float | None = None) -> None:
    os.fchown(file, owner.uid, owner.gid)
    os.fchmod(file, mode)  # After the owner: changing that takes setuid away.
    if at is not None:
        os.utime(file, ns=_ns(at))


def _is_hole(piece: bytes) -> bool:
    return piece.count(0) == len(piece)


def _write_all(file: int, piece: bytes) -> None:
    while piece:
        piece = piece[os.write(file, piece) :]


def _ns(mtime: float) -> tuple[int, int]:
    """Return access and change time; a time that no file can have is the first of all."""
    ns = int(mtime * 1e9) if math.isfinite(mtime) and abs(mtime) < TIME_MAX else 0
    return ns, ns


# What git needs


async def _configure(site: Site, part: Path) -> Sequence[str]:
    """Write the node's own settings into git's configuration, which is data here, not obeyed."""
    with folders.opened(site.tree, FOLDER) as top:
        text = folders.read(top, ".git/config", bytes_max=REFERENCE_BYTES_MAX)
    if not text:
        return ()
    file = part / "config"
    file.write_bytes(text)
    try:
        for name, value in site.settings.items():
            await git("config", "--file", str(file), "--replace-all", name, value)
    except GitFailed:
        return ("git's configuration could not be read; it was restored as it was.",)
    with _writer(site) as writer:
        writer.replace("tree/.git/config", file.read_bytes())
    return ()


async def _references(site: Site, objects: Objects, bases: Collection[str]) -> Sequence[str]:
    """Forget what the code host had and has not any more; say what work misses commits."""
    refs = await asyncio.to_thread(references, site.tree)
    if not refs:
        return ()
    there = await objects.existing(set(refs.values()))
    missing = {name: oid for name, oid in refs.items() if oid not in there}
    theirs = {name for name in missing if name.startswith(("refs/remotes/", "refs/tags/"))}
    await asyncio.to_thread(_forget, site, theirs)
    lost = sorted(set(missing) - theirs)
    mine = {name: oid for name, oid in refs.items() if name.startswith(("refs/heads/", "refs/st"))}
    if not lost and not await objects.are_whole([*mine.values()], bases):
        return ("Some commits miss parts that the code host does not have any more.",)
    return tuple(
        f"{shown(name)} could not be restored: the code host does not have its commits any more."
        for name in lost[:LOST_MAX]
    )


def _forget(site: Site, names: Collection[str]) -> None:
    if not names:
        return
    with folders.opened(site.tree, FOLDER) as top:
        packed = folders.read(top, ".git/packed-refs", bytes_max=REFERENCE_BYTES_MAX)
    kept, is_kept = [], True
    for line in packed.splitlines(keepends=True):
        if not line.startswith(b"^"):
            is_kept = os.fsdecode(line.partition(b" ")[2].rstrip(b"\n")) not in names
        if is_kept:
            kept.append(line)
    with _writer(site) as writer:
        writer.replace("tree/.git/packed-refs", b"".join(kept))
        for name in names:
            with suppress(FileNotFoundError, NotADirectoryError):
                writer.remove(f"tree/.git/{name}")
