"""Which modes a terminal is in, read off its output as it passes; nothing of the output is kept.

A terminal's modes may have been set long before the part of its output that is still kept, and a
viewer who comes late must be in the same ones. The sequences are those of xterm's
`ctlseqs` (invisible-island.net/xterm/ctlseqs/ctlseqs.html).
"""

import re
from dataclasses import dataclass, field, replace
from typing import Any

KEPT = frozenset({1, 5, 6, 7, 9, 12, 25, 45, 66, 1000, 1002, 1003, 1004, 1005, 1006, 1007})
KEPT |= frozenset({1015, 1016, 2004})
"""Private modes that a late viewer is given: keys, origin, wrap, cursor, mouse, focus, paste."""
USUAL = frozenset({7, 25, 1007})
"""Those that are set in a terminal that nobody has told anything."""
ALTERNATE = frozenset({47, 1047, 1049})
TITLE_CHARACTERS_MAX = 256
PENDING_BYTES_MAX = 4096
"""A sequence that is longer while it is still unfinished is none of those looked for here."""

_SEQUENCE = (
    rb"\x1b(?:"
    rb"\[(?P<mark>[?!>]?)(?P<numbers>[0-9;]{0,64})(?P<between> ?)(?P<end>[hlrpq])"
    rb"|\][02];(?P<title>[^\x07\x18\x1a\x1b]*+)(?:\x07|\x1b\\)"
    rb"|(?P<set>[()])(?P<charset>[0-9A-Za-z])"
    rb"|(?P<single>[c=>])"
    rb")"
)
_OF_INTEREST = re.compile(_SEQUENCE)
_OR_SHIFT = re.compile(_SEQUENCE + rb"|\x1b\][^\x07\x18\x1a\x1b]*+|[\x0e\x0f]")
"""Three times slower to search, and hardly ever needed. A shift within an OSC is none."""
_UNFINISHED = re.compile(rb"\x1b(?:\[[?!>]?[0-9;]{0,64} ?|\][^\x07\x18\x1a\x1b]*+\x1b?|[()])?\Z")


@dataclass(slots=True)
class Modes:
    """The modes after what was scanned.

    Attributes:
        private: Those of `KEPT` that are set (DECSET).
        is_inserting: IRM; `is_newline` is LNM.
        has_keypad: Whether the keypad sends its own sequences (DECKPAM).
        alternate: The number by which the alternate screen was entered, 0 on the usual one.
        alternate_at: Offset of that sequence.
        margins: First and last scrolling line from 1; (0, 0) for all.
        cursor: The cursor's shape (DECSCUSR).
        charsets: Final characters of what G0 and G1 are.
        is_shifted: Whether G1 is in use.
        pending: The beginning of a sequence whose rest has not come.
    """

    private: set[int] = field(default_factory=lambda: set(USUAL))
    is_inserting: bool = False
    is_newline: bool = False
    has_keypad: bool = False
    alternate: int = 0
    alternate_at: int = 0
    margins: tuple[int, int] = (0, 0)
    cursor: int = 0
    charsets: str = "BB"
    is_shifted: bool = False
    title: str = ""
    pending: bytes = b""

    def scan(self, offset: int, data: bytes) -> None:
        """Take note of what `data`, which begins at `offset`, changes."""
        shifts = b"\x0e" in data or b"\x0f" in data
        if not (self.pending or shifts or b"\x1b" in data):
            return
        if self.pending:
            offset -= len(self.pending)
            data = self.pending + data
        pending = _unfinished(data)
        end = len(data) - len(pending)  # What is pending is looked at once it is whole.
        for found in (_OR_SHIFT if shifts else _OF_INTEREST).finditer(data, 0, end):
            self._take(found, offset + found.start())
        self.pending = pending

    def copy(self) -> "Modes":
        """Return modes that do not change with these."""
        return replace(self, private=set(self.private))

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return {
            "private": sorted(self.private),
            "flags": [self.is_inserting, self.is_newline, self.has_keypad, self.is_shifted],
            "alternate": [self.alternate, self.alternate_at],
            "margins": list(self.margins),
            "cursor": self.cursor,
            "charsets": self.charsets,
            "title": self.title,
            "pending": self.pending.hex(),
        }

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> "Modes":
        """Read what `to_json` returned."""
        is_inserting, is_newline, has_keypad, is_shifted = kept["flags"]
        alternate, alternate_at = kept["alternate"]
        top, bottom = kept["margins"]
        return cls(
            private=set(kept["private"]),
            is_inserting=is_inserting,
            is_newline=is_newline,
            has_keypad=has_keypad,
            is_shifted=is_shifted,
            alternate=alternate,
            alternate_at=alternate_at,
            margins=(top, bottom),
            cursor=kept["cursor"],
            charsets=kept["charsets"],
            title=kept["title"],
            pending=bytes.fromhex(kept["pending"]),
        )

    def _take(self, found: re.Match[bytes], offset: int) -> None:
        whole = found.group()
        if whole in {b"\x0e", b"\x0f"}:
            self.is_shifted = whole == b"\x0e"
        elif (title := found["title"]) is not None:
            text = title.decode("utf-8", "replace")[:TITLE_CHARACTERS_MAX]
            self.title = "".join(char for char in text if char.isprintable())
        elif found["set"]:
            charsets = list(self.charsets)
            charsets[found["set"] == b")"] = found["charset"].decode()
            self.charsets = "".join(charsets)
        elif found["single"]:
            self._take_single(found["single"])
        elif found["end"]:
            numbers = [min(int(each or b"0"), 9999) for each in found["numbers"].split(b";")]
            self._take_csi(found["mark"] + found["between"] + found["end"], numbers, offset)

    def _take_single(self, char: bytes) -> None:
        if char == b"c":
            self._reset()
        else:
            self.has_keypad = char == b"="

    def _reset(self) -> None:
        fresh = Modes()
        for name in self.__slots__:
            setattr(self, name, getattr(fresh, name))

    def _take_csi(self, what: bytes, numbers: list[int], offset: int) -> None:
        match what:
            case b"?h" | b"?l":
                for number in numbers:
                    self._set_private(number, offset, is_on=what == b"?h")
            case b"h" | b"l":
                self.is_inserting = what == b"h" if 4 in numbers else self.is_inserting
                self.is_newline = what == b"h" if 20 in numbers else self.is_newline
            case b"r":
                top, bottom = (*numbers, 0)[:2]
                self.margins = (top, bottom)
            case b" q":
                self.cursor = numbers[0] if numbers[0] <= 6 else 0
            case b"!p":
                self.private = (self.private - {1, 5, 6, 45, 1004, 2004}) | {7, 25}
                self.cursor = 0
                self.is_inserting = self.has_keypad = self.is_shifted = False
                self.margins, self.charsets = (0, 0), "BB"

    def _set_private(self, number: int, offset: int, *, is_on: bool) -> None:
        if number in ALTERNATE:
            if not is_on:
                self.alternate = 0
            elif not self.alternate:
                self.alternate, self.alternate_at = number, offset
        elif number in KEPT:
            (self.private.add if is_on else self.private.discard)(number)


def _unfinished(data: bytes) -> bytes:
    """Return the sequence at the end whose rest has not come; an OSC's end may be cut in two."""
    first = max(0, len(data) - PENDING_BYTES_MAX)
    last = data.rfind(b"\x1b", first)
    for start in (data.rfind(b"\x1b", first, max(last, first)), last):
        if start >= 0 and _UNFINISHED.match(data, start):
            return data[start:]
    return b""
