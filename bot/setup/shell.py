"""Commands of the set-up: with a time limit, with progress, and as root where that is allowed."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO

from bot.setup.missing import MissingError

QUIET_S = 2.0
"""What takes longer says so."""
REMIND_S = 10.0
"""And says again that it is still going on."""
TAIL_LINES = 8
"""Of a failed command's output, shown in the sentence."""


class CommandError(Exception):
    """A command failed.

    Attributes:
        tail: The last lines that it printed, standard error included.
    """

    def __init__(self, command: Sequence[str], how: str, tail: str) -> None:
        super().__init__(f"`{' '.join(command)}` {how}: {tail}")
        self.tail = tail


def run(
    command: Sequence[str],
    *,
    limit_s: float,
    label: str = "",
    progress: Callable[[str], None] | None = None,
    environ: Mapping[str, str] | None = None,
    stdin: IO[bytes] | None = None,
) -> str:
    """Run `command` to its end and return what it printed, standard error included.

    With `label` and `progress`, a command that takes longer than two seconds is reported.

    Raises:
        CommandError: If it cannot be started, fails or takes longer than `limit_s`.
    """
    with tempfile.TemporaryFile() as output:
        try:
            child = subprocess.Popen(
                command,
                stdin=stdin or subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if environ is None else {**os.environ, **environ},
            )
        except OSError as error:
            raise CommandError(command, "does not start", str(error)) from error
        how = _attend(child, limit_s=limit_s, label=label, progress=progress)
        output.seek(0)
        printed = output.read().decode(errors="replace")
    if how:
        raise CommandError(command, how, "\n".join(printed.strip().splitlines()[-TAIL_LINES:]))
    return printed


def _attend(
    child: subprocess.Popen[bytes],
    *,
    limit_s: float,
    label: str,
    progress: Callable[[str], None] | None,
) -> str:
    """Wait for `child`; return how it failed, or nothing."""
    began = time.monotonic()
    speak_at = QUIET_S
    try:
        while True:
            try:
                code = child.wait(timeout=max(0.0, min(speak_at, limit_s) - _since(began)))
            except subprocess.TimeoutExpired:
                if _since(began) >= limit_s:
                    return f"took longer than {limit_s:.0f} s"
                if progress and label:
                    progress(f"{label} … {_since(began):.0f} s")
                speak_at += REMIND_S
            else:
                return f"ended with exit code {code}" if code else ""
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()


def _since(began: float) -> float:
    return time.monotonic() - began


def works(command: Sequence[str], *, limit_s: float = 20) -> bool:
    """Return whether `command` ends well."""
    try:
        run(command, limit_s=limit_s)
    except CommandError:
        return False
    return True


@cache
def root_prefix() -> tuple[str, ...] | None:
    """Return the words that make a command run as root, or None when we may not."""
    if os.geteuid() == 0:
        return ()
    sudo = shutil.which("sudo")
    return (sudo, "-n") if sudo and works([sudo, "-n", "true"]) else None


def as_root(*command: str, mend: str) -> list[str]:
    """Return `command` so that it runs as root.

    Raises:
        MissingError: If we are not root and sudo would ask for a password.
    """
    prefix = root_prefix()
    if prefix is None:
        raise MissingError(f"only root can run `{Path(command[0]).name}`", mend=mend)
    return [*prefix, *command]
