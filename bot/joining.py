"""Make this machine a node of a Samovar elsewhere: the node agent with all that it needs."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from agent import files, identity
from bot import setup
from bot.state import state_dir
from core.errors import ConfigError


def join(url: str, token: Callable[[], str], limits: Sequence[str]) -> NoReturn:
    """Join unless that was done before, set up what workspaces need, become the node agent.

    Args:
        url: Where the Samovar is.
        token: Asked for only by a machine that has not joined yet.
        limits: Further words of `samovar-agent join`.

    Raises:
        ConfigError: This machine works for another Samovar, or something is missing on it.
    """
    folder, program = state_dir() / "joined", _agent()
    known = identity.load(folder)
    if known is None:
        words = [program, "join", url, "--token-file=-", f"--state={folder}", *limits]
        done = subprocess.run(words, input=f"{token()}\n", text=True, check=False)
        if done.returncode:
            sys.exit(done.returncode)
    elif known.url.rstrip("/") != url.rstrip("/"):
        raise ConfigError(
            f"This machine is {known.node} of {known.url} already. Let it go there first, then "
            f"remove {folder}."
        )
    outfit = setup.ensure(
        setup.RUN, state=state_dir(), install=setup.may_install(), progress=_remark
    )
    files.write_json(folder / "settings.json", _settings(outfit))
    os.execv(program, [program, "run", f"--state={folder}"])  # noqa: S606  our own program


def _settings(outfit: setup.Outfit) -> dict[str, str]:
    """Return what the node agent reads at its start, so that it also runs without us."""
    musl = {"claude_musl": str(outfit.claude_musl)} if outfit.claude_musl else {}
    return {
        "docker_host": outfit.docker_host,
        "node_js": str(outfit.node),
        "devcontainer_js": str(outfit.devcontainer_js),
        "claude": str(outfit.claude),
        **musl,
    }


def _remark(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _agent() -> str:
    """Return the path of the node agent that was installed with this program."""
    program = Path(sys.executable).parent / "samovar-agent"
    if not program.exists():
        raise ConfigError(f"{program} is missing. Install Samovar again.")
    return str(program)
