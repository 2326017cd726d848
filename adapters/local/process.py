"""A child process that outlives us and is found again: by its id and its moment of start."""

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

STAMP = "process"
LOG = "agent.log"
WAIT_S = 0.05
START_S_MAX = 5.0
LET_GO_S_MAX = 10.0

_START = """
umask 077
cat /proc/$$/stat /proc/sys/kernel/random/boot_id > "$0.new" && mv "$0.new" "$0" && exec "$@"
"""
"""The child writes who it is before it becomes the program: a crash of ours in between leaves no
process that nobody can find. `exec` changes neither the id nor the moment of start."""


async def start(folder: Path, command: Sequence[str], env: Mapping[str, str]) -> None:
    """Start `command` in a session of its own; its output goes to a file in `folder`.

    Raises:
        OSError: It cannot be started.
        TimeoutError: It did not start within five seconds.
    """
    (folder / STAMP).unlink(missing_ok=True)
    pid = _spawn(folder, command, env)
    async with asyncio.timeout(START_S_MAX):
        while not (folder / STAMP).exists() and _exists(pid):  # noqa: ASYNC110  sends no event
            await asyncio.sleep(WAIT_S)


def _spawn(folder: Path, command: Sequence[str], env: Mapping[str, str]) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return os.posix_spawn(
        "/bin/sh",
        ["/bin/sh", "-c", _START, str(folder / STAMP), *command],
        dict(env),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(folder / LOG), flags, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )


def find(folder: Path) -> int | None:
    """Return the process id of what was started for `folder`, None if it does not run."""
    try:
        stat, boot = (folder / STAMP).read_text().splitlines()
    except (OSError, ValueError):
        return None
    pid = int(stat.split(" ", 1)[0])
    is_ours = boot == _boot() and _started(_stat(pid)) == _started(stat)  # Ids are used again.
    return pid if is_ours and _exists(pid) else None


async def end(folder: Path) -> None:
    """End exactly this process: it is asked first, and killed after ten seconds."""
    for sign, wait_s in ((signal.SIGTERM, LET_GO_S_MAX), (signal.SIGKILL, START_S_MAX)):
        if (pid := find(folder)) is None:
            return
        with suppress(ProcessLookupError):
            os.kill(pid, sign)
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while find(folder) is not None:  # noqa: ASYNC110  sends no event
                    await asyncio.sleep(WAIT_S)


def _exists(pid: int) -> bool:
    """Return whether the process runs; one of ours that has ended is taken note of."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    return _stat(pid).rpartition(")")[2].split()[:1] not in ([], ["Z"])


def _stat(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""


def _started(stat: str) -> str:
    """Return field 22 of proc(5)'s stat, ticks since boot. The name in field 2 may hold blanks."""
    return "".join(stat.rpartition(")")[2].split()[19:20])


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
