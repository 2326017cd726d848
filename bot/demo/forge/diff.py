"""Read what `git diff` prints (pure)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal

Status = Literal["added", "removed", "modified", "renamed"]
Kind = Literal["added", "removed", "context", "hunk", "note"]
_STATUS: dict[str, Status] = {"A": "added", "D": "removed", "R": "renamed"}
_HUNK = re.compile(r"@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@")
_INDEX = re.compile(r"^index ([0-9a-f]+)\.\.([0-9a-f]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a change with its number in the old and in the new file."""

    kind: Kind
    old: int | None
    new: int | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDiff:
    """What happened to one file.

    Attributes:
        patch: From the first `@@` on, as GitHub's API gives it; empty for binary files.
        blob: Id of the new content, of the old one if the file was removed.
    """

    path: str
    was: str
    status: Status
    blob: str
    patch: str

    @property
    def additions(self) -> int:
        """Lines that came."""
        return sum(line.kind == "added" for line in self.lines())

    @property
    def deletions(self) -> int:
        """Lines that went."""
        return sum(line.kind == "removed" for line in self.lines())

    def lines(self) -> Iterator[Line]:
        """Yield the lines of the patch with their numbers."""
        old = new = 0
        for text in self.patch.split("\n") if self.patch else ():
            hunk = _HUNK.match(text)
            if hunk:
                old, new = int(hunk[1]), int(hunk[2])
                yield Line(kind="hunk", old=None, new=None, text=text)
            elif text.startswith("+"):
                yield Line(kind="added", old=None, new=new, text=text[1:])
                new += 1
            elif text.startswith("-"):
                yield Line(kind="removed", old=old, new=None, text=text[1:])
                old += 1
            elif text.startswith("\\"):
                yield Line(kind="note", old=None, new=None, text=text[2:])
            else:
                yield Line(kind="context", old=old, new=new, text=text[1:])
                old, new = old + 1, new + 1


def read_diff(names: str, patches: str) -> list[FileDiff]:
    """Join `git diff --name-status -z` with `git diff --patch --full-index` of the same span.

    The names come from the first because the second quotes them; both are in the same order.
    """
    parts = re.split(r"^diff --git .*\n?", patches, flags=re.MULTILINE)[1:]
    pairs = zip_longest(_names(names), parts, fillvalue="")
    return [_file(entry, part) for entry, part in pairs if isinstance(entry, tuple)]


def _names(text: str) -> Iterator[tuple[Status, str, str]]:
    fields = iter(text.split("\0"))
    for letter in fields:
        if not letter:
            continue
        status = _STATUS.get(letter[0], "modified")
        was = next(fields)
        yield status, was, next(fields) if status == "renamed" else was


def _file(entry: tuple[Status, str, str], part: str) -> FileDiff:
    status, was, path = entry
    start = re.search(r"^@@ ", part, flags=re.MULTILINE)
    index = _INDEX.search(part)
    blob = "" if index is None else index[1 if status == "removed" else 2]
    patch = part[start.start() :].removesuffix("\n") if start else ""
    return FileDiff(path=path, was=was, status=status, blob=blob, patch=patch)
