"""What the program and its tests ask of the set-up."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from bot.setup.compose import Compose
from bot.setup.docker import Docker
from bot.setup.dockerd import Dockerd
from bot.setup.images import BaseImage
from bot.setup.missing import MissingError
from bot.setup.node import Node
from bot.setup.place import alone
from bot.setup.player import player
from bot.setup.program import Chromium, Git, Postgres, Screens
from bot.setup.requirement import Finding, Requirement, Site, meet, probe
from bot.setup.tools import Claude, Devcontainer
from bot.setup.unpacked import MUSL, REGISTRY
from bot.setup.xterm import xterm

REQUIREMENTS: Mapping[str, Requirement] = {
    each.name: each
    for each in (
        Git(),
        Docker(),
        BaseImage(),
        Node(),
        Devcontainer(),
        Claude(name="claude", variable="SAMOVAR_CLAUDE"),
        Claude(name="claude-musl", variable="SAMOVAR_CLAUDE_MUSL", libc="musl"),
        xterm(),
        player(),
        Compose(),
        REGISTRY,
        MUSL,
        Postgres(),
        Chromium(),
        Screens(),
    )
}
RUN = ("git", "docker", "base-image", "node", "devcontainer", "claude")
"""What it takes to run tasks on this machine."""
PAGES = ("xterm", "player")
"""What the pages take; without it all but terminals and recordings is there."""
MAYBE = ("claude-musl", *PAGES)
"""What is taken along where it is there: only images with musl need the first."""
TEST = (
    *RUN,
    *PAGES,
    *("claude-musl", "compose", "registry", "musl", "postgres", "chromium", "screens"),
)
"""What all tests take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outfit:
    """What was asked for, each a thing that works. Asking for another raises `KeyError`.

    Attributes:
        parts: Path, address or name by requirement.
    """

    parts: Mapping[str, str]

    @property
    def docker_host(self) -> str:
        """Address of the engine, as `DOCKER_HOST` wants it."""
        return self.parts["docker"]

    @property
    def base_image(self) -> str:
        """Image for repositories without a devcontainer."""
        return self.parts["base-image"]

    @property
    def node(self) -> Path:
        """The Node.js program."""
        return Path(self.parts["node"])

    @property
    def devcontainer_js(self) -> Path:
        """The devcontainer CLI, to be run by `node`."""
        return Path(self.parts["devcontainer"])

    @property
    def claude(self) -> Path:
        """The Claude Code binary for containers with glibc; alone with its licence in a folder."""
        return Path(self.parts["claude"])

    @property
    def claude_musl(self) -> Path | None:
        """The Claude Code binary for containers with musl, if it is there."""
        path = self.parts.get("claude-musl")
        return Path(path) if path else None

    @property
    def xterm(self) -> Path | None:
        """The folder of xterm.js, if it is there."""
        path = self.parts.get("xterm")
        return Path(path) if path else None

    @property
    def player(self) -> Path | None:
        """The folder of asciinema-player, if it is there."""
        path = self.parts.get("player")
        return Path(path) if path else None

    @property
    def pg_bin(self) -> Path:
        """Folder with PostgreSQL's `initdb` and `pg_ctl`."""
        return Path(self.parts["postgres"])

    @property
    def chromium(self) -> Path:
        """The browser."""
        return Path(self.parts["chromium"])


def may_install() -> bool:
    """Return whether `./samovar` was called without `--no-install`."""
    return not os.environ.get("SAMOVAR_NO_INSTALL")


def provide(
    names: Sequence[str], *, state: Path, install: bool, progress: Callable[[str], None]
) -> tuple[dict[str, str], Sequence[Finding]]:
    """Bring what can be brought of `names`; return the values met and one finding for each.

    Blocks, for minutes on a fresh machine: an event loop calls it in a thread.
    """
    site = Site(state=state, may_install=install, progress=progress)
    with alone(state, progress=progress):
        findings = meet(_asked(names), site)
    return site.found, findings


def ensure(
    names: Sequence[str], *, state: Path, install: bool, progress: Callable[[str], None]
) -> Outfit:
    """Return all of `names`, installed, fetched or started where that was needed.

    What is in `MAYBE` comes along if it is there.

    Args:
        names: Of `REQUIREMENTS`; what they need must be among them.
        state: Folder for what is fetched and started; see `bot.state.state_dir`.
        install: Whether packages may be installed and files fetched.
        progress: Called with lines for people, from any thread.

    Raises:
        MissingError: With every one that is missing and the command that mends it.
    """
    found, findings = provide(names, state=state, install=install, progress=progress)
    lacking = [finding for finding in findings if not finding.ok]
    if lacking:
        sentences = ";\n".join(finding.detail for finding in lacking)
        mends = dict.fromkeys(finding.mend for finding in lacking if finding.mend)
        raise MissingError(sentences, mend="\n           ".join(mends))
    others = {one.name: one.detail for one in examine(MAYBE, state=state) if one.ok}
    return Outfit(parts={**others, **found})


def examine(names: Sequence[str], *, state: Path) -> Sequence[Finding]:
    """Return what is there and what is missing, and change nothing."""
    site = Site(state=state, may_install=False, progress=lambda _line: None)
    return probe(_asked(names), site)


def in_use(state: Path) -> AbstractContextManager[None]:
    """Keep others from stopping what we share with them: our own Docker Engine."""
    return Dockerd(state / "docker").in_use()


def _asked(names: Sequence[str]) -> list[Requirement]:
    return [REQUIREMENTS[name] for name in names]
