"""Files of npm packages that browsers load, served as their packages have them."""

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from bot.setup.missing import FETCH, MissingError
from bot.setup.npm import Package, fetch, unpack
from bot.setup.place import placing, spare
from bot.setup.requirement import Site


@dataclass(frozen=True, slots=True, kw_only=True)
class WebFiles:
    """One folder with `files`, and the licence of each package beside them.

    Attributes:
        title: As people know it: `xterm.js`.
        variable: Environment variable that names another folder.
        patterns: What a browser may need of each package; `files` are among it.
    """

    name: str
    title: str
    variable: str
    packages: tuple[Package, ...]
    files: tuple[str, ...]
    patterns: tuple[str, ...]
    needs: tuple[str, ...] = ()

    def probe(self, site: Site) -> str:
        """See `Requirement.probe`. A browser runs them; here they are whole or not there."""
        named = site.environ.get(self.variable)
        folder = Path(named) if named else self._folder(site)
        lacking = [file for file in self.files if not (folder / file).is_file()]
        if lacking:
            sentence = f"{self.variable} names {named}, which has no {lacking[0]}" if named else ""
            raise MissingError(sentence or f"{self._what} is not fetched", mend=FETCH)
        return str(folder)

    def provide(self, site: Site) -> None:
        """See `Requirement.provide`."""
        site.ask_to_install(f"{self._what} is not fetched", mend=FETCH)
        with placing(self._folder(site)) as half:
            for package in self.packages:
                self._bring(package, half, site)

    @property
    def _what(self) -> str:
        return f"{self.title} {self.packages[0].version}"

    def _folder(self, site: Site) -> Path:
        pins = "\n".join(package.integrity for package in self.packages)
        digest = hashlib.sha256(pins.encode()).hexdigest()[:8]
        return site.tools / self.name / f"{self.packages[0].version}-{digest}"

    def _bring(self, package: Package, folder: Path, site: Site) -> None:
        """Put what a browser needs of a package, and its licence, into `folder`."""
        short = package.name.rpartition("/")[2]
        with spare(folder.parent / short) as beside:
            archive = fetch(package, beside, what=self._what, progress=site.progress)
            unpack(archive, beside / "all")
            for pattern in self.patterns:
                for path in beside.glob(f"all/{pattern}"):
                    shutil.copyfile(path, folder / path.name)
            shutil.copyfile(beside / "all" / "LICENSE", folder / f"LICENSE-{short}")
