"""One package of the npm registry: fetched, compared with its pinned hash, unpacked."""

import base64
import hashlib
import os
import shutil
import tarfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bot.setup.missing import MissingError
from bot.setup.shell import QUIET_S, REMIND_S, CommandError, run

REGISTRY = "https://registry.npmjs.org"
"""npm's own default, for machines where npm is not and names no other."""
LIMIT_S = 1200
SILENCE_S = 60
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One version of one package.

    Attributes:
        name: With its scope: `@devcontainers/cli`.
        integrity: Subresource Integrity of the archive, `sha512-…`, as npm's lock files have it.
    """

    name: str
    version: str
    integrity: str


def fetch(package: Package, folder: Path, *, what: str, progress: Callable[[str], None]) -> Path:
    """Bring the archive into `folder` and return its path; it is what the pin says.

    npm fetches it where there is npm, with its mirrors and credentials; else we do.

    Raises:
        MissingError: If it cannot be fetched or is something else.
    """
    label = f"fetching {what}"
    try:
        if shutil.which("npm"):
            archive = _fetch_by_npm(package, folder, label=label, progress=progress)
        else:
            archive = _fetch_by_ourselves(package, folder, label=label, progress=progress)
    except (CommandError, OSError) as error:
        sentence = f"{what} cannot be fetched: {error}"
        raise MissingError(sentence, mend="check the network and try again") from error
    if integrity(archive) != package.integrity:
        archive.unlink()
        sentence = f"{package.name} {package.version} is not the package that we know by its hash"
        raise MissingError(sentence, mend="do not use it; report it (SECURITY.md)")
    return archive


def unpack(archive: Path, folder: Path) -> None:
    """Write the files of a package into `folder`, without the `package/` that npm puts before."""
    with tarfile.open(archive) as content:
        for member in content:
            path = PurePosixPath(member.name)
            source = content.extractfile(member) if member.isfile() else None
            if source is None or path.is_absolute() or ".." in path.parts:
                continue
            target = folder.joinpath(*path.parts[1:])
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file:
                shutil.copyfileobj(source, file, CHUNK_BYTES)
            target.chmod(0o755 if member.mode & 0o100 else 0o644)


def integrity(path: Path) -> str:
    """Return the Subresource Integrity of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha512").digest()
    return f"sha512-{base64.b64encode(digest).decode()}"


def registry() -> str:
    """Return the registry that npm would ask, without npm."""
    named = os.environ.get("NPM_CONFIG_REGISTRY")
    settings = Path.home() / ".npmrc"
    if not named and settings.is_file():
        for line in settings.read_text().splitlines():
            key, equals, value = line.partition("=")
            if equals and key.strip() == "registry":
                named = value.strip()
    return (named or REGISTRY).rstrip("/")


def _fetch_by_npm(
    package: Package, folder: Path, *, label: str, progress: Callable[[str], None]
) -> Path:
    what = f"{package.name}@{package.version}"
    command = ["npm", "pack", what, "--ignore-scripts", "--pack-destination", str(folder)]
    run(command, limit_s=LIMIT_S, label=label, progress=progress)
    (archive,) = folder.glob("*.tgz")
    return archive


def _fetch_by_ourselves(
    package: Package, folder: Path, *, label: str, progress: Callable[[str], None]
) -> Path:
    short = package.name.rpartition("/")[2]
    file = f"{short}-{package.version}.tgz"
    archive = folder / file
    speak_at = time.monotonic() + QUIET_S
    address = f"{registry()}/{package.name}/-/{file}"
    with urllib.request.urlopen(address, timeout=SILENCE_S) as answer, archive.open("wb") as out:  # noqa: S310  what comes is checked by hash
        size = int(answer.headers.get("Content-Length") or 0)
        while chunk := answer.read(CHUNK_BYTES):
            out.write(chunk)
            if time.monotonic() >= speak_at:
                share = f"{out.tell() * 100 // size} %" if size else f"{out.tell() >> 20} MB"
                progress(f"{label} … {share}")
                speak_at = time.monotonic() + REMIND_S
        if size and out.tell() != size:
            raise OSError(f"{address} broke off after {out.tell()} of {size} bytes")
    return archive
