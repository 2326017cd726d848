"""Looking into a workspace: its folders and files, what git says has changed, what listens.

Folders and files are read on this host, below the checkout, and no symbolic link is followed on
the way, so nothing that the workspace made leads out of it. git runs inside the container, as the
remote user: its configuration is the workspace's own.
"""

import asyncio
import json
import os
import re
import stat
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol
from urllib.parse import quote_from_bytes, unquote_to_bytes

from agent import files
from agent.collect import GIT
from agent.docker import CommandOverdue, Engine
from agent.errors import NodeError
from agent.record import Record
from core.browse import (
    DIFF_BYTES_MAX,
    ENTRIES_MAX,
    Change,
    Changes,
    Entry,
    EntryKind,
    Listing,
    Ports,
)
from core.ids import WorkspaceId
from core.wire import STREAM_CHUNK_BYTES, OpenStream, to_json

FOLDER, FILE, CHANGES, PORTS = "folder", "file", "changes", "ports"
"""What can be asked for by `OpenStream.what`; its name is `{workspace}/{percent-encoded path}`."""
GIT_S_MAX = 60.0
STATUS = f"""
{GIT} status --porcelain=v1 -z --untracked-files=all --no-renames
"""
DIFF = f"""
{GIT} diff --no-color --no-ext-diff --no-textconv --no-renames --ignore-submodules=all "$1" --
"""
Reading = AsyncGenerator[bytes]


class Tree(Protocol):
    """Workspaces, to be looked into. What is not there raises `NodeError`."""

    async def folder(self, workspace: WorkspaceId, path: str) -> Listing:
        """Return what is in a folder."""
        ...

    def file(self, workspace: WorkspaceId, path: str) -> Reading:
        """Read a file."""
        ...

    async def changes(self, workspace: WorkspaceId) -> Changes:
        """Return what has changed."""
        ...

    async def ports(self, workspace: WorkspaceId) -> Ports:
        """Return what listens."""
        ...


def sources(tree: Tree) -> Mapping[str, Callable[[OpenStream], Reading]]:
    """Return what the control plane can ask for, for `Streams`."""

    async def folder(wanted: OpenStream) -> Reading:
        async for chunk in _as_json(await tree.folder(*_split(wanted.name))):
            yield chunk

    async def file(wanted: OpenStream) -> Reading:
        async for chunk in tree.file(*_split(wanted.name)):
            yield chunk

    async def changes(wanted: OpenStream) -> Reading:
        async for chunk in _as_json(await tree.changes(_split(wanted.name)[0])):
            yield chunk

    async def ports(wanted: OpenStream) -> Reading:
        async for chunk in _as_json(await tree.ports(_split(wanted.name)[0])):
            yield chunk

    return {FOLDER: folder, FILE: file, CHANGES: changes, PORTS: ports}


def _split(name: str) -> tuple[WorkspaceId, str]:
    workspace, _, path = name.partition("/")
    try:
        return WorkspaceId(files.plain(workspace)), path
    except ValueError:
        raise NodeError("workspace_gone", "There is no such workspace on this node.") from None


def read_folder(root: Path, path: str) -> Listing:
    """Return what is in a folder below `root`.

    Raises:
        NodeError: `no_such_file`.
    """
    with opened(root, parts_of(path), os.O_DIRECTORY) as folder:
        entries: list[Entry] = []
        with os.scandir(folder) as names:
            for name in names:
                if len(entries) == ENTRIES_MAX:
                    return Listing(entries=_sorted(entries), is_cut=True)
                entries.append(_entry(name))
    return Listing(entries=_sorted(entries))


def _sorted(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    return tuple(sorted(entries, key=lambda entry: (entry.kind != "folder", entry.name)))


def _entry(found: "os.DirEntry[str]") -> Entry:
    status = found.stat(follow_symlinks=False)
    return Entry(
        name=quote_from_bytes(os.fsencode(found.name)),
        kind=_kind(status.st_mode),
        size=status.st_size,
        modified_at=status.st_mtime,
    )


def _kind(mode: int) -> EntryKind:
    if stat.S_ISDIR(mode):
        return "folder"
    if stat.S_ISREG(mode):
        return "file"
    return "link" if stat.S_ISLNK(mode) else "other"


async def read_file(root: Path, path: str) -> Reading:
    """Yield the bytes of a file below `root`.

    Raises:
        NodeError: `no_such_file`.
    """
    parts = parts_of(path)
    with opened(root, parts, os.O_PATH) as found:
        if not stat.S_ISREG(os.fstat(found).st_mode):  # Opening a device would already use it.
            raise missing(parts)
        file = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC)
    with os.fdopen(file, "rb", buffering=0) as reading:
        while chunk := await asyncio.to_thread(reading.read, STREAM_CHUNK_BYTES):
            yield chunk


async def read_changes(engine: Engine, record: Record) -> Changes:
    """Return what git says has changed in a workspace whose container runs.

    Raises:
        NodeError: `workspace_git_broken`, `git_too_slow`, or what Docker says.
    """
    status = await _git(engine, record, STATUS)
    diff = await _git(engine, record, DIFF, record.base_commit)
    return Changes(
        base=record.base_commit,
        status=tuple(_changes(status)),
        diff=diff[:DIFF_BYTES_MAX].decode("utf-8", "replace"),
        is_cut=len(diff) > DIFF_BYTES_MAX,
    )


def _changes(status: bytes) -> Iterator[Change]:
    """Read `git status --porcelain=v1 -z` (git-status(1), "Porcelain Format Version 1")."""
    for line in status.split(b"\0"):
        if found := re.fullmatch(rb"(.)(.) (.+)", line, re.DOTALL):
            index, tree, path = found.groups()
            letters = (index + tree).decode("ascii", "replace").replace(" ", ".")
            yield Change(path=quote_from_bytes(path), index=letters[0], tree=letters[1])


async def _git(engine: Engine, record: Record, script: str, *words: str) -> bytes:
    """Return the beginning of what git prints, a byte more than is told at most."""
    taken = bytearray()

    def take(chunk: bytes) -> None:
        taken.extend(chunk[: DIFF_BYTES_MAX + 1 - len(taken)])

    try:
        done = await engine.run(
            record.container,
            ["sh", "-c", script, "sh", *words],
            user=record.user,
            folder=record.folder,
            time_limit_s=GIT_S_MAX,
            sink=take,
        )
    except CommandOverdue as error:
        raise NodeError(
            "git_too_slow", f"git took longer than {GIT_S_MAX:.0f} s in the workspace; try again."
        ) from error
    if done.code:
        raise NodeError(
            "workspace_git_broken",
            f"git failed in the workspace: {done.complaint[-200:]}; look with git status there.",
        )
    return bytes(taken)


async def _as_json(value: Listing | Changes | Ports) -> Reading:
    """Yield `value` as JSON text, in chunks of a stream."""
    text = json.dumps(to_json(value), separators=(",", ":")).encode()
    for start in range(0, len(text), STREAM_CHUNK_BYTES):
        yield text[start : start + STREAM_CHUNK_BYTES]


def parts_of(path: str) -> list[str]:
    """Return the names of a percent-encoded path below the checkout."""
    names = [os.fsdecode(name) for name in unquote_to_bytes(path).split(b"/") if name]
    if any(name in {".", ".."} or "\0" in name for name in names):
        raise missing(names)
    return names


@contextmanager
def opened(root: Path, parts: Sequence[str], flags: int) -> Iterator[int]:
    """Open what lies below `root` for reading, following no symbolic link after `root` itself."""
    with ExitStack() as stack:
        here = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, here)
        for number, name in enumerate(parts, start=1):
            wanted = flags if number == len(parts) else os.O_DIRECTORY
            try:
                here = os.open(
                    name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | wanted, dir_fd=here
                )
            except OSError as error:
                raise missing(parts) from error
            stack.callback(os.close, here)
        yield here


def missing(parts: Sequence[str]) -> NodeError:
    """Return what is said of a path that leads nowhere."""
    shown = "/".join(parts)[:200].encode("utf-8", "replace").decode()
    return NodeError("no_such_file", f"There is no {shown or 'such file'} in the workspace now.")
