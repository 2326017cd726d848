"""Make a rescue copy: write it, read it back, compare it with what lies in the workspace."""

import asyncio
import errno
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from secrets import token_hex

from agent import disk, files
from agent.errors import NodeError
from agent.git import GitFailed, git
from agent.keep import folders
from agent.keep.archive import (
    Facts,
    Manifest,
    Member,
    Same,
    Writer,
    blob_of,
    damaged,
    members,
    sha256_of,
    shown,
)
from agent.keep.folders import FOLDER, Found
from agent.keep.ignored import RULES_BYTES_MAX, Choice, Rules
from agent.keep.objects import Objects, checked_out, named, tracked
from agent.keep.site import OF_THE_NODE, Site
from agent.keep.survey import look, looks, open_roots, unkeepable

TRIES = 3
"""Something may be about to end when a copy is made; whoever works on is told to stop."""
LEFT_MAX = 1000
PLAIN = {"100644", "100755"}
CHANGED = {errno.ENOENT, errno.ESTALE, errno.ELOOP, errno.ENOTDIR, errno.ENXIO}
"""What one meets when names are changed while they are read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A copy that is on this node's disk, whole and compared.

    Attributes:
        sha256: Of the file, in hex; its name is this with `.copy`.
        branch: What was checked out, empty for no branch.
        head: Its commit, empty before the first one.
        left: Sentences about what is in the workspace and not in the copy, 1,000 things by name.
        left_count: How many things those are.
    """

    path: Path
    sha256: str
    size_bytes: int
    branch: str
    head: str
    left: tuple[str, ...]
    left_count: int


async def capture(
    site: Site, *, scratch: Path, target: Path, outside: tuple[str, ...] = ()
) -> Copy:
    """Make a copy of a workspace in the folder `target`. Nothing in the workspace is changed.

    It is written below `scratch`, which may be emptied at any start, on the same file system.
    `outside` are sentences about what else the workspace has, which no copy holds.

    Raises:
        NodeError: `workspace_busy` if the workspace was changed all the time, `disk_full`, or
            `workspace_unreadable`. Then there is no copy.
    """
    part = scratch / f"copy-{token_hex(8)}"
    part.mkdir(parents=True)
    try:
        for _ in range(TRIES):
            repository = await _repository(site, part, outside)
            taken = await asyncio.to_thread(_attempt, site, repository, part)
            if taken is not None:
                return await asyncio.to_thread(_finish, site, taken, target, repository)
            await asyncio.to_thread(repository.close)
    except OSError as error:
        if disk.is_full(error):
            raise disk.full(scratch) from error
        raise NodeError(
            "workspace_unreadable",
            f"The workspace {site.workspace} cannot be read: {error}; look at its files.",
        ) from error
    finally:
        await asyncio.to_thread(files.remove, part)
    raise NodeError(
        "workspace_busy",
        f"Files in the workspace {site.workspace} change while they are copied; stop what runs "
        "there and try again.",
    )


def _attempt(site: Site, repository: "_Repository", part: Path) -> "_Taken | None":
    """Write a copy and compare it; None if the workspace was changed meanwhile."""
    try:
        taken = _write(site, repository, part)
        return taken if _is_equal(site, taken) else None
    except OSError as error:
        if error.errno not in CHANGED:
            raise
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Repository:
    """What is known of the repository before files are read.

    Attributes:
        base: Blob of the plain files in the base commit by path.
        tracked: What is in the index.
        objects: The repository of ours that `packs` are in.
        packs: Files to add to the workspace's own packs, for what it borrowed.
    """

    base: Mapping[str, str]
    tracked: Collection[str]
    objects: Objects
    packs: tuple[Path, ...] = ()
    left: tuple[str, ...] = ()

    def close(self) -> None:
        """Remove what was made for it."""
        self.objects.close()


async def _repository(site: Site, part: Path, outside: tuple[str, ...]) -> _Repository:
    objects = await Objects.taken(site.tree, site.mirror, part / "objects.git")
    base = await _base(site)
    known = _Repository(
        base=base,
        tracked=await asyncio.to_thread(tracked, site.tree),
        objects=objects,
        left=outside,
    )
    bases, tags = await _on_the_code_host(site)
    names = await asyncio.to_thread(named, site.tree) - tags - set(base.values())
    try:
        pack = await objects.pack(await objects.existing(names), bases)
    except GitFailed:
        missed = "git misses objects here; what there is was kept as it is."
        return replace(known, left=(*outside, missed))
    return replace(known, packs=(pack, pack.with_suffix(".idx")) if pack else ())


async def _base(site: Site) -> Mapping[str, str]:
    listed = await git(
        *("ls-tree", "-r", "-z", site.base_commit), repository=site.mirror, check=False
    )
    found = {}
    for line in listed.out.split(b"\0"):
        about, _, path = line.partition(b"\t")
        words = about.decode().split(" ")
        if len(words) == 3 and words[0] in PLAIN:
            found[os.fsdecode(path)] = words[2]
    return found


async def _on_the_code_host(site: Site) -> tuple[list[str], set[str]]:
    """Return the commits that need no copy, and the code host's tags."""
    listed = await git(
        *("for-each-ref", "--format=%(refname) %(objectname)", "refs/tags"),
        f"refs/heads/{site.base}",
        repository=site.mirror,
    )
    refs = dict(line.split(" ") for line in listed.text.splitlines())
    head = refs.pop(f"refs/heads/{site.base}", site.base_commit)
    bases = {site.base_commit, head}
    present = await git(
        *("cat-file", "--batch-check"),
        repository=site.mirror,
        stdin="".join(f"{base}\n" for base in bases).encode(),
    )
    lines = [line.split(" ") for line in present.text.splitlines()]
    return [line[0] for line in lines if len(line) == 3], set(refs.values())


# Writing


@dataclass(slots=True, kw_only=True)
class _Taken:
    """What one attempt wrote: every name with what must still be true of it.

    Attributes:
        left: Why something was left out, by its name.
        looks: Of files that are as in the base commit, by which a change of them is seen.
        added: Names that are in the copy only.
    """

    file: Path
    left: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Facts] = field(default_factory=dict)
    looks: dict[str, tuple[int, ...]] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)
    same: list[Same] = field(default_factory=list)
    added: set[str] = field(default_factory=set)

    def spoken(self) -> list[tuple[str, str]]:
        """Return what was left out and is told, with why."""
        return [(name, why) for name, why in self.left.items() if why]

    def sentences(self) -> Iterator[str]:
        """Say what was left out."""
        spoken = self.spoken()
        for name, why in spoken[:LEFT_MAX]:
            yield f"{shown(name.partition('/')[2])} {why}."
        if len(spoken) > LEFT_MAX:
            yield f"{len(spoken) - LEFT_MAX} more were not kept."


def _write(site: Site, repository: _Repository, part: Path) -> _Taken:
    taken = _Taken(file=part / "part")
    with taken.file.open("wb") as file:
        taken.file.chmod(0o600)
        writer = Writer(file)
        for root, top in open_roots(site):
            if root == "tree":
                with Rules(part / "rules", exclude=_read(top, ".git/info/exclude")) as rules:
                    choice = Choice(rules, top, repository.tracked)
                    _write_root(root, top, taken, writer, _Choose(repository.base, choice.why_not))
            else:
                _write_root(root, top, taken, writer, _Choose())
        _add_packs(repository, taken, writer)
        taken.sha256 = writer.sha256
        writer.end(
            Manifest(
                workspace=site.workspace,
                url=site.url,
                base=site.base,
                base_commit=site.base_commit,
                head=_head(site),
                left=(*repository.left, *taken.sentences()),
                same=tuple(taken.same),
                sha256=writer.sha256,
            )
        )
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # Read back from the disk.
    return taken


@dataclass(frozen=True, slots=True)
class _Choose:
    """What is left out of a root, and what needs no content."""

    base: Mapping[str, str] = field(default_factory=dict)
    why_not: Callable[[Found], str] = lambda _: ""


def _write_root(root: str, top: int, taken: _Taken, writer: Writer, choose: "_Choose") -> None:
    def is_left(name: str, found: Found) -> bool:
        if name in OF_THE_NODE:
            taken.left[name] = ""
        elif why := unkeepable(name, found) or choose.why_not(found):
            taken.left[name] = why
        return name in taken.left

    for member, found in look(root, top, is_left):
        taken.facts[member.name] = member.facts
        if found is None or member.kind != "file":
            writer.add(member)
        elif (
            found.stat.st_nlink == 1
            and (blob := choose.base.get(found.path))
            and _is_blob(found, blob)
        ):
            taken.same.append(Same(path=found.path, mode=member.mode, blob=blob))
            taken.looks[member.name] = looks(found)
        else:
            writer.add(member, found.open())


def _is_blob(found: Found, blob: str) -> bool:
    with os.fdopen(found.open(), "rb", buffering=0) as file:
        return blob_of(file, found.stat.st_size) == blob


def _read(top: int, path: str) -> bytes:
    return folders.read(top, path, bytes_max=RULES_BYTES_MAX)


def _head(site: Site) -> str:
    with folders.opened(site.tree, FOLDER) as top:
        return _read(top, ".git/HEAD").decode(errors="replace").strip()[:200]


def _add_packs(repository: _Repository, taken: _Taken, writer: Writer) -> None:
    """Put what the workspace borrowed beside what it has, as one more pack."""
    objects = "tree/.git/objects"
    if taken.facts.get(objects, ("",))[0] != "folder":
        return
    made = [Member(name=f"{objects}/pack", kind="folder", mode=0o755, mtime=0)]
    made += [
        Member(name=f"{objects}/pack/{pack.name}", kind="file", mode=0o444, mtime=0)
        for pack in repository.packs
    ]
    for member, pack in zip(made, (None, *repository.packs), strict=True):
        if repository.packs and member.name not in taken.facts:
            writer.add(member, os.open(pack, os.O_RDONLY | os.O_CLOEXEC) if pack else None)
            taken.facts[member.name] = member.facts
            taken.added.add(member.name)


# Comparing


def _is_equal(site: Site, taken: _Taken) -> bool:
    """Whether the copy on the disk holds what lies in the workspace now."""
    stored = dict(_read_back(taken))
    seen = set(taken.added)
    for root, top in open_roots(site):
        for member, found in look(root, top, lambda name, _: name in taken.left):
            seen.add(member.name)
            if taken.facts.get(member.name) != member.facts:
                return False
            if found is None or member.kind != "file":
                continue
            if member.name in taken.looks:
                if taken.looks[member.name] != looks(found):
                    return False
            elif _sha256(found) != stored.get(member.name):
                return False
    return seen == set(taken.facts)


def _read_back(taken: _Taken) -> Iterator[tuple[str, str]]:
    """Yield the SHA-256 of the files in the copy as it is on the disk.

    Raises:
        NodeError: `copy_refused`, if it is not what was written.
    """
    count = 0
    for member in members(taken.file):
        if isinstance(member, Manifest):
            break
        count += 1
        if member.facts != taken.facts.get(member.name):
            raise damaged(member.name)
        if member.file is not None:
            digest = sha256_of(member.file)
            if digest != taken.sha256.get(member.name):
                raise damaged(member.name)
            yield member.name, digest
    if count + len(taken.same) != len(taken.facts):
        raise damaged("its end")


def _sha256(found: Found) -> str:
    with os.fdopen(found.open(), "rb", buffering=0) as file:
        return sha256_of(file)


def _finish(site: Site, taken: _Taken, target: Path, repository: _Repository) -> Copy:
    with taken.file.open("rb") as file:
        sha256 = sha256_of(file)
    target.mkdir(parents=True, exist_ok=True)
    size = taken.file.stat().st_size
    path = taken.file.replace(target / f"{sha256}.copy")
    files.settle(target)
    branch, head = checked_out(site.tree)
    return Copy(
        path=path,
        sha256=sha256,
        size_bytes=size,
        branch=branch,
        head=head,
        left=(*repository.left, *taken.sentences()),
        left_count=len(repository.left) + len(taken.spoken()),
    )
