"""One process per SQLite file: a lock on a file beside the database."""

import fcntl
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from core.errors import ConfigError


@contextmanager
def only_process(database: Path, *, wait_s: float = 0.0) -> Generator[None]:
    """Hold the exclusive lock; the kernel lets go of it when the process dies.

    Raises:
        ConfigError: If another process holds it for longer than `wait_s` seconds.
    """
    path = database.with_name(f"{database.name}.lock")
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _lock(handle, database, wait_s)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, database: Path, wait_s: float) -> None:
    until = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 20, 0).decode() or "unknown"
            if time.monotonic() >= until:
                raise ConfigError(
                    f"Another Samovar (process {holder}) uses {database}. Stop it first; "
                    "several at once need PostgreSQL."
                ) from None
            time.sleep(0.05)
        else:
            os.truncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
            return
