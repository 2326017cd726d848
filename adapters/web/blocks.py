"""Events of a coding agent as pieces of a page (pure).

Every event becomes one piece that stands by itself, so a viewer may start anywhere in the stream.
A piece that belongs into an earlier one (the end of a tool call) names it in `into`; where that
one is not on the page it stands alone.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeGuard
from urllib.parse import quote

from adapters.web.text import diff_lines
from adapters.web.visible import clip
from core.wire import SessionEvent

_SILENT = frozenset({"prompt.state", "complete"})
_FILE_KEYS = ("file_path", "notebook_path")
"""How Claude Code's own tools name a file in their input."""
FILE_CHARS_MAX = 1000
_STATES = {
    "starting": "The coding agent starts",
    "in_terminal": "The conversation is in a terminal",
    "ended": "The coding agent has ended",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One piece of the stream.

    Attributes:
        id: Unique on the page; the same event has the same id whenever it is shown.
        kind: Names the template's macro.
        message: The coding agent's id of the message that this ends or throws away.
        into: Id of the block that it completes, empty if it stands alone.
        raw: Where the whole event is.
        file: Address of the file that a tool was told to read or write.
        film: Address of the second of the recording at which a tool was called.
        outcome: The completing block, where both are on one page.
    """

    id: str
    kind: str
    at: datetime
    title: str = ""
    text: str = ""
    is_bad: bool = False
    message: str = ""
    into: str = ""
    input: str = ""
    diff: tuple[tuple[str, str], ...] = ()
    is_nested: bool = False
    raw: str = ""
    file: str = ""
    film: str = ""
    outcome: "Block | None" = None


def block(event: SessionEvent) -> Block | None:
    """Return what a page shows of `event`, or None. Data of the wrong shape is shown as text."""
    data = event.data
    kind = event.kind
    if kind in _SILENT or (kind == "session.state" and _text(data, "state") not in _STATES):
        return None
    shown = Block(
        id=f"e-{event.session[-12:]}-{event.offset}",
        kind=kind.replace(".", "_"),
        at=instant(event.at),
        text=_text(data, "text"),
        message=_text(data, "message"),
        is_nested=bool(data.get("parent")),
        raw=f"/api/v1/sessions/{event.session}/events?after={event.offset - 1}&limit=1",
    )
    special = _SPECIAL.get(kind)
    return special(shown, event) if special else shown


def _tool(shown: Block, event: SessionEvent) -> Block:
    name, title = _text(event.data, "name"), _text(event.data, "title")
    return replace(
        shown,
        id=_tool_id(event),
        title=name,
        text=title,
        input=_input(event.data.get("input")),
        file=_file(event),
        film=f"/recordings/{event.session}?event={event.offset}",
    )


def _file(event: SessionEvent) -> str:
    told = event.data.get("input")
    path = next((told[key] for key in _FILE_KEYS if key in told), None) if _is_map(told) else None
    if not isinstance(path, str) or not path or len(path) > FILE_CHARS_MAX:
        return ""
    return f"/sessions/{event.session}/file?path={quote(path, errors='replace')}"


def _is_map(value: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping)


def _user(shown: Block, event: SessionEvent) -> Block:
    return replace(shown, title="terminal" if event.data.get("terminal") else "")


def _tool_end(shown: Block, event: SessionEvent) -> Block:
    diff = _text(event.data, "diff")
    return replace(
        shown,
        into=_tool_id(event),
        text=_text(event.data, "summary"),
        is_bad=not event.data.get("ok", True),
        diff=tuple(diff_lines(diff)) if diff else (),
    )


def _tool_id(event: SessionEvent) -> str:
    name = "".join(
        c for c in _text(event.data, "tool") if c.isascii() and (c.isalnum() or c in "-_")
    )
    return f"t-{event.session[-12:]}-{name[:80]}"


def _state(shown: Block, event: SessionEvent) -> Block:
    words, reason = _STATES[_text(event.data, "state")], _text(event.data, "reason")
    return replace(shown, text=f"{words}: {reason}" if reason else words)


def _background(shown: Block, event: SessionEvent) -> Block:
    tasks = event.data.get("tasks")
    titles = [
        str(task.get("title") or task.get("kind") or task.get("id"))
        for task in (tasks if isinstance(tasks, list) else [])
        if isinstance(task, Mapping)
    ]
    return replace(shown, id=f"b-{event.session[-12:]}", text=" \u00b7 ".join(titles))


def _question(shown: Block, event: SessionEvent) -> Block:
    return replace(shown, title=_text(event.data, "title"), text="")


def _closed(shown: Block, event: SessionEvent) -> Block:
    return replace(shown, text=_text(event.data, "by"))


def _progress(shown: Block, event: SessionEvent) -> Block:
    percent = event.data.get("percent")
    return replace(shown, title=f"{percent:.0f} %" if isinstance(percent, int | float) else "")


def _notice(shown: Block, event: SessionEvent) -> Block:
    return replace(shown, is_bad=_text(event.data, "level") in {"warning", "error"})


def _turn_end(shown: Block, event: SessionEvent) -> Block:
    cost = event.data.get("cost_usd")
    return replace(
        shown,
        title=f"${cost:.2f}" if isinstance(cost, int | float) else "",
        text="" if event.data.get("ok", True) else _text(event.data, "text"),
        is_bad=not event.data.get("ok", True),
    )


_SPECIAL = {
    "message.user": _user,
    "tool.start": _tool,
    "tool.end": _tool_end,
    "session.state": _state,
    "background": _background,
    "question.open": _question,
    "question.closed": _closed,
    "progress": _progress,
    "notice": _notice,
    "turn.end": _turn_end,
}


def folded(events: Iterable[SessionEvent]) -> list[Block]:
    """Return the blocks of `events`, each completing piece inside the one that it completes."""
    blocks: dict[str, Block] = {}
    for event in events:
        shown = block(event)
        if shown is None or shown.kind == "message_reset":
            continue
        if shown.into in blocks:
            blocks[shown.into] = replace(blocks[shown.into], outcome=shown)
        else:
            blocks.pop(shown.id, None)
            blocks[shown.id] = shown
    return list(blocks.values())


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _input(value: object) -> str:
    """Return a tool's input for people: long texts as they are, the rest as JSON."""
    if not isinstance(value, Mapping):
        return "" if value is None else clip(str(value))
    parts = [
        f"{key}: {item}" if isinstance(item, str) and "\n" not in item else _long(key, item)
        for key, item in value.items()
    ]
    return clip("\n".join(parts))


def _long(key: object, item: object) -> str:
    if isinstance(item, str):
        return f"{key}:\n{item}"
    return f"{key}: {json.dumps(item, ensure_ascii=False, default=str)}"


def instant(text: str) -> datetime:
    """Return a time from outside; the beginning of time if it is none."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
    return at if at.tzinfo else at.replace(tzinfo=UTC)
