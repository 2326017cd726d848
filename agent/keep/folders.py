"""Read and write below a folder of a stranger, never through a link.

Every name is looked up in the open folder that it is in, and no lookup follows a link, so what runs
in a container meanwhile cannot lead us elsewhere. Names are text with the surrogates of PEP 383 for
bytes that are none.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

DEPTH_MAX = 256
"""Each level holds a descriptor open; of 1,024 that a process may have."""
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Found:
    """Something below a folder.

    Attributes:
        path: Its names below the top, joined by slashes.
        folder: The open folder that it is in, while it is the newest one found.
    """

    path: str
    folder: int
    stat: os.stat_result

    @property
    def name(self) -> str:
        """Its own name."""
        return self.path.rpartition("/")[2]

    @property
    def depth(self) -> int:
        """How many folders it is in."""
        return self.path.count("/")

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder and no link to one."""
        return stat.S_ISDIR(self.stat.st_mode)

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.stat.st_mode)

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self.stat.st_mode)

    def target(self) -> str:
        """Return where a symbolic link points to."""
        return os.readlink(self.name, dir_fd=self.folder)

    def open(self) -> int:
        """Open the regular file.

        Raises:
            OSError: It is another thing by now.
        """
        descriptor = os.open(self.name, READ, dir_fd=self.folder)
        now = os.fstat(descriptor)
        if (now.st_dev, now.st_ino) != (self.stat.st_dev, self.stat.st_ino):
            os.close(descriptor)
            raise OSError(errno.ESTALE, "was replaced")
        return descriptor


Enter = Callable[[Found], bool]


def walk(top: int, *, enter: Enter = lambda _: True, path: str = "") -> Iterator[Found]:
    """Yield what is below the open folder `top`, folders before their content, by name.

    `enter` says of each folder, after it was yielded, whether to go into it.
    """
    for name in names_in(top):
        try:
            about = os.stat(name, dir_fd=top, follow_symlinks=False)
        except FileNotFoundError:
            continue
        found = Found(f"{path}{name}", top, about)
        yield found
        if found.is_folder and found.depth < DEPTH_MAX and enter(found):
            with opened(name, FOLDER, folder=top) as below:
                yield from walk(below, enter=enter, path=f"{found.path}/")


def names_in(folder: int) -> list[str]:
    """Return what is in an open folder, sorted by bytes."""
    with os.scandir(folder) as entries:
        return sorted((entry.name for entry in entries), key=os.fsencode)


@contextmanager
def opened(name: str | os.PathLike[str], flags: int, *, folder: int | None = None) -> Iterator[int]:
    """Hold something open for the length of a `with` block."""
    descriptor = os.open(name, flags, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def parent_of(top: int, path: str) -> Iterator[tuple[int, str]]:
    """Yield the open folder that `path` is in, and its name there.

    Raises:
        OSError: One of its folders is missing, a link, or no folder.
    """
    *above, name = path.split("/")
    current = os.dup(top)
    try:
        for part in above:
            below = os.open(part, FOLDER, dir_fd=current)
            os.close(current)
            current = below
        yield current, name
    finally:
        os.close(current)


def read(top: int, path: str, *, bytes_max: int) -> bytes:
    """Return the beginning of a regular file, empty if there is none."""
    with suppress(OSError), parent_of(top, path) as (folder, name):
        about = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISREG(about.st_mode):
            with os.fdopen(os.open(name, READ, dir_fd=folder), "rb") as file:
                return file.read(bytes_max)
    return b""


def clear(folder: int, name: str) -> None:
    """Remove whatever has this name, with all its content; nothing there is fine."""
    try:
        about = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(about.st_mode):
        os.unlink(name, dir_fd=folder)
        return
    with opened(name, FOLDER, folder=folder) as below:
        os.fchmod(below, 0o700)
        for child in names_in(below):
            clear(below, child)
    os.rmdir(name, dir_fd=folder)
