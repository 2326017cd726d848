"""What came back with a copy, in sentences for people."""

import asyncio
import io
import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress

from agent import files
from agent.keep import folders
from agent.keep.archive import blob_of
from agent.keep.folders import FOLDER, Found
from agent.keep.objects import Objects, checked_out, references, staged
from agent.keep.site import Site

STASH_LOG = ".git/logs/refs/stash"
LOG_BYTES_MAX = 16 << 20
CONVERSATION = re.compile(r"projects/[^/]+/[^/]+\.jsonl")
HISTORY, HISTORIES = "terminal's history", "terminals' histories"
OF_OTHERS = "Terminals' histories did not come back: they belong to the workspace of the copy."


async def what_came_back(
    site: Site, objects: Objects, bases: Collection[str], same: Mapping[str, str]
) -> list[str]:
    """Say how much work is in a workspace that was put back.

    `objects` are its own, `bases` where the work starts, `same` the content of the files that are
    as in the base.
    """
    _, head = await asyncio.to_thread(checked_out, site.tree)
    refs = await asyncio.to_thread(references, site.tree)
    tips = {oid for name, oid in refs.items() if name.startswith("refs/heads/")} | {head} - {""}
    commits = await objects.count(await objects.existing(tips), bases)
    committed = await objects.blobs(head)
    changed, untracked = await asyncio.to_thread(_files, site, committed, same)
    own, others = await asyncio.to_thread(_histories, site)
    parts = [
        _many(commits, "commit"),
        _many(await asyncio.to_thread(_stashed, site), "stash", "stashes"),
        _many(changed, "changed file"),
        _many(untracked, "untracked file"),
        _many(await asyncio.to_thread(_conversations, site), "conversation"),
        _many(own, HISTORY, HISTORIES),
    ]
    said = ", ".join(part for part in parts if part)
    told = f"Put back: {said}." if said else "Nothing had been changed in the workspace."
    return [told, OF_OTHERS] if others else [told]


def _many(count: int, one: str, more: str = "") -> str:
    return "" if not count else f"1 {one}" if count == 1 else f"{count} {more or f'{one}s'}"


def _histories(site: Site) -> tuple[int, int]:
    """Return how many terminals are this workspace's, and how many those of another one."""
    notes = [files.read_json(path) or {} for path in site.terminals.glob("*/terminal.json")]
    orders = [note.get("order") for note in notes]
    own = sum(isinstance(one, dict) and one.get("workspace") == site.workspace for one in orders)
    return own, len(notes) - own


def _conversations(site: Site) -> int:
    with suppress(FileNotFoundError), folders.opened(site.agent, FOLDER) as top:
        below = folders.walk(top, enter=lambda one: one.depth < 2)
        return sum(one.is_file and bool(CONVERSATION.fullmatch(one.path)) for one in below)
    return 0


def _stashed(site: Site) -> int:
    with folders.opened(site.tree, FOLDER) as top:
        return len(folders.read(top, STASH_LOG, bytes_max=LOG_BYTES_MAX).splitlines())


def _files(site: Site, committed: Mapping[str, str], same: Mapping[str, str]) -> tuple[int, int]:
    """Return how many files are not as in the last commit, and how many git does not know."""
    index = staged(site.tree)
    tracked = {*index, *committed}
    there = dict(_there(site, same, tracked))
    changed = [
        path
        for path in (there.keys() & tracked) | committed.keys()
        if not there.get(path) == index.get(path) == committed.get(path)
    ]
    return len(changed), len(there.keys() - tracked)


def _there(
    site: Site, same: Mapping[str, str], tracked: Collection[str]
) -> Iterator[tuple[str, str]]:
    """Yield every file of the working tree with its content; of untracked ones only the name.

    A folder that is tracked is a repository of its own.
    """
    with folders.opened(site.tree, FOLDER) as top:
        for found in folders.walk(
            top, enter=lambda one: one.name != ".git" and one.path not in tracked
        ):
            if not (found.is_file or found.is_link):
                continue
            if found.path in same:
                yield found.path, same[found.path]
            else:
                yield found.path, _blob(found) if found.path in tracked else ""


def _blob(found: Found) -> str:
    if found.is_link:
        target = os.fsencode(found.target())
        return blob_of(io.BytesIO(target), len(target))
    with os.fdopen(found.open(), "rb", buffering=0) as file:
        return blob_of(file, found.stat.st_size)
