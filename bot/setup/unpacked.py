"""Programs out of Debian packages that are unpacked, not installed: for tests alone."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from bot.setup.missing import MissingError
from bot.setup.place import placing
from bot.setup.program import version
from bot.setup.requirement import Site
from bot.setup.shell import CommandError, run

MEND = "./samovar test"
LIMIT_S = 300
DOWNLOAD = 'cd "$1" && shift && apt-get -q download "$@"'
"""apt downloads to where it stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """One program of some packages; its value is the path where they are unpacked.

    Installed, a package can do more than wanted: Debian's registry would serve the whole network.

    Attributes:
        program: Path of the program below that; it must print its version.
        asking: Arguments with which it does.
        variable: Environment variable by which people name a folder of their own.
    """

    name: str
    packages: tuple[str, ...]
    program: str
    asking: tuple[str, ...]
    variable: str
    needs: tuple[str, ...] = ()

    def probe(self, site: Site) -> str:
        """See `Requirement.probe`."""
        named = site.environ.get(self.variable)
        folder = Path(named) if named else self._folder(site)
        if not version([str(folder / self.program), *self.asking]):
            raise MissingError(f"{self._all} not fetched", mend=MEND)
        return str(folder)

    def provide(self, site: Site) -> None:
        """See `Requirement.provide`."""
        site.ask_to_install(f"{self._all} not fetched", mend=MEND)
        if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
            raise MissingError(f"{self._all} of Debian wanted", mend=f"set {self.variable}")
        if not all(map(site.apt.candidate, self.packages)):
            site.apt.refresh(mend=MEND, progress=site.progress)
        with placing(self._folder(site)) as half:
            try:
                fetch = ["sh", "-c", DOWNLOAD, "sh", str(half.parent), *self.packages]
                run(fetch, limit_s=LIMIT_S, label=f"fetching {self._all}", progress=site.progress)
                for archive in half.parent.glob("*.deb"):
                    run(["dpkg-deb", "-x", str(archive), str(half)], limit_s=60)
            except CommandError as error:
                sentence = f"{self._all} cannot be fetched: {error.tail}"
                raise MissingError(sentence, mend=MEND) from error

    @property
    def _all(self) -> str:
        return " ".join(self.packages)

    def _folder(self, site: Site) -> Path:
        return site.tools / self.name


REGISTRY = Unpacked(
    name="registry",
    packages=("docker-registry",),
    program="usr/bin/docker-registry",
    asking=("--version",),
    variable="SAMOVAR_REGISTRY",
)
"""A registry of images and features."""
MUSL = Unpacked(
    name="musl",
    packages=("busybox-static", "musl"),
    program="bin/busybox",
    asking=("--help",),
    variable="SAMOVAR_MUSL",
)
"""What a small image with musl is made of."""
