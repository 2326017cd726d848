"""Packages of Debian and Ubuntu, installed without a question."""

import re
import shutil
import threading
from collections.abc import Callable, Sequence

from bot.setup.missing import MissingError
from bot.setup.shell import CommandError, as_root, run

LIMIT_S = 900
LOCK_LIMIT_S = 300
"""How long apt waits for another apt: a fresh machine is often busy with its own updates."""
APT = (
    *("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y"),
    *("-o", f"DPkg::Lock::Timeout={LOCK_LIMIT_S}"),
)


class Apt:
    """The package manager: one at a time, its lists read anew at most once."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._is_updated = False

    def candidate(self, package: str) -> str:
        """Return the version that would be installed; empty if there is none."""
        if not shutil.which("apt-cache"):
            return ""
        shown = run(["apt-cache", "policy", package], limit_s=60)
        match = re.search(r"^ *Candidate: (\S+)$", shown, re.MULTILINE)
        return match.group(1) if match and match.group(1) != "(none)" else ""

    def install(
        self, packages: Sequence[str], *, mend: str, progress: Callable[[str], None]
    ) -> None:
        """Install `packages` without those that they only recommend.

        Raises:
            MissingError: If there is no apt, we are not root, or apt refuses.
        """
        if not shutil.which("apt-get"):
            raise MissingError(f"no apt-get here to install {' '.join(packages)}", mend=mend)
        command = as_root(*APT, "install", "--no-install-recommends", *packages, mend=mend)
        label = f"installing {' '.join(packages)}"
        with self._turn:
            try:
                if not all(map(self.candidate, packages)):
                    self._update(mend=mend, progress=progress)
                self._install(command, label=label, mend=mend, progress=progress)
            except CommandError as error:
                raise MissingError(f"apt-get failed: {error.tail}", mend=mend) from error

    def refresh(self, *, mend: str, progress: Callable[[str], None]) -> None:
        """Read the lists of packages anew, unless that was done already.

        Raises:
            MissingError: If that fails.
        """
        with self._turn:
            try:
                self._update(mend=mend, progress=progress)
            except CommandError as error:
                raise MissingError(f"apt-get failed: {error.tail}", mend=mend) from error

    def _install(
        self, command: list[str], *, label: str, mend: str, progress: Callable[[str], None]
    ) -> None:
        try:
            run(command, limit_s=LIMIT_S, label=label, progress=progress)
        except CommandError as error:
            if "dpkg --configure -a" in error.tail:  # An earlier installation was interrupted.
                run(as_root("dpkg", "--configure", "-a", mend=mend), limit_s=LIMIT_S)
            elif not self._update(mend=mend, progress=progress):
                raise
            run(command, limit_s=LIMIT_S, label=label, progress=progress)

    def _update(self, *, mend: str, progress: Callable[[str], None]) -> bool:
        """Read the lists anew; return False if that was done already."""
        if self._is_updated:
            return False
        update = as_root(*APT, "update", mend=mend)
        run(update, limit_s=LIMIT_S, label="apt-get update", progress=progress)
        self._is_updated = True
        return True
