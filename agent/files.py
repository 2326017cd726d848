"""Where a node keeps things, and writing them so that a crash leaves the old or the new."""

import hashlib
import json
import os
import re
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.ids import WorkspaceId


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Folders below the node's state folder."""

    state: Path

    def mirror(self, repository: str, url: str) -> Path:
        """Return the bare mirror of a repository; another address is another mirror."""
        return self.state / "mirror" / f"{key(repository, url)}.git"

    def trees(self, repository: str, url: str) -> Path:
        """Return the folder of a repository's ready trees: `{commit}/{uid}` below it."""
        return self.state / "tree" / key(repository, url)

    def good(self, repository: str, url: str) -> Path:
        """Return the note about a repository's last good image."""
        return self.state / "good" / f"{key(repository, url)}.json"

    @property
    def workspaces(self) -> Path:
        """One folder per workspace."""
        return self.state / "ws"

    def workspace(self, workspace: WorkspaceId) -> Path:
        """Return the folder of one workspace.

        Raises:
            ValueError: If the id could be read as another path.
        """
        return self.workspaces / plain(workspace)

    def publish(self, workspace: WorkspaceId) -> Path:
        """Return the bare repository that commits of a workspace are taken to."""
        return self.state / "publish" / f"{plain(workspace)}.git"

    @property
    def rescue(self) -> Path:
        """Kept bundles and archives."""
        return self.state / "rescue"

    def copy(self, sha256: str) -> Path:
        """Return where the rescue copy with this SHA-256 lies; see `agent/keep`."""
        return self.rescue / f"{plain(sha256)}.copy"

    def parked(self, workspace: WorkspaceId) -> Path:
        """Return the record of a stopped workspace whose volumes wait for it."""
        return self.state / "parked" / f"{plain(workspace)}.json"

    @property
    def scratch(self) -> Path:
        """What may be deleted at any start."""
        return self.state / "tmp"

    @property
    def owner(self) -> str:
        """Short name of this state folder, the label of everything that belongs to it."""
        return hashlib.sha256(str(self.state).encode()).hexdigest()[:12]


def plain(name: str) -> str:
    """Return `name` if it is a plain file name.

    Raises:
        ValueError: Otherwise.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise ValueError(f"{name!r:.80} is not a plain name")
    return name


def key(repository: str, url: str) -> str:
    """Return a file name for a repository at an address."""
    short = re.sub(r"[^a-z0-9]+", "-", repository.lower()).strip("-")[:40]
    return f"{short}-{hashlib.sha256(url.encode()).hexdigest()[:12]}"


def write(path: Path, data: bytes | str, *, mode: int = 0o600) -> None:
    """Replace a file by one rename; readers see the old or the new content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data.encode() if isinstance(data, str) else data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def settle(folder: Path) -> None:
    """Return when the names in a folder are on the disk; `write` sees to what is in its file."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: object) -> None:
    """Replace a JSON file by one rename."""
    write(path, json.dumps(value, indent=1, ensure_ascii=False))


def read_json(path: Path) -> dict[str, Any] | None:
    """Return a JSON object, or None if there is none that can be read."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def give_folder(folder: Path, *, uid: int, gid: int) -> None:
    """Make a folder that only `uid` may enter; what else has its name is removed, not followed."""
    if folder.is_symlink() or not folder.is_dir():
        folder.unlink(missing_ok=True)
        folder.mkdir()
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        os.fchown(descriptor, uid, gid)
        os.fchmod(descriptor, 0o700)
    finally:
        os.close(descriptor)


def remove(folder: Path) -> None:
    """Delete a folder with all its content; gone already is fine.

    Foreign uids may have left read-only folders; then `rm` runs once more after `chmod`.
    """
    if not folder.is_symlink() and folder.is_dir():
        with suppress(FileNotFoundError):
            shutil.rmtree(folder, onerror=_make_writable)
    else:
        folder.unlink(missing_ok=True)


def _make_writable(_: Any, path: str, __: object) -> None:
    parent = Path(path).parent
    parent.chmod(0o700)
    with suppress(FileNotFoundError):
        if Path(path).is_dir() and not Path(path).is_symlink():
            subprocess.run(["rm", "-rf", "--", path], check=False)
        else:
            Path(path).unlink()
