"""xterm.js and its addons: the terminal in the browser, served as its packages have it."""

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from bot.setup.missing import FETCH, MissingError
from bot.setup.npm import Package, fetch, unpack
from bot.setup.place import placing, spare
from bot.setup.requirement import Site

PACKAGES = (
    Package(
        name="@xterm/xterm",
        version="6.0.0",
        integrity=(
            "sha512-TQwDdQGtwwDt+2cgKDLn0IRaSxYu1tSUjgKarSDkUM0ZNiSRXFpjxEsvc/Zgc5kq5omJ+V0a8/kIM2WD3sMOYg=="
        ),
    ),
    Package(
        name="@xterm/addon-fit",
        version="0.11.0",
        integrity=(
            "sha512-jYcgT6xtVYhnhgxh3QgYDnnNMYTcf8ElbxxFzX0IZo+vabQqSPAjC3c1wJrKB5E19VwQei89QCiZZP86DCPF7g=="
        ),
    ),
    Package(
        name="@xterm/addon-search",
        version="0.16.0",
        integrity=(
            "sha512-9OeuBFu0/uZJPu+9AHKY6g/w0Czyb/Ut0A5t79I4ULoU4IfU5BEpPFVGQxP4zTTMdfZEYkVIRYbHBX1xWwjeSA=="
        ),
    ),
    Package(
        name="@xterm/addon-web-links",
        version="0.12.0",
        integrity=(
            "sha512-4Smom3RPyVp7ZMYOYDoC/9eGJJJqYhnPLGGqJ6wOBfB8VxPViJNSKdgRYb8NpaM6YSelEKbA2SStD7lGyqaobw=="
        ),
    ),
    Package(
        name="@xterm/addon-unicode-graphemes",
        version="0.4.0",
        integrity=(
            "sha512-9+/CqwbKcnlkJU4d3wIgO+wjsL8f6vyz+UwUWLu6nADQz8Gr8ONqGCJfdDjIdI+yYZLABQqQy47FzEM6AWELjw=="
        ),
    ),
)
FILES = (
    "xterm.mjs",
    "xterm.css",
    "addon-fit.mjs",
    "addon-search.mjs",
    "addon-web-links.mjs",
    "addon-unicode-graphemes.mjs",
)
"""What a page loads; all of them must be there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Xterm:
    """The folder with `FILES`, and the licence of each package beside them."""

    name: str = "xterm"
    needs: tuple[str, ...] = ()

    def probe(self, site: Site) -> str:
        """See `Requirement.probe`. A browser runs them; here they are whole or not there."""
        named = site.environ.get("SAMOVAR_XTERM")
        folder = Path(named) if named else self._folder(site)
        lacking = [file for file in FILES if not (folder / file).is_file()]
        if lacking:
            sentence = f"SAMOVAR_XTERM names {named}, which has no {lacking[0]}" if named else ""
            raise MissingError(
                sentence or f"xterm.js {PACKAGES[0].version} is not fetched", mend=FETCH
            )
        return str(folder)

    def provide(self, site: Site) -> None:
        """See `Requirement.provide`."""
        what = f"xterm.js {PACKAGES[0].version}"
        site.ask_to_install(f"{what} is not fetched", mend=FETCH)
        with placing(self._folder(site)) as half:
            for package in PACKAGES:
                _bring(package, half, site=site, what=what)

    def _folder(self, site: Site) -> Path:
        pins = "\n".join(package.integrity for package in PACKAGES)
        version = f"{PACKAGES[0].version}-{hashlib.sha256(pins.encode()).hexdigest()[:8]}"
        return site.tools / "xterm" / version


def _bring(package: Package, folder: Path, *, site: Site, what: str) -> None:
    """Put what a browser needs of a package, and its licence, into `folder`."""
    short = package.name.rpartition("/")[2]
    with spare(folder.parent / short) as beside:
        unpack(fetch(package, beside, what=what, progress=site.progress), beside / "all")
        for path in [*beside.glob("all/lib/*.mjs"), *beside.glob("all/css/*.css")]:
            shutil.copyfile(path, folder / path.name)
        shutil.copyfile(beside / "all" / "LICENSE", folder / f"LICENSE-{short}")
