"""An agent session as a film for terminals: an asciicast, version 2, made of its events. Pure.

The format is that of docs.asciinema.org. Control characters in what the coding agent and its tools
said are shown, not obeyed. Secrets are hidden where their shape tells them and one event has them
whole.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from agent.masking import KEY_BYTES_MAX, masked
from core.wire import SessionEvent

COLUMNS, ROWS = 80, 24
BYTES_MAX = 16 * 2**20
"""Of one film; what comes after is left out, and the film says so."""
TEXT_CHARS_MAX = 16_000
"""Of one text of one event."""
MARK_CHARS_MAX = 80

_DIM, _BOLD, _RED, _GREEN, _CYAN = "2", "1", "31", "32", "1;36"
_SHOWN = {code: 0x2400 + code for code in range(0x20) if code not in b"\t\n"}
_SHOWN |= {0x7F: 0x2421} | dict.fromkeys([*range(0x80, 0xA0), *range(0x202A, 0x202F)], 0xFFFD)
_SHOWN |= dict.fromkeys([*range(0x2066, 0x206A), *range(0xD800, 0xE000)], 0xFFFD)
"""Control characters, directions of writing and half characters: a sign in their place."""


def seconds(first: SessionEvent, event: SessionEvent) -> float:
    """Return at which second of its session's film an event is shown, rounded up to a tenth."""
    began, at = _instant(first.at), _instant(event.at)
    if began is None or at is None:
        return 0.0
    return max(0.0, -(-(at - began).total_seconds() * 10 // 1) / 10)


class Film:
    """Makes the lines of one film, event by event."""

    def __init__(self) -> None:
        self._began: datetime | None = None
        self._after_s = 0.0
        self._size = 0
        self._is_full = False

    def lines(self, events: Iterable[SessionEvent]) -> str:
        """Return the next lines: none before the first event, the head with it."""
        return "".join(line for event in events for line in self._of(event))

    def _of(self, event: SessionEvent) -> Iterable[str]:
        at = _instant(event.at)
        if self._began is None:
            self._began = at or datetime.fromtimestamp(0, UTC)
            yield self._line(_head(self._began))
        if at is not None:
            self._after_s = max(self._after_s, round((at - self._began).total_seconds(), 3))
        scene = _SCENES.get(event.kind)
        if scene is None or self._is_full:
            return
        text = scene(event.data)
        if text:
            if event.kind == "tool.start":
                yield self._line([self._after_s, "m", _mark(event.data)])
            line = self._line([self._after_s, "o", text.replace("\n", "\r\n")])
            self._is_full = self._size > BYTES_MAX
            yield self._line([self._after_s, "o", _LEFT_OUT]) if self._is_full else line

    def _line(self, what: object) -> str:
        line = json.dumps(what, ensure_ascii=False) + "\n"
        self._size += len(line.encode())
        return line


def _head(began: datetime) -> Mapping[str, object]:
    return {
        "version": 2,
        "width": COLUMNS,
        "height": ROWS,
        "timestamp": int(began.timestamp()),
        "env": {"TERM": "xterm-256color"},
    }


def _instant(text: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


# Texts


def _text(data: Mapping[str, Any], key: str) -> str:
    """Return a value as harmless text, not too long and without secrets."""
    value = data.get(key)
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return _harmless(text)


def _harmless(text: str) -> str:
    """Mask what is shown and so much more that a key which begins in it is found whole."""
    near = text[: TEXT_CHARS_MAX + KEY_BYTES_MAX]
    hidden = masked(near.encode("utf-8", "replace")).decode()
    cut = hidden[:TEXT_CHARS_MAX] + (" […]" if len(hidden) > TEXT_CHARS_MAX else "")
    return cut.replace("\r\n", "\n").translate(_SHOWN)


def _in(style: str, text: str) -> str:
    return "".join(f"\x1b[{style}m{line}\x1b[0m\n" for line in text.split("\n")) if text else ""


_LEFT_OUT = "\r\n\x1b[2m[The rest is left out: it is too long for a recording.]\x1b[0m\r\n"


def _mark(data: Mapping[str, Any]) -> str:
    words = f"{_text(data, 'name')} {_text(data, 'title')}"
    return " ".join(words.split())[:MARK_CHARS_MAX]


# Scenes


def _state(data: Mapping[str, Any]) -> str:
    state, reason = _text(data, "state"), _text(data, "reason")
    words = {"starting": "The coding agent starts", "ended": "The coding agent has ended"}
    said = words.get(state)
    return _in(_DIM, f"── {said}{': ' + reason if reason else ''} ──") if said else ""


def _asked(data: Mapping[str, Any]) -> str:
    return "\n" + _in(_CYAN, f"» {_text(data, 'text')}")


def _said(data: Mapping[str, Any]) -> str:
    text = _text(data, "text")
    return f"\n{text}\n" if text else ""


def _thought(data: Mapping[str, Any]) -> str:
    return _in(_DIM, _text(data, "text"))


def _tool(data: Mapping[str, Any]) -> str:
    given, name = data.get("input"), _text(data, "name")
    command = given.get("command") if isinstance(given, Mapping) else None
    if name == "Bash" and isinstance(command, str):
        return "\n" + _in(_BOLD, f"$ {_harmless(command)}")
    return "\n" + _in(_BOLD, f"● {name} {_text(data, 'title')}".rstrip())


def _tool_end(data: Mapping[str, Any]) -> str:
    is_good = data.get("ok", True)
    shown = _diff(_text(data, "diff")) or _plain(_text(data, "output"))
    end = f"{'✓' if is_good else '✗'} {_text(data, 'summary')}".rstrip()
    return shown + _in(_GREEN if is_good else _RED, end)


def _plain(text: str) -> str:
    return text if not text or text.endswith("\n") else f"{text}\n"


def _diff(text: str) -> str:
    styles = {"+": _GREEN, "-": _RED, "@": _DIM}
    lines = text.rstrip("\n").split("\n") if text else ()
    return "".join(
        _in(styles[line[0]], line) if line[:1] in styles else f"{line}\n" for line in lines
    )


def _question(data: Mapping[str, Any]) -> str:
    return "\n" + _in(_CYAN, f"? {_text(data, 'title')}")


def _settled(data: Mapping[str, Any]) -> str:
    return _in(_DIM, f"The question is {_text(data, 'by') or 'closed'}.")


def _progress(data: Mapping[str, Any]) -> str:
    return _in(_DIM, f"… {_text(data, 'text')}")


def _notice(data: Mapping[str, Any]) -> str:
    is_bad = _text(data, "level") in {"warning", "error"}
    return _in(_RED if is_bad else _DIM, _text(data, "text"))


def _turn_end(data: Mapping[str, Any]) -> str:
    if data.get("ok", True):
        return _in(_DIM, "── The turn ended ──")
    return _in(_RED, f"── The turn ended early: {_text(data, 'text')} ──")


_SCENES: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "session.state": _state,
    "message.user": _asked,
    "message.text": _said,
    "message.thinking": _thought,
    "tool.start": _tool,
    "tool.end": _tool_end,
    "question.open": _question,
    "question.closed": _settled,
    "progress": _progress,
    "notice": _notice,
    "turn.end": _turn_end,
}
