"""Ready trees: checked out once per commit and uid, never changed afterwards.

Writing 20,000 files costs seconds and no git option avoids it; an overlay on a ready tree does. A
tree is the lower layer of mounted overlays, so it is only ever made whole, or deleted unused.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from agent import files, overlay
from agent.git import git
from agent.mirror import Heads, Mirror
from agent.process import Identity

BORROWED = "/opt/samovar/objects"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """One ready tree."""

    path: Path
    commit: str


class Trees:
    """The ready trees of one repository."""

    def __init__(self, layout: files.Layout, mirror: Mirror) -> None:
        self._mirror = mirror
        self._folder = layout.trees(mirror.repository, mirror.url)
        self.choosing = asyncio.Lock()
        """Held from choosing a tree until it is mounted, and while unused ones are deleted."""

    def find(self, commit: str, uid: int) -> Tree | None:
        """Return the tree of `commit`, else the newest of another commit, else None."""
        ready = [path for path in self._all() if path.name == str(uid)]
        for path in ready:
            if path.parent.name == commit:
                return Tree(path=path, commit=commit)
        newest = max(ready, key=lambda path: path.stat().st_ctime, default=None)
        return Tree(path=newest, commit=newest.parent.name) if newest else None

    async def make(self, commit: str, owner: Identity) -> Tree:
        """Check `commit` out into a new ready tree, unless it is there."""
        path = self._folder / commit / str(owner.uid)
        if not path.exists():
            async with self._part(owner) as part:
                await clone(
                    part,
                    commit,
                    owner,
                    heads=await self._mirror.heads(),
                    lenders=(self._mirror.path,),
                )
                path.parent.mkdir(parents=True, exist_ok=True)
                if not path.exists():
                    part.rename(path)
        return Tree(path=path, commit=commit)

    async def collect(self, used: Collection[Path]) -> None:
        """Delete the trees that no workspace uses, but the newest of each uid."""
        async with self.choosing:
            await asyncio.to_thread(self._collect, {*used, *overlay.lowers()})

    def _collect(self, used: Collection[Path]) -> None:
        by_age = sorted(self._all(), key=lambda path: path.stat().st_ctime)
        newest = {path.name: path for path in by_age}
        for path in by_age:
            if path not in used and path not in newest.values():
                files.remove(path)
        for commit in self._folder.glob("*"):
            if not any(commit.iterdir()):
                commit.rmdir()

    def _all(self) -> Iterable[Path]:
        return [path for path in self._folder.glob("*/*") if path.is_dir()]

    @asynccontextmanager
    async def _part(self, owner: Identity) -> AsyncGenerator[Path]:
        part = self._folder.parent / ".part" / token_hex(8)
        part.mkdir(parents=True)
        os.chown(part, owner.uid, owner.gid)
        try:
            yield part
        finally:
            files.remove(part)


async def clone(
    folder: Path, commit: str, owner: Identity, *, heads: Heads, lenders: Sequence[Path]
) -> None:
    """Make a repository in the empty `folder` that borrows the objects of bare ones.

    It has the code host's branches as `origin/…`, its tags, and `commit` checked out detached.
    """
    inside = folder / ".git"
    await git("init", "--quiet", "--template=", str(folder), identity=owner)
    write_lenders(inside, lenders, owner)
    write_references(inside, heads, owner)
    tree = {"GIT_WORK_TREE": str(folder)}
    await git(
        *("checkout", "--quiet", "--force", "--detach", commit),
        repository=inside,
        identity=owner,
        extra=tree,
    )


def write_lenders(inside: Path, lenders: Sequence[Path], owner: Identity) -> None:
    """Let the git directory `inside` borrow the objects of bare repositories on this host."""
    _write_alternates(inside, [f"{lender}/objects" for lender in lenders], owner)


def write_lenders_inside(inside: Path, count: int, owner: Identity) -> None:
    """Let it borrow them where they are in the container; git on the host is over with it.

    Not the same path as here: the state folder may lie below one that the user cannot enter.
    """
    _write_alternates(inside, [borrowed(number) for number in range(count)], owner)


def borrowed(number: int) -> str:
    """Return where a container finds the objects of the lender with this number."""
    return f"{BORROWED}/{number}"


def _write_alternates(inside: Path, folders: Sequence[str], owner: Identity) -> None:
    text = "".join(f"{folder}\n" for folder in folders)
    write_owned(inside / "objects/info/alternates", text, owner)


def write_references(inside: Path, heads: Heads, owner: Identity) -> None:
    """Write the code host's branches and tags into the git directory `inside`."""
    lines = [f"{oid} refs/remotes/origin/{name}" for name, oid in heads.commits.items()]
    lines += [f"{oid} refs/tags/{name}" for name, oid in heads.tags.items()]
    write_owned(inside / "packed-refs", "".join(f"{line}\n" for line in lines), owner)


def write_owned(path: Path, text: str, owner: Identity) -> None:
    """Replace a file of a workspace that is not running yet."""
    path.parent.mkdir(exist_ok=True)
    os.chown(path.parent, owner.uid, owner.gid)
    files.write(path, text, mode=0o644)
    os.chown(path, owner.uid, owner.gid)
