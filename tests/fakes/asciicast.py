"""Reads an asciicast as docs.asciinema.org/manual/asciicast/v2 describes it, and takes no other."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

CODES = {"o", "i", "m", "r"}


@dataclass(frozen=True)
class Cast:
    head: dict[str, Any]
    events: list[tuple[float, str, str]]

    @property
    def text(self) -> str:
        """All output."""
        return "".join(text for _, code, text in self.events if code == "o")

    @property
    def marks(self) -> list[tuple[float, str]]:
        return [(at, text) for at, code, text in self.events if code == "m"]

    def until(self, second: float) -> str:
        """The output up to a second."""
        return "".join(text for at, code, text in self.events if code == "o" and at <= second)


def read(lines: Iterable[str]) -> Cast:
    whole = "".join(lines)
    whole.encode()  # Half a character is none.
    assert whole == "" or whole.endswith("\n")
    first, *rest = whole.split("\n")[:-1]
    head = json.loads(first)
    assert head["version"] == 2
    assert all(isinstance(head[name], int) and head[name] > 0 for name in ("width", "height"))
    assert isinstance(head["timestamp"], int)
    events: list[tuple[float, str, str]] = []
    for line in rest:
        at, code, text = json.loads(line)
        assert isinstance(at, int | float)
        assert isinstance(text, str)
        assert code in CODES
        assert at >= (events[-1][0] if events else 0), "time went back"
        assert code != "r" or re.fullmatch(r"[1-9]\d*x[1-9]\d*", text)
        events.append((at, code, text))
    return Cast(head, events)
