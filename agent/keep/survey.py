"""What lies in a workspace now, as it would stand in a copy."""

import os
import stat
from collections.abc import Callable, Iterator

from agent.keep import folders
from agent.keep.archive import Member
from agent.keep.folders import DEPTH_MAX, FOLDER, Found
from agent.keep.site import STALE, Site


def open_roots(site: Site) -> Iterator[tuple[str, int]]:
    """Yield the folders of a workspace that are there, open until the next one."""
    for root, folder in site.roots().items():
        if folder.is_dir() and not folder.is_symlink():
            with folders.opened(folder, FOLDER) as top:
                yield root, top


def unkeepable(name: str, found: Found) -> str:
    """Return why no copy holds such a thing, as the end of a sentence; empty if it can."""
    if name in STALE:
        return "is the lock of a git that does not run any more"
    if not (found.is_file or found.is_folder or found.is_link):
        return "is a socket, a pipe or a device"
    if found.is_folder and found.depth >= DEPTH_MAX:
        return "lies too deep"
    return ""


def look(
    root: str, top: int, is_left: Callable[[str, Found], bool]
) -> Iterator[tuple[Member, Found | None]]:
    """Yield what is in a root now as it would stand in a copy, the root itself first."""
    about = os.fstat(top)
    yield (
        Member(name=root, kind="folder", mode=stat.S_IMODE(about.st_mode), mtime=_seconds(about)),
        None,
    )
    first: dict[tuple[int, int], str] = {}
    left: set[str] = set()
    for found in folders.walk(top, enter=lambda one: one.path not in left):
        name = f"{root}/{found.path}"
        if is_left(name, found):
            left.add(found.path)
            continue
        kind, target = "file", ""
        if found.is_folder:
            kind = "folder"
        elif found.is_link:
            kind, target = "symlink", found.target()
        elif found.stat.st_nlink > 1:
            target = first.setdefault((found.stat.st_dev, found.stat.st_ino), name)
            kind, target = ("file", "") if target == name else ("link", target)
        mode = stat.S_IMODE(found.stat.st_mode)
        yield (
            Member(name=name, kind=kind, mode=mode, mtime=_seconds(found.stat), target=target),
            found,
        )


def _seconds(about: os.stat_result) -> float:
    return about.st_mtime_ns / 1e9


def looks(found: Found) -> tuple[int, ...]:
    """Return by what a change of a file is seen without reading it."""
    about = found.stat
    return about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns
