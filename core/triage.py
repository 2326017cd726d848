"""Read a message without a model: the default for when there is none or it is slow. Pure."""

import re
import unicodedata
from collections.abc import Sequence

from core.ids import ProjectId
from core.ports.triage import Kind, Reading
from core.project import Project

TITLE_MAX = 80
SLUG_MAX = 40
READ_MAX = 4000
"""Characters of a message that are looked at."""
SENTENCE_END = re.compile(r"(?<=[.!?])\s")
LETTERS = str.maketrans(
    {"ß": "ss", "æ": "ae", "Æ": "ae", "ø": "o", "Ø": "o", "œ": "oe", "Œ": "oe", "ł": "l", "Ł": "l"}
    | {"đ": "d", "Đ": "d", "ð": "d", "þ": "th"}
)


def read_plainly(text: str, projects: Sequence[Project]) -> Reading:
    """Read `text` by its form alone; the same text has always the same reading."""
    text = text[:READ_MAX]
    line = one_line(text, len(text))
    sentence = SENTENCE_END.split(line, maxsplit=1)[0]
    title = one_line(_unended(sentence), TITLE_MAX) or "Untitled"
    project, reason = _find_project(line.lower(), projects)
    kind: Kind = "question" if line.endswith("?") else "task"
    return Reading(kind=kind, title=title, slug=slug(title), project=project, reason=reason)


def _unended(sentence: str) -> str:
    """Return `sentence` without its full stop: a title has none, an ellipsis stays."""
    return sentence if sentence.endswith("..") else sentence.removesuffix(".")


def one_line(text: str, characters_max: int) -> str:
    """Return `text` on one line without what a terminal or a chat acts on, cut at a word."""
    seen = "".join(c if c.isprintable() else " " for c in text)
    line = " ".join(seen.split())
    if len(line) <= characters_max:
        return line
    cut = line[: characters_max - 1]
    head, space, _ = cut.rpartition(" ")
    return f"{head if space and len(head) > characters_max // 2 else cut}…"


def slug(title: str) -> str:
    """Return a part of a branch name made of `title`; never empty."""
    plain = unicodedata.normalize("NFKD", title.translate(LETTERS)).encode("ascii", "ignore")
    words = re.sub(r"[^a-z0-9]+", "-", plain.decode().lower()).strip("-")
    if len(words) > SLUG_MAX:
        head, dash, _ = words[: SLUG_MAX + 1].rpartition("-")
        words = head if dash and head else words[:SLUG_MAX]
    return words.strip("-") or "task"


def _find_project(line: str, projects: Sequence[Project]) -> tuple[ProjectId | None, str]:
    """Return the one project that the text names by its repository or its short name."""
    by_repository = [one for one in projects if _names(line, one.repository)]
    named = by_repository or [one for one in projects if _names(line, one.id)]
    match named:
        case [one]:
            word = one.repository if by_repository else one.id
            return one.id, one_line(f"The message names {word}.", TITLE_MAX)
        case []:
            return None, "The message names no project."
        case _:
            ids = ", ".join(sorted(one.id for one in named))
            return None, one_line(f"The message names several projects: {ids}.", TITLE_MAX)


def _names(line: str, word: str) -> bool:
    """Whether `word` stands in `line` by itself, also in an address: `github.com/acme/web`."""
    found = re.search(rf"(?<![\w-]){re.escape(word.lower())}(?:\.git)?(?![\w-])", line)
    return bool(word) and found is not None
