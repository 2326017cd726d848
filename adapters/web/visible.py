"""Words from outside with their hidden characters made visible (pure)."""

import re

CLIP_CHARS = 20_000
"""Longest single field on a page; the JSON API has all of it."""

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b"
    "\u200e\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e0fff\U0001d173-\U0001d17a]"
    "|(?<![^\x00-\x7f])[\u200c\u200d\ufe00-\ufe0f]"
)
"""Invisible and direction-changing characters. Joiners and variation selectors stay where they
have a use: after a character that is not ASCII, as in emoji and in Persian."""


def visible(text: str) -> str:
    """Return `text` with every invisible or direction-changing character as a visible mark."""
    return _HIDDEN.sub(_mark, text.replace("\r\n", "\n"))


def _mark(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"\u27e8U+{code:04X}\u27e9"


def log_text(text: str) -> str:
    """Return the output of a program: colours dropped, progress lines one below the other."""
    return _COLOURS.sub("", text).replace("\r\n", "\n").replace("\r", "\n")


def clip(text: str, chars_max: int = CLIP_CHARS) -> str:
    """Return `text`, cut with a remark if it is longer than `chars_max`."""
    if len(text) <= chars_max:
        return text
    return f"{text[:chars_max]}\n\u2026 ({len(text) - chars_max:,} more characters)"
