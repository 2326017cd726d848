"""The sample of the demonstration: a real release from PyPI made into a repository, and a real fix.

inflection 0.5.1 (MIT) writes `tooths`, `foots` and `gooses`; the task is to mend that.
"""

import json
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bot.demo.improvise import COMPLETE, Recipe
from bot.demo.script import say, step, use
from core.errors import ConfigError

FETCH_S_MAX = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A source release on PyPI, pinned."""

    name: str
    version: str
    sha256: str


INFLECTION = Release(
    name="inflection",
    version="0.5.1",
    sha256="1a29730d366e996aaacffb2f1f1cb9593dc38e2ddd30c91250c6dde09ea9b417",
)
CHECK = "python3 -m pytest -q"
TASK = (
    'pluralize("tooth") gives "tooths". Make tooth, foot and goose irregular, '
    "and add them to the tests."
)
_EDIT = r"""
from pathlib import Path
module, tests = Path("inflection/__init__.py"), Path("test_inflection.py")
words = (("tooth", "teeth"), ("foot", "feet"), ("goose", "geese"))
last = "_irregular('zombie', 'zombies')\n"
rules = "".join(f"_irregular('{one}', '{many}')\n" for one, many in words)
module.write_text(module.read_text().replace(last, last + rules))
first = "SINGULAR_TO_PLURAL = (\n"
pairs = "".join(f'    ("{one}", "{many}"),\n' for one, many in words)
tests.write_text(tests.read_text().replace(first, first + pairs))
"""
RECIPE = Recipe(
    match=r"tooth",
    steps=(
        step(
            say("The irregular words are a list; I add the three and their tests."),
            use("mcp__samovar__report_progress", text="adding three irregular words"),
            use("Bash", command=f"python3 - <<'EOF'\n{_EDIT.strip()}\nEOF\ngit diff --stat"),
        ),
        step(say("Now the tests."), use("Bash", command=CHECK)),
        step(
            use(
                "Bash",
                command="git add -A && git commit -m 'Pluralize tooth, foot and goose' "
                "-m 'They are irregular: teeth, feet, geese.'",
            )
        ),
        step(
            use(
                COMPLETE,
                summary="tooth, foot and goose are irregular now; both directions are tested "
                "and the whole suite passes.",
            )
        ),
        step(say("Done: teeth, feet and geese.")),
    ),
)


def fetch(release: Release, folder: Path) -> Path:
    """Download a source release, check its hash, unpack it; return the folder of its sources.

    Nothing of the release is run but what pip itself runs to read its metadata.

    Raises:
        ConfigError: PyPI cannot be reached, or the file is not the pinned one.
    """
    target = folder / f"{release.name}-{release.version}"
    if target.is_dir():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        archive = _download(release, Path(scratch))
        with tarfile.open(archive) as tar:
            tar.extractall(scratch, filter="data")
        (Path(scratch) / target.name).rename(target)
    return target


def _download(release: Release, scratch: Path) -> Path:
    wanted = scratch / "wanted.txt"
    wanted.write_text(f"{release.name}=={release.version} --hash=sha256:{release.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--no-binary", release.name, "--dest", str(scratch), "--requirement", str(wanted)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_S_MAX, check=False)
    found = sorted(scratch.glob(f"{release.name}-*.tar.gz"))
    if done.returncode != 0 or not found:
        raise ConfigError(
            f"The sample {release.name} {release.version} could not be fetched from PyPI. "
            f"Check the network and try again. pip said: {done.stderr.strip()[-400:]}"
        )
    return found[0]


def devcontainer(image: str) -> dict[str, str]:
    """Return the files that the release lacks as a repository: its devcontainer, what to ignore."""
    settings = {"name": "inflection", "image": image, "postCreateCommand": "python3 --version"}
    return {
        ".devcontainer/devcontainer.json": json.dumps(settings, indent=2) + "\n",
        ".gitignore": "__pycache__/\n.pytest_cache/\n",
    }
