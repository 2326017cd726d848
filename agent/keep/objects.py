"""The git objects that a workspace made, in a bare repository of ours.

Loose objects are copied, packs are indexed again: nothing that says how to find objects is believed
from a stranger, and git never opens a path in a workspace.
"""

import asyncio
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from agent import files
from agent.git import GitFailed, git
from agent.keep import folders, index
from agent.keep.folders import FOLDER, Found

OID = re.compile(rb"\b[0-9a-f]{40}\b")
NAME_BYTES_MAX = 16 << 20
"""Of a file in `.git` that names objects: a log, packed references."""
REFERENCE_BYTES_MAX = 64 << 20
INDEX_BYTES_MAX = 512 << 20
NAMELESS = ("objects", "hooks", "info", "lfs", "modules", "worktrees")
"""Folders in `.git` that name no objects of this repository's branches."""


@dataclass(frozen=True, slots=True)
class Objects:
    """A bare repository with a workspace's own objects that borrows those of the mirror."""

    path: Path

    @classmethod
    async def taken(cls, tree: Path, mirror: Path, scratch: Path) -> "Objects":
        """Copy the objects of the working tree `tree` below the new folder `scratch`."""
        await git("init", "--quiet", "--bare", "--template=", str(scratch))
        (scratch / "objects/info").mkdir(exist_ok=True)
        (scratch / "objects/info/alternates").write_text(f"{mirror}/objects\n")
        taken = cls(scratch)
        for pack in await asyncio.to_thread(taken._copy, tree):
            try:
                await git("index-pack", str(pack), repository=scratch)
            except GitFailed:
                pack.unlink()
        return taken

    def _copy(self, tree: Path) -> list[Path]:
        packs = []
        with suppress(FileNotFoundError, NotADirectoryError), _inside(tree, "objects") as own:
            for found in folders.walk(own, enter=lambda one: one.depth == 0):
                target = self.path / "objects" / found.path
                if not found.is_file or not _is_object(found.path):
                    continue
                target.parent.mkdir(exist_ok=True)
                with os.fdopen(found.open(), "rb") as source, target.open("wb") as file:
                    shutil.copyfileobj(source, file)
                if found.path.endswith(".pack"):
                    packs.append(target)
        return packs

    async def existing(self, names: Collection[str]) -> set[str]:
        """Return which of these objects are here or in the mirror."""
        asked = "".join(f"{name}\n" for name in names).encode()
        listed = await git("cat-file", "--batch-check", repository=self.path, stdin=asked)
        lines = (line.split(" ") for line in listed.text.splitlines())
        return {line[0] for line in lines if len(line) == 3}

    async def count(self, tips: Collection[str], bases: Collection[str]) -> int:
        """Return how many commits are behind `tips` and not behind `bases`, 0 if nobody can say."""
        asked = "".join(f"{tip}\n" for tip in tips) + "".join(f"^{base}\n" for base in bases)
        argv = ("rev-list", "--count", "--ignore-missing", "--stdin")
        done = await git(*argv, repository=self.path, stdin=asked.encode(), check=False)
        return int(done.text) if tips and done.code == 0 else 0

    async def blobs(self, commit: str) -> Mapping[str, str]:
        """Return the content of every file of a commit by its path, nothing for none."""
        argv = ("ls-tree", "-r", "-z", commit)
        listed = await git(*argv, repository=self.path, check=False)
        found = {}
        for line in listed.out.split(b"\0") if commit else ():
            about, _, path = line.partition(b"\t")
            words = about.decode().split(" ")
            if len(words) == 3 and words[1] == "blob":
                found[os.fsdecode(path)] = words[2]
        return found

    async def are_whole(self, tips: Collection[str], bases: Collection[str]) -> bool:
        """Whether everything that `tips` are made of is here, down to `bases`."""
        asked = "".join(f"{tip}\n" for tip in tips) + "".join(f"^{base}\n" for base in bases)
        argv = ("rev-list", "--objects", "--quiet", "--stdin")
        done = await git(*argv, repository=self.path, stdin=asked.encode(), check=False)
        return done.code == 0

    async def pack(self, tips: Collection[str], bases: Collection[str]) -> Path | None:
        """Pack what `tips` are made of and `bases` are not; None for nothing.

        Raises:
            GitFailed: Some of it is missing.
        """
        asked = "".join(f"{tip}\n" for tip in tips) + "".join(f"^{base}\n" for base in bases)
        folder = self.path / "packed"
        folder.mkdir(exist_ok=True)
        await git(
            *("pack-objects", "--revs", "--quiet", "--non-empty", "--delta-base-offset"),
            str(folder / "pack"),
            repository=self.path,
            stdin=asked.encode(),
        )
        return next(folder.glob("*.pack"), None)

    def close(self) -> None:
        """Remove the repository."""
        files.remove(self.path)


@contextmanager
def _inside(tree: Path, name: str) -> Iterator[int]:
    """Hold a folder of the `.git` of a working tree open."""
    with (
        folders.opened(tree, FOLDER) as top,
        folders.opened(".git", FOLDER, folder=top) as inside,
        folders.opened(name, FOLDER, folder=inside) as opened,
    ):
        yield opened


def _is_object(path: str) -> bool:
    return bool(re.fullmatch(r"[0-9a-f]{2}/[0-9a-f]{38}|pack/pack-[0-9a-f]{40}\.pack", path))


def named(tree: Path) -> set[str]:
    """Return the objects that the `.git` of a working tree names as its own work.

    Those are what is checked out, branches, the stash, the index, logs, and a merge or rebase that
    goes on; not the branches and tags of the code host.
    """
    found: set[str] = set()
    with suppress(FileNotFoundError, NotADirectoryError), _inside(tree, ".") as inside:
        for one in folders.walk(inside, enter=lambda one: one.path not in NAMELESS):
            if not one.is_file or "refs/remotes/" in one.path or one.path == "FETCH_HEAD":
                continue
            if one.path == "index":
                found.update(index.read(_content(one, INDEX_BYTES_MAX)).values())
            elif one.path == "packed-refs":
                found.update(_packed(_content(one, NAME_BYTES_MAX)))
            else:
                found.update(_words(_content(one, NAME_BYTES_MAX)))
    return found


def references(tree: Path) -> dict[str, str]:
    """Return name and object of every reference in the `.git` of a working tree."""
    found: dict[str, str] = {}
    with suppress(FileNotFoundError, NotADirectoryError), _inside(tree, ".") as inside:
        for line in folders.read(inside, "packed-refs", bytes_max=REFERENCE_BYTES_MAX).splitlines():
            oid, _, name = line.partition(b" ")
            if OID.fullmatch(oid):
                found[os.fsdecode(name)] = oid.decode()
        for one in folders.walk(inside, enter=lambda one: one.path.split("/")[0] == "refs"):
            if one.is_file and one.path.startswith("refs/"):
                content = _content(one, NAME_BYTES_MAX).strip()
                if OID.fullmatch(content):
                    found[one.path] = content.decode()
    return found


def checked_out(tree: Path) -> tuple[str, str]:
    """Return the branch that is checked out in a working tree and its commit.

    The branch is empty if none is, the commit before its first one.
    """
    with folders.opened(tree, FOLDER) as top:
        text = folders.read(top, ".git/HEAD", bytes_max=NAME_BYTES_MAX).strip()
    if text.startswith(b"ref: "):
        name = os.fsdecode(text.removeprefix(b"ref: "))
        return name.removeprefix("refs/heads/"), references(tree).get(name, "")
    return "", text.decode() if OID.fullmatch(text) else ""


def staged(tree: Path) -> Mapping[str, str]:
    """Return the content of every path in the index of a working tree."""
    with folders.opened(tree, FOLDER) as top:
        return index.read(folders.read(top, ".git/index", bytes_max=INDEX_BYTES_MAX))


def tracked(tree: Path) -> set[str]:
    """Return the paths in the index of a working tree."""
    return set(staged(tree))


def _content(found: Found, bytes_max: int) -> bytes:
    with os.fdopen(found.open(), "rb") as file:
        return file.read(bytes_max)


def _packed(text: bytes) -> set[str]:
    lines = (line for line in text.splitlines() if not line.startswith((b"#", b"^")))
    return _words(b"\n".join(line for line in lines if b" refs/remotes/" not in line))


def _words(text: bytes) -> set[str]:
    return {word.decode() for word in OID.findall(text)}
