"""Folders that are there whole or not at all, made by one process at a time."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def alone(state: Path, *, progress: Callable[[str], None]) -> Iterator[None]:
    """Let a second set-up of the same state folder wait for the first."""
    state.mkdir(parents=True, exist_ok=True)
    file = os.open(state / "set-up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"waiting for another set-up of {state}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


@contextmanager
def spare(folder: Path) -> Iterator[Path]:
    """Lend an empty folder beside `folder`; what an interrupted one left in it is removed."""
    beside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        yield beside
    finally:
        shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def placing(folder: Path) -> Iterator[Path]:
    """Fill a folder under another name and give it its own at the end.

    The folder that is lent has one above it for what is needed on the way.
    """
    with spare(folder) as beside:
        half = beside / "new"
        half.mkdir()
        yield half
        if folder.is_dir():  # It is there and did not work.
            shutil.rmtree(folder)
        half.rename(folder)
