"""Programs that Debian packages bring and that need nothing else."""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bot.setup.missing import MissingError
from bot.setup.requirement import Site
from bot.setup.shell import CommandError, run


def version(command: Sequence[str]) -> tuple[int, ...]:
    """Return the first number of the form 1.2.3 that `command` prints; empty if it fails."""
    try:
        printed = run(command, limit_s=30)
    except CommandError:
        return ()
    match = re.search(r"\d+(?:\.\d+)+", printed)
    return tuple(map(int, match.group().split("."))) if match else ()


def mend_by_apt(*packages: str) -> str:
    """Return the command that installs `packages`, as a person types it."""
    return f"sudo apt-get update && sudo apt-get install -y {' '.join(packages)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Git:
    """git, with the `http-backend` that serves repositories in tests and demonstration."""

    name: str = "git"
    needs: tuple[str, ...] = ()

    def probe(self, site: Site) -> str:
        """See `Requirement.probe`."""
        del site
        if version(["git", "--version"]) < (2, 30):
            raise MissingError("git 2.30 or newer is not installed", mend=mend_by_apt("git"))
        return shutil.which("git") or "git"

    def provide(self, site: Site) -> None:
        """See `Requirement.provide`."""
        site.install("git", mend=mend_by_apt("git"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgres:
    """The folder with PostgreSQL's `initdb` and `pg_ctl`: tests start servers of their own."""

    name: str = "postgres"
    needs: tuple[str, ...] = ()
    at_least: tuple[int, ...] = (15,)
    installed: Path = Path("/usr/lib/postgresql")

    def probe(self, site: Site) -> str:
        """See `Requirement.probe`."""
        named = site.environ.get("SAMOVAR_PG_BIN")
        folders = [Path(named)] if named else self._installed()
        for folder in folders:
            if version([str(folder / "initdb"), "--version"]) >= self.at_least:
                return str(folder)
        raise MissingError(
            f"PostgreSQL {self.at_least[0]} or newer is not installed",
            mend=mend_by_apt("postgresql"),
        )

    def provide(self, site: Site) -> None:
        """See `Requirement.provide`."""
        site.install("postgresql", mend=mend_by_apt("postgresql"))

    def _installed(self) -> list[Path]:
        folders = sorted(
            (path for path in self.installed.glob("*/bin")),
            key=lambda path: int(path.parent.name),
            reverse=True,
        )
        on_path = shutil.which("initdb")
        return [*folders, *([Path(on_path).resolve().parent] if on_path else [])]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chromium:
    """A browser for the tests of the pages."""

    name: str = "chromium"
    needs: tuple[str, ...] = ()
    known_as: tuple[str, ...] = ("chromium", "google-chrome", "chromium-browser")

    def probe(self, site: Site) -> str:
        """See `Requirement.probe`: Ubuntu's `chromium-browser` may be an empty shell."""
        named = site.environ.get("SAMOVAR_CHROMIUM")
        for program in [named] if named else self.known_as:
            path = shutil.which(program)
            if path and version([path, "--version"]):
                return path
        raise MissingError("Chromium is not installed", mend=mend_by_apt("chromium"))

    def provide(self, site: Site) -> None:
        """See `Requirement.provide`."""
        site.install("chromium", mend=mend_by_apt("chromium"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Screens:
    """Programs that fill the screen, for the tests of terminals: vim, less, top."""

    name: str = "screens"
    needs: tuple[str, ...] = ()
    programs: tuple[str, ...] = ("vim", "less", "top")
    packages: tuple[str, ...] = ("vim", "less", "procps")

    def probe(self, site: Site) -> str:
        """See `Requirement.probe`."""
        del site
        lacking = [program for program in self.programs if shutil.which(program) is None]
        if lacking:
            sentence = f"{', '.join(lacking)} not installed"
            raise MissingError(sentence, mend=mend_by_apt(*self.packages))
        return " ".join(self.programs)

    def provide(self, site: Site) -> None:
        """See `Requirement.provide`."""
        site.install(*self.packages, mend=mend_by_apt(*self.packages))
