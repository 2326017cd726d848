"""Writing a file that somebody sends into a workspace: whole or not at all.

It is written on this host, below the checkout, and no symbolic link is followed on the way. Until
it is whole it has no name, so an interruption at any point leaves nothing behind.
"""

import asyncio
import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from agent.browse import opened, parts_of
from agent.disk import LOW_MB, is_full
from agent.errors import NodeError
from core.browse import UPLOAD_BYTES_MAX
from core.viewing import View, ViewClosedError
from core.wire import PutFile

MODE = 0o644
NAME_BYTES_MAX = 255
_NO_TMPFILE = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT})
"""What a file system says that knows no files without a name (open(2), O_TMPFILE)."""


async def put_file(
    root: Path,
    wanted: PutFile,
    pipe: View,
    *,
    uid: int,
    gid: int,
    naming: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
) -> None:
    """Take a file as `PutFile` says, and give it to a user. An end before its end changes nothing.

    `naming` is held while the file, which is whole by then, gets its name.

    Raises:
        NodeError: `bad_name`, `no_such_file` (its folder), `file_exists`, `not_a_file`,
            `disk_full`, `too_large` or `upload_cut`; and what `naming` raises.
    """
    *folders, name = parts_of(wanted.path) or [""]
    if not name or wanted.path.endswith("/") or len(os.fsencode(name)) > NAME_BYTES_MAX:
        raise NodeError("bad_name", "That is no name for a file.")
    with opened(root, folders, os.O_DIRECTORY) as folder:
        mode = _mode(folder, name, replaces=wanted.replaces)
        _check_room(folder, wanted.size_bytes)
        with _translated(), _fresh(folder) as fresh, suppress(ViewClosedError):
            await pipe.send(b"")
            await _take(fresh.file, wanted.size_bytes, pipe)
            os.fchown(fresh.file, uid, gid)
            os.fchmod(fresh.file, mode)
            await asyncio.to_thread(os.fsync, fresh.file)
            async with naming():
                fresh.name_it(name, replaces=wanted.replaces)
            await pipe.send(b"")
            await pipe.close(1000, "")


def _mode(folder: int, name: str, *, replaces: bool) -> int:
    """Return the permissions of the file that may be replaced, or those of a new one."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return MODE
    if not stat.S_ISREG(found.st_mode):
        raise NodeError("not_a_file", "Something that is no file has this name.")
    if not replaces:
        raise _exists()
    return stat.S_IMODE(found.st_mode) & 0o777


def _check_room(folder: int, size_bytes: int) -> None:
    if size_bytes > UPLOAD_BYTES_MAX:
        raise _too_large()
    disk = os.fstatvfs(folder)
    if size_bytes > disk.f_bavail * disk.f_frsize - (LOW_MB << 20):
        raise _full()


async def _take(file: int, size_bytes: int, pipe: View) -> None:
    taken = 0
    while data := await pipe.receive():
        taken += len(data)
        if taken > UPLOAD_BYTES_MAX:
            raise _too_large()
        await asyncio.to_thread(_write, file, data)
    if size_bytes not in {-1, taken}:
        raise NodeError("upload_cut", "Not all of the file came.")


def _write(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


@dataclass(frozen=True, slots=True)
class _Fresh:
    """A file of a folder that is being written.

    Attributes:
        draft: Its name meanwhile, empty where it needs none.
    """

    folder: int
    file: int
    draft: str

    def name_it(self, name: str, *, replaces: bool) -> None:
        """Give it its name. A name that somebody else has taken meanwhile stays theirs."""
        place = {"dst_dir_fd": self.folder}
        source = self.draft or f"/proc/self/fd/{self.file}"
        inside = {"src_dir_fd": self.folder} if self.draft else {}
        if not replaces:
            try:
                os.link(source, name, follow_symlinks=not self.draft, **inside, **place)
            except FileExistsError as error:
                raise _exists() from error
            return
        draft = self.draft
        if not draft:
            draft = _draft()
            os.link(source, draft, follow_symlinks=True, **place)
        try:
            os.replace(draft, name, src_dir_fd=self.folder, **place)
        except OSError as error:
            with suppress(FileNotFoundError):
                os.unlink(draft, dir_fd=self.folder)
            raise NodeError("not_a_file", "Something that is no file has this name.") from error


@contextmanager
def _fresh(folder: int) -> Iterator[_Fresh]:
    flags, draft = os.O_WRONLY | os.O_CLOEXEC, ""
    try:
        file = os.open(".", flags | os.O_TMPFILE, 0o600, dir_fd=folder)
    except OSError as error:
        if error.errno not in _NO_TMPFILE:
            raise
        draft = _draft()
        file = os.open(draft, flags | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder)
    try:
        yield _Fresh(folder, file, draft)
    finally:
        os.close(file)
        if draft:
            with suppress(FileNotFoundError):
                os.unlink(draft, dir_fd=folder)


def _draft() -> str:
    return f".samovar-{secrets.token_hex(8)}"


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise NodeError("no_such_file", "Its folder is gone.") from error
    except OSError as error:
        if is_full(error):
            raise _full() from error
        raise


def _exists() -> NodeError:
    return NodeError("file_exists", "A file of this name is there.")


def _too_large() -> NodeError:
    return NodeError("too_large", f"That is more than {UPLOAD_BYTES_MAX >> 20} MB.")


def _full() -> NodeError:
    return NodeError("disk_full", "The disk of the node is full.")
