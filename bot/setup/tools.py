"""Claude Code and the devcontainer CLI: pinned packages of the npm registry, checked by hash."""

import platform
import sys
from dataclasses import dataclass
from pathlib import Path

from bot.setup.missing import FETCH, MissingError
from bot.setup.npm import Package, fetch, unpack
from bot.setup.place import placing
from bot.setup.program import version
from bot.setup.requirement import Site

CLAUDE_VERSION = "2.1.330"
CLAUDE = {
    "linux-x64": (
        "sha512-9Gn+V7DtJ8M1nztP9CeDVl9g3RtrepI7rOFTyPRRnZe8D6zebIHKmC7OvBauucuAP0X0k85SDN/LPVZyjsGezQ=="
    ),
    "linux-x64-musl": (
        "sha512-OnduSSPY1b59FA8jTbq20Y1XkDUV0S1OVyvYBNslEbpX79P81JF7Ih4lgYvDKiFnnSv75z4Kv6qLE5DQqogYXA=="
    ),
    "linux-arm64": (
        "sha512-V4yanAY5EA5UpwwRPtjSfqDbNqAlUJeVn3NYZw2AgmRHjdpSsLtHAzbxRXfkAnbjwTXzE0uedjQxUY02ARPcsA=="
    ),
}
"""Integrity of `@anthropic-ai/claude-code-{platform}`, by platform."""
DEVCONTAINER = Package(
    name="@devcontainers/cli",
    version="0.89.0",
    integrity=(
        "sha512-LzaoOGKQ/Zql6PsiZ4hVIYVZagzWkD65aG/1ou5/Kly5Y1PtjLg1yn7qu+LZCzVoAl6DZZ/pbz8qOO4RLNlqMg=="
    ),
)
PROCESSORS = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}
"""What `uname -m` and npm call the same processors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claude:
    """The Claude Code binary for this processor, `libc` being the containers'.

    Attributes:
        variable: Environment variable by which people name a binary of their own.
    """

    name: str
    libc: str = ""
    variable: str = ""
    needs: tuple[str, ...] = ()

    def probe(self, site: Site) -> str:
        """See `Requirement.probe`: runs the binary, unless it is for another C library."""
        named = site.environ.get(self.variable)
        path = Path(named) if named else self._folder(site) / "claude"
        is_foreign = self.libc == "musl"
        if not path.is_file() or not (is_foreign or version([str(path), "--version"])):
            sentence = f"{self.variable} names {named}, which does not run" if named else ""
            raise MissingError(
                sentence or f"Claude Code {CLAUDE_VERSION} is not fetched", mend=FETCH
            )
        return str(path)

    def provide(self, site: Site) -> None:
        """See `Requirement.provide`."""
        kind = self._platform()
        package = Package(
            name=f"@anthropic-ai/claude-code-{kind}",
            version=CLAUDE_VERSION,
            integrity=CLAUDE[kind],
        )
        _bring(package, self._folder(site), site=site, what=f"Claude Code {CLAUDE_VERSION}")

    def _folder(self, site: Site) -> Path:
        return site.tools / "claude" / f"{CLAUDE_VERSION}-{self._platform()}"

    def _platform(self) -> str:
        processor = PROCESSORS.get(platform.machine().lower(), platform.machine())
        kind = "-".join(filter(None, (sys.platform, processor, self.libc)))
        if kind not in CLAUDE:
            known = ", ".join(sorted(CLAUDE))
            sentence = f"Claude Code is pinned for {known}, and this is {kind}"
            raise MissingError(sentence, mend=f"set {self.variable} to a binary of your own")
        return kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Devcontainer:
    """`devcontainer.js` of the devcontainer CLI, run by Node.js."""

    name: str = "devcontainer"
    needs: tuple[str, ...] = ("node",)

    def probe(self, site: Site) -> str:
        """See `Requirement.probe`."""
        named = site.environ.get("SAMOVAR_DEVCONTAINER_JS")
        path = Path(named) if named else self._folder(site) / "devcontainer.js"
        if not version([site.found["node"], str(path), "--version"]):
            sentence = f"SAMOVAR_DEVCONTAINER_JS names {named}, which does not run" if named else ""
            raise MissingError(
                sentence or f"devcontainer CLI {DEVCONTAINER.version} is not fetched",
                mend=FETCH,
            )
        return str(path)

    def provide(self, site: Site) -> None:
        """See `Requirement.provide`."""
        what = f"devcontainer CLI {DEVCONTAINER.version}"
        _bring(DEVCONTAINER, self._folder(site), site=site, what=what)

    def _folder(self, site: Site) -> Path:
        return site.tools / "devcontainer" / DEVCONTAINER.version


def _bring(package: Package, folder: Path, *, site: Site, what: str) -> None:
    site.ask_to_install(f"{what} is not fetched", mend=FETCH)
    with placing(folder) as half:
        archive = fetch(package, half.parent, what=what, progress=site.progress)
        unpack(archive, half)
