"""The file of a copy: a gzipped tar (POSIX.1-2001) whose last member is a manifest.

`tar -xzf` unpacks one: `tree/` is the working tree with its `.git`, `agent/` the coding agent's own
folder, `terminals/` what terminals wrote. Files that are as in the base commit are in the manifest
only. A reader takes nothing from a file that is not what a writer makes.
"""

import gzip
import hashlib
import json
import os
import re
import stat
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, BinaryIO

from agent.errors import NodeError

VERSION = 1
MANIFEST = "manifest.json"
ROOTS = frozenset({"tree", "agent", "terminals"})
MEMBERS_MAX = 2_000_000
BYTES_MAX = 1 << 40
MANIFEST_BYTES_MAX = 512 << 20
CHUNK_BYTES = 1 << 20
BLOCK = 512
OID = re.compile(r"[0-9a-f]{40}")
Facts = tuple[str, int, str]
"""Kind, mode and target of a member."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Same:
    """A file that is as in the base commit.

    Attributes:
        blob: git's name for its content.
    """

    path: str
    mode: int
    blob: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a copy says about itself.

    Attributes:
        head: What `.git/HEAD` says, for people.
        left: What was not kept, as sentences.
        sha256: The SHA-256 of every stored file by its name.
    """

    workspace: str
    url: str
    base: str
    base_commit: str
    head: str
    left: tuple[str, ...]
    same: tuple[Same, ...] = field(repr=False)
    sha256: dict[str, str] = field(repr=False)
    version: int = VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One thing in a copy.

    Attributes:
        name: Where it belongs, `tree/src/main.py`; the roots have no slash.
        kind: `folder`, `file`, `symlink`, or `link` for one more name of a file before it.
        target: Where a symlink points to, or the file's other name.
        file: The content of a `file`, to be read before the next member is asked for.
    """

    name: str
    kind: str
    mode: int
    mtime: float
    target: str = ""
    file: IO[bytes] | None = field(default=None, repr=False)

    @property
    def facts(self) -> Facts:
        """What two of them have in common that are the same but for their content."""
        return self.kind, 0 if self.kind == "symlink" else self.mode, self.target


class Writer:
    """Writes a copy from its first member to its manifest."""

    def __init__(self, file: BinaryIO) -> None:
        self._out = gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1, mtime=0)
        self.sha256: dict[str, str] = {}

    def add(self, member: Member, content: int | None = None) -> None:
        """Write a member; `content` is the open file of a `file`, and is closed."""
        info = tarfile.TarInfo(member.name)
        info.mode, info.mtime = member.mode, member.mtime
        info.type = _TYPES[member.kind]
        info.linkname = member.target
        if content is None:
            self._header(info)
            return
        with os.fdopen(content, "rb", buffering=0) as file:
            info.size = os.fstat(content).st_size
            self._header(info)
            self.sha256[member.name] = self._content(file, info.size)

    def end(self, manifest: Manifest) -> None:
        """Write the manifest and the end; the file itself stays open."""
        text = json.dumps(asdict(manifest), separators=(",", ":")).encode()
        info = tarfile.TarInfo(MANIFEST)
        info.size = len(text)
        self._header(info)
        self._out.write(text + bytes(-len(text) % BLOCK + 2 * BLOCK))
        self._out.close()

    def _header(self, info: tarfile.TarInfo) -> None:
        self._out.write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))

    def _content(self, file: IO[bytes], size: int) -> str:
        digest, left = hashlib.sha256(), size
        while left:
            chunk = file.read(min(left, CHUNK_BYTES))
            chunk = chunk or bytes(min(left, CHUNK_BYTES))  # It shrank: comparing will tell.
            digest.update(chunk)
            self._out.write(chunk)
            left -= len(chunk)
        self._out.write(bytes(-size % BLOCK))
        return digest.hexdigest()


_TYPES = {
    "folder": tarfile.DIRTYPE,
    "file": tarfile.REGTYPE,
    "symlink": tarfile.SYMTYPE,
    "link": tarfile.LNKTYPE,
}
_KINDS = {kind: name for name, kind in _TYPES.items()}


def members(copy: Path) -> Iterator[Member | Manifest]:
    """Yield what is in a copy, the manifest last.

    Raises:
        NodeError: `copy_refused` for what no writer of ours makes: names that lead elsewhere, twice
            the same one, things in what is no folder, devices, too much of it.
    """
    seen: dict[str, str] = {}
    bytes_left = BYTES_MAX
    with _reading(copy) as tar:
        for info in tar:
            tar.members.clear()  # type: ignore[attr-defined]  # It would remember all of them.
            if info.name == MANIFEST:
                yield _manifest(tar.extractfile(info), info.size, seen)
                return
            member = _member(tar, info, seen)
            seen[member.name] = member.kind
            bytes_left -= info.size
            if bytes_left < 0 or len(seen) > MEMBERS_MAX:
                raise _refused("it holds too much")
            yield member
        raise _refused("its end is missing")


@contextmanager
def _reading(copy: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(copy, "r|gz", encoding="utf-8", errors="surrogateescape") as tar:
            yield tar
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError) as error:
        raise _refused(str(error)) from error


def _member(tar: tarfile.TarFile, info: tarfile.TarInfo, seen: dict[str, str]) -> Member:
    kind, name = _KINDS.get(info.type, ""), info.name
    if not kind or not _is_below(name):
        raise _refused(f"{name!r:.200} may not be in it")
    parent = name.rpartition("/")[0]
    if (
        name in seen
        or (parent and seen.get(parent) != "folder")
        or (not parent and kind != "folder")
    ):
        raise _refused(f"{name!r:.200} is in no folder of it, or is there twice")
    if kind == "link" and (
        seen.get(info.linkname) != "file" or _root(info.linkname) != _root(name)
    ):
        raise _refused(f"{name!r:.200} is a link to something else")
    if info.size and kind != "file":
        raise _refused(f"{name!r:.200} has a content")
    return Member(
        name=name,
        kind=kind,
        mode=stat.S_IMODE(info.mode),
        mtime=float(info.mtime),
        target=info.linkname,
        file=tar.extractfile(info) if kind == "file" else None,
    )


def _is_below(name: str) -> bool:
    parts = name.split("/")
    return parts[0] in ROOTS and not {"", ".", ".."} & set(parts) and "\0" not in name


def _root(name: str) -> str:
    return name.partition("/")[0]


def _manifest(file: IO[bytes] | None, size: int, seen: Mapping[str, str]) -> Manifest:
    if file is None or size > MANIFEST_BYTES_MAX:
        raise _refused("its manifest is too long")
    try:
        raw = json.loads(file.read())
        manifest = Manifest(
            **{
                **raw,
                "left": tuple(map(str, raw["left"])),
                "same": tuple(Same(**one) for one in raw["same"]),
            }
        )
    except (TypeError, KeyError, RecursionError) as error:
        raise _refused("its manifest cannot be read") from error
    if manifest.version != VERSION:
        raise _refused(f"its version is {manifest.version!r:.20}")
    if not OID.fullmatch(str(manifest.base_commit)):
        raise _refused("it names no commit that its work starts from")
    names = [f"tree/{same.path}" for same in manifest.same]
    for same, name in zip(manifest.same, names, strict=True):
        types = type(same.path), type(same.mode), type(same.blob)
        if types != (str, int, str) or not OID.fullmatch(same.blob) or not _is_below(name):
            raise _refused(f"{name!r:.200} may not be in it")
        if name in seen or seen.get(name.rpartition("/")[0]) != "folder":
            raise _refused(f"{name!r:.200} is in no folder of it, or is there twice")
    if len(set(names)) < len(names):
        raise _refused("a file is there twice")
    return manifest


def damaged(name: str) -> NodeError:
    """Return what to say of a copy that does not hold what was written to it."""
    return _refused(f"{shown(name)} is not what was written; the disk may be broken")


def _refused(why: str) -> NodeError:
    return NodeError("copy_refused", f"The rescue copy cannot be used: {why}; restore another one.")


def sha256_of(file: IO[bytes]) -> str:
    """Return the SHA-256 of what can be read, in hex."""
    digest = hashlib.sha256()
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def blob_of(file: IO[bytes], size: int) -> str:
    """Return git's name for a content of this size."""
    digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def shown(name: str) -> str:
    """Return a name that is safe to show: names are data of strangers."""
    return "".join(c if c.isprintable() else "?" for c in name)[:200]
