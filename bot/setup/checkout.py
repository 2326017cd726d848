"""What only a checkout knows: its tests, checks, numbers and lock. Called by `./samovar`."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bot.setup.dockerd import Dockerd
from bot.setup.missing import MissingError
from bot.setup.outfit import TEST, may_install, provide
from bot.state import state_dir

BIN = Path(sys.executable).parent
VARIABLES = {
    "docker": "DOCKER_HOST",
    "base-image": "SAMOVAR_BASE_IMAGE",
    "node": "SAMOVAR_NODE",
    "devcontainer": "SAMOVAR_DEVCONTAINER_JS",
    "claude": "SAMOVAR_CLAUDE",
    "xterm": "SAMOVAR_XTERM",
    "player": "SAMOVAR_PLAYER",
    "claude-musl": "SAMOVAR_CLAUDE_MUSL",
    "registry": "SAMOVAR_REGISTRY",
    "musl": "SAMOVAR_MUSL",
    "postgres": "SAMOVAR_PG_BIN",
    "chromium": "SAMOVAR_CHROMIUM",
}
"""Where the tests look for what was met."""
CHECKS = (
    ("ruff", "check"),
    ("ruff", "format", "--check"),
    ("mypy",),
    ("lint-imports",),
)
LOCK = (
    *("uv", "pip", "compile", "pyproject.toml", "--quiet", "--output-file", "requirements.lock"),
    *("--extra", "bot", "--extra", "demo", "--group", "dev"),
    *("--universal", "--python-version", "3.11", "--generate-hashes"),
    *("--no-emit-index-url", "--no-emit-find-links", "--no-annotate", "--no-header"),
)


def main(root: Path, command: str, words: Sequence[str]) -> int:
    """Do what `./samovar command words…` asks for and return the exit code."""
    os.chdir(root)
    match command:
        case "check":
            return check()
        case "test":
            return test(list(words))
        case "bench":
            return _run([sys.executable, "-m", "tests.bench", *words])
        case _:
            return _run([str(BIN / LOCK[0]), *LOCK[1:], *words])


def check() -> int:
    """Run every check, also after one failed, and return whether all passed as an exit code."""
    failed = []
    for name, *words in CHECKS:
        say(f"check: {name} {' '.join(words)}".rstrip())
        if _run([str(BIN / name), *words]):
            failed.append(name)
    if failed:
        say(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def test(words: list[str]) -> int:
    """Set up what the tests need, run pytest and return its exit code.

    Without `--long`, tests marked so are left out. All of them run on two processes or more,
    chosen ones in this one.
    """
    state = state_dir()
    own_engine = Dockerd(state / "docker")
    was_running = own_engine.is_running()
    try:
        with own_engine.in_use():
            return _test(state, words)
    finally:
        if not was_running:
            own_engine.stop()


def _test(state: Path, words: list[str]) -> int:
    found, findings = provide(TEST, state=state, install=may_install(), progress=say)
    for finding in findings:
        if not finding.ok:
            say(f"missing: {MissingError(finding.detail, mend=finding.mend)}")
    os.environ.update({VARIABLES[name]: found[name] for name in VARIABLES if name in found})
    os.environ["PYTHONHASHSEED"] = "0"  # All processes must collect in the same order.
    if found.get("compose"):
        os.environ["PATH"] = f"{found['compose']}{os.pathsep}{os.environ['PATH']}"
    return _run([sys.executable, "-m", "pytest", *_pytest_words(words)])


def _pytest_words(words: list[str]) -> list[str]:
    is_long = "--long" in words
    words = [word for word in words if word != "--long"]
    marks = [] if is_long else ["-m", "not long"]
    processes = str(min(4, 1 + (os.cpu_count() or 1)))  # Many tests wait for other processes.
    spread = [] if words else ["-n", processes, "--dist", "loadgroup"]
    return [*marks, *spread, *words]


def say(line: str) -> None:
    """Tell the person what is going on; results go to stdout, remarks do not."""
    sys.stderr.write(f"samovar: {line}\n")
    sys.stderr.flush()


def _run(command: Sequence[str]) -> int:
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
