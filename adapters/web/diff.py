"""A diff as git prints it, taken apart for a page (pure)."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import quote

from markupsafe import Markup

from adapters.web.highlight import coloured

LINES_MAX = 5_000
"""Lines of a whole diff that a page shows."""
_HUNK = re.compile(r"@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
Side = Literal["add", "del", "same", "hunk", "note"]


@dataclass(slots=True)
class DiffLine:
    """One line.

    Attributes:
        old: Its number before the change, None for an added one; `new` likewise.
        html: Set once the file is coloured.
    """

    side: Side
    text: str
    old: int | None = None
    new: int | None = None
    html: Markup = field(default_factory=Markup)


@dataclass(slots=True)
class FileDiff:
    """What changed in one file.

    Attributes:
        path: As git names it after the change, or before a deletion.
        added: Number of added lines, as is `removed` that of removed ones.
    """

    path: str
    lines: list[DiffLine] = field(default_factory=list)
    added: int = 0
    removed: int = 0

    @property
    def encoded(self) -> str:
        """The path percent-encoded, as `core.browse` wants it."""
        return quote(self.path, errors="surrogateescape")


def parsed(text: str) -> tuple[Sequence[FileDiff], bool]:
    """Return the files of `git diff`, and whether lines past `LINES_MAX` were left out."""
    lines = text.removesuffix("\n").split("\n")
    files: list[FileDiff] = []
    old = new = 0
    for line in lines[:LINES_MAX]:
        if line.startswith("diff --git "):
            files.append(FileDiff(path=_path_of(line)))
            old = new = 0
        elif not files:
            continue
        elif found := _HUNK.match(line):
            old, new = int(found[1]), int(found[2])
            files[-1].lines.append(DiffLine("hunk", line))
        elif not (old or new):
            _note(files[-1], line)
        elif line.startswith("+"):
            files[-1].lines.append(DiffLine("add", line[1:], new=new))
            files[-1].added += 1
            new += 1
        elif line.startswith("-"):
            files[-1].lines.append(DiffLine("del", line[1:], old=old))
            files[-1].removed += 1
            old += 1
        elif line.startswith("\\"):
            files[-1].lines.append(DiffLine("note", line[2:]))
        else:
            files[-1].lines.append(DiffLine("same", line[1:], old=old, new=new))
            old, new = old + 1, new + 1
    for file in files:
        _colour(file)
    return files, len(lines) > LINES_MAX


def _note(file: FileDiff, line: str) -> None:
    """Take what git says of a file before its first hunk."""
    name = line[4:].partition("\t")[0]
    if line.startswith("+++ ") and name != "/dev/null":
        file.path = _unquoted(name).removeprefix("b/")
    elif line.startswith("--- ") and name != "/dev/null":
        file.path = _unquoted(name).removeprefix("a/")
    elif line.startswith(("new file", "deleted file", "old mode", "new mode", "Binary files")):
        file.lines.append(DiffLine("note", line))


def _path_of(line: str) -> str:
    """Return the path of a `diff --git` line; of a file without a hunk it is all there is."""
    both = line.removeprefix("diff --git ")
    if both.startswith('"'):
        return _unquoted(both.rpartition(' "')[2].join(['"', ""])).removeprefix("b/")
    half = (len(both) - 1) // 2
    return both[half + 1 :].removeprefix("b/")


def _unquoted(name: str) -> str:
    """Undo git's quoting of unusual names (git-config(1), core.quotePath)."""
    if not (name.startswith('"') and name.endswith('"') and len(name) > 1):
        return name

    def plain(found: re.Match[str]) -> str:
        word = found[1]
        return chr(int(word, 8)) if word[0].isdigit() else _ESCAPES.get(word, word)

    return re.sub(r"\\([0-7]{3}|.)", plain, name[1:-1])


def _colour(file: FileDiff) -> None:
    """Colour each hunk's sides as source of their own: a lexer knows nothing of the rest."""
    for hunk in _hunks(file.lines):
        for sides in (("same", "add"), ("del",)):
            chosen = [line for line in hunk if line.side in sides]
            if chosen:
                drawn = coloured(file.path, "\n".join(line.text for line in chosen))
                for line, html in zip(chosen, drawn, strict=True):
                    line.html = html


def _hunks(lines: Sequence[DiffLine]) -> Iterator[Sequence[DiffLine]]:
    hunk: list[DiffLine] = []
    for line in lines:
        if line.side == "hunk":
            yield hunk
            hunk = []
        hunk.append(line)
    yield hunk
