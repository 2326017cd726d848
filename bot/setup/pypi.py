"""Source releases from PyPI, pinned by hash, fetched by the pip of this environment."""

import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

from bot.setup.missing import MissingError

FETCH_S_MAX = 180


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A source release on PyPI."""

    name: str
    version: str
    sha256: str

    @property
    def folder(self) -> str:
        """The folder that its archive holds."""
        return f"{self.name}-{self.version}"


def unpack(release: Release, scratch: Path) -> Path:
    """Download a release into the empty folder `scratch`; return the folder of its sources.

    Nothing of it is run but what pip itself runs to read its metadata.

    Raises:
        MissingError: PyPI cannot be reached, or the file is not the pinned one.
    """
    with tarfile.open(_download(release, scratch)) as tar:
        tar.extractall(scratch, filter="data")
    return scratch / release.folder


def _download(release: Release, scratch: Path) -> Path:
    wanted = scratch / "wanted.txt"
    wanted.write_text(f"{release.name}=={release.version} --hash=sha256:{release.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--no-binary", ":all:", "--dest", str(scratch), "--requirement", str(wanted)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_S_MAX, check=False)
    found = sorted(scratch.glob("*.tar.gz"))
    if done.returncode != 0 or not found:
        raise MissingError(
            f"{release.folder} could not be fetched from PyPI: {done.stderr.strip()[-400:]}",
            mend="check the network and try again",
        )
    return found[0]
