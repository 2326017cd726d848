"""The node's disk: room that is kept for what must be written, and what to say without room."""

import ctypes
import errno
import os
import re
import shutil
from pathlib import Path

from agent.errors import NodeError

LOW_MB = 64
"""With less than this free, it is the disk of the workspaces that is full, and not another."""
_WORDS = re.compile(
    r"no space left on device|out of disk ?space|disk quota exceeded", re.IGNORECASE
)
_KEEP_SIZE = 1
_fallocate = ctypes.CDLL(None, use_errno=True).fallocate
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def free_mb(folder: Path) -> int:
    """Return the free mebibytes where `folder` is."""
    return shutil.disk_usage(folder).free // 2**20


def reserve(file: int, end: int) -> None:
    """Keep room for the first `end` bytes of an open file, which keeps its length (fallocate(2)).

    Whoever writes there finds room, however full the disk is. Not every file system can do it, and
    a full one cannot any more: then nothing happens.
    """
    _fallocate(file, _KEEP_SIZE, 0, end)


def reserve_path(path: Path, end: int) -> None:
    """Keep room for a file that is there; see `reserve`."""
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        reserve(descriptor, end)
    finally:
        os.close(descriptor)


def is_full(error: BaseException | str | None) -> bool:
    """Whether a full disk is behind an error; programs of others say it only in words."""
    if isinstance(error, str):
        return bool(_WORDS.search(error))
    while error is not None:
        if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return True
        if _WORDS.search(str(error)):
            return True
        error = error.__cause__
    return False


def full(folder: Path) -> NodeError:
    """Return what to say when there was no room; `folder` is where the node keeps everything."""
    free = free_mb(folder)
    which = (
        f"The disk of the node is full ({free} MB free)"
        if free < LOW_MB
        else f"A disk of the node is full: that of Docker, as the other one has {free} MB free"
    )
    return NodeError(
        "disk_full",
        f"{which}. Free some room there, or throw away workspaces that nobody needs with "
        "`samovar workspace delete ID --without-copy`; then reply `try again`.",
    )
