"""Which files of a working tree git ignores, and which of those a copy leaves out.

git is asked in a folder of ours that has the tree's folders and `.gitignore` files and nothing
else; folders that are ignored are not looked into. When git does not answer, nothing is ignored:
then a copy is larger and never poorer.
"""

import os
import subprocess
from collections import deque
from collections.abc import Collection
from contextlib import suppress
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO

from agent import files
from agent.git import SAFE, environment
from agent.keep import folders
from agent.keep.folders import FOLDER, Found

FILE_BYTES_MAX = 16 << 20
TOTAL_BYTES_MAX = 256 << 20
"""Of ignored files only. What is not ignored is kept whatever its size."""
BUILD_TREES = frozenset(
    {
        *("node_modules", "bower_components", ".yarn", ".pnpm-store", ".next", ".nuxt", ".turbo"),
        *(".venv", "venv", "__pycache__", ".tox", ".nox", ".eggs", ".mypy_cache", ".ruff_cache"),
        *(".pytest_cache", ".hypothesis", ".gradle", "target", "build", "dist", "out", ".cache"),
        *(".terraform", "Pods", "_build", "deps", "vendor"),
    }
)
"""Ignored folders of these names can be made again, by their names."""
MARKS = ("CACHEDIR.TAG", "pyvenv.cfg")
"""Files that say the same of the folder they are in."""
LOOKED_AT_MAX = 10_000
"""Names in such a folder among which a repository is looked for: that cannot be made again."""
RULES_BYTES_MAX = 1 << 20


class Rules:
    """A git that says what is ignored, for the length of a `with` block."""

    def __init__(self, folder: Path, *, exclude: bytes) -> None:
        self._folder = folder
        self._exclude = exclude
        self._git: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Rules":
        self._folder.mkdir(parents=True)
        self._run("init", "--quiet", "--template=").communicate()
        (self._folder / ".git/info").mkdir(exist_ok=True)
        (self._folder / ".git/info/exclude").write_bytes(self._exclude)
        self._git = self._run("check-ignore", "-z", "--stdin", "--verbose", "--non-matching")
        return self

    def __exit__(self, *_: object) -> None:
        if self._git:
            self._git.kill()
            self._git.communicate()
        files.remove(self._folder)

    def enter(self, path: str, rules: bytes) -> None:
        """Note the `.gitignore` of a folder, empty for none, before asking what is in it."""
        with suppress(OSError, ValueError):
            if path:
                (self._folder / path).mkdir(exist_ok=True)
            if rules:
                (self._folder / path / ".gitignore").write_bytes(rules)

    def ignore(self, path: str, *, is_folder: bool) -> bool:
        """Whether git ignores this, which is in no ignored folder."""
        if self._git is None or self._git.stdin is None or self._git.stdout is None:
            return False
        try:
            if is_folder:
                (self._folder / path).mkdir(exist_ok=True)
            # After `./` no name is read as a pattern.
            self._git.stdin.write(b"./" + path.encode(errors="surrogateescape") + b"\0")
            self._git.stdin.flush()
            _, _, pattern, _ = (self._field(self._git.stdout) for _ in range(4))
        except (OSError, EOFError):
            return False
        return pattern != b"" and not pattern.startswith(b"!")

    def _field(self, stream: IO[bytes]) -> bytes:
        field = bytearray()
        while (byte := stream.read(1)) != b"\0":
            if not byte:
                raise EOFError
            field += byte
        return bytes(field)

    def _run(self, *argv: str) -> subprocess.Popen[bytes]:
        settings = [part for setting in SAFE for part in ("-c", setting)]
        return subprocess.Popen(
            ["setpriv", "--pdeathsig=KILL", "--", "git", *settings, *argv],
            env=environment(),
            cwd=self._folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )


class Choice:
    """Says of each thing in a working tree, folders first, why it is left out of a copy."""

    def __init__(self, rules: Rules, top: int, tracked: Collection[str]) -> None:
        self._rules = rules
        self._top = top
        self._tracked = tracked
        self._tracked_folders = {
            str(above) for path in tracked for above in PurePosixPath(path).parents
        }
        self._inside = ""
        self._bytes = 0
        self._enter("")

    def why_not(self, found: Found) -> str:
        """Return why it is left out, as the end of a sentence; empty if it is kept."""
        path = found.path
        if path in self._tracked or ".git" in path.split("/"):
            return ""
        is_ignored = bool(self._inside) and path.startswith(self._inside)
        if not is_ignored:
            is_ignored = self._rules.ignore(path, is_folder=found.is_folder)
            self._inside = f"{path}/" if is_ignored and found.is_folder else ""
        if found.is_folder:
            return self._folder(found, is_ignored=is_ignored)
        return self._file(found.stat.st_size) if is_ignored and found.is_file else ""

    def _folder(self, found: Found, *, is_ignored: bool) -> str:
        if not is_ignored:
            self._enter(found.path)
        elif found.path not in self._tracked_folders and _can_be_made_again(found):
            return "is ignored by git and can be made again"
        return ""

    def _file(self, size: int) -> str:
        if size > FILE_BYTES_MAX:
            return f"is ignored by git and larger than {FILE_BYTES_MAX >> 20} MB"
        if self._bytes + size > TOTAL_BYTES_MAX:
            return f"is ignored by git, as are {TOTAL_BYTES_MAX >> 20} MB that were kept"
        self._bytes += size
        return ""

    def _enter(self, path: str) -> None:
        name = f"{path}/.gitignore" if path else ".gitignore"
        self._rules.enter(path, folders.read(self._top, name, bytes_max=RULES_BYTES_MAX))


def _can_be_made_again(found: Found) -> bool:
    with folders.opened(found.name, FOLDER, folder=found.folder) as below:
        is_marked = found.name in BUILD_TREES or {*MARKS} & {*folders.names_in(below)}
        return bool(is_marked) and not _holds_repository(below)


def _holds_repository(top: int) -> bool:
    """Whether somebody's clone lies in an open folder; what is nearest is looked at first."""
    waiting, left = deque(["."]), LOOKED_AT_MAX
    while waiting and left:
        path = waiting.popleft()
        with (
            suppress(OSError),
            folders.parent_of(top, path) as (above, name),
            folders.opened(name, FOLDER, folder=above) as here,
            os.scandir(here) as entries,
        ):
            for entry in islice(entries, left):
                left -= 1
                if entry.name == ".git":
                    return True
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{path}/{entry.name}")
    return False
