"""Names of branches, as git takes them. Pure."""

import re

_FORBIDDEN = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|//|@\{|/\.|\.lock(/|$)")
CHARS_MAX = 200


def is_branch_name(text: str) -> bool:
    """Whether git takes `text` as the name of a branch (git-check-ref-format(1))."""
    is_whole = bool(text) and len(text) <= CHARS_MAX and text.isprintable()
    ends_well = not text.startswith(("-", "/", ".")) and not text.endswith(("/", "."))
    return is_whole and ends_well and text not in {"@", "HEAD"} and not _FORBIDDEN.search(text)
