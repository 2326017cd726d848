"""The folder of a local node."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

KEEP_S = 30 * 86_400
"""The same number as in `agent/rescue.py`."""


def write(path: Path, value: Mapping[str, object]) -> None:
    """Replace a JSON file by one rename; only its owner can read it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(f".{path.name}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def read(path: Path) -> dict[str, object] | None:
    """Return a JSON object, None if there is none that can be read."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def remove(folder: Path, *, keep: Path) -> None:
    """Remove a node's folder, except for its rescue copies: those move below `keep`.

    `server.json` goes last, so that a removal which was cut is found again.

    Raises:
        OSError: Something cannot be removed.
    """
    for mount in _mounts(folder):
        subprocess.run(["umount", "--", mount], check=False, capture_output=True, timeout=30)
    if left := _mounts(folder):
        raise OSError(f"{left[0]} is still mounted")
    if any((folder / "rescue").glob("*")):
        keep.mkdir(exist_ok=True, mode=0o700)
        (folder / "rescue").rename(keep / f"{folder.name}-{time.time_ns()}")
    for child in folder.iterdir():
        if child.name == "server.json":
            continue
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        else:
            child.unlink()
    shutil.rmtree(folder)


def expire(kept: Path, *, now: float) -> None:
    """Delete kept copies of nodes that are gone and whose time is over, by the node agent's rules.

    Those are bundles noted as being on the code host for 30 days, and what was moved to a folder
    `discarded` so long ago.
    """
    over = [path for path in kept.glob("*/discarded/*") if now - path.lstat().st_ctime >= KEEP_S]
    for note in kept.glob("*/*.bundle.json"):
        since = (read(note) or {}).get("remote_at")
        if isinstance(since, int | float) and since and now - since >= KEEP_S:
            over += [note.with_suffix(""), note]
    for path in over:
        path.unlink(missing_ok=True)


def _mounts(folder: Path) -> Sequence[str]:
    """Return what is mounted below `folder`, deepest first; proc(5) writes blanks in octal."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = (line.split(" ")[4].encode().decode("unicode_escape") for line in lines)
    return sorted((point for point in points if point.startswith(f"{folder}/")), reverse=True)
