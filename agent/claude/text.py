"""Long things made short: titles, outputs, diffs."""

from agent.claude.protocol import objects, text
from core.wire import Json

OUTPUT_BYTES_MAX = 16_000
HEADLINE_MAX = 200
TITLE_KEYS = ("description", "file_path", "notebook_path", "path", "pattern", "command", "url")
"""Inputs of Claude Code's tools that say best what a call is about, best first."""


def clip(whole: str, *, bytes_max: int = OUTPUT_BYTES_MAX) -> str:
    """Return a text of at most `bytes_max` bytes and a note of what was left out."""
    raw = whole.encode(errors="replace")
    if len(raw) <= bytes_max:
        return whole
    kept = raw[:bytes_max].decode(errors="ignore")
    return f"{kept}\n[… {len(raw) - bytes_max} more bytes]"


def clip_values(value: Json) -> Json:
    """Return the input of a tool with its long texts cut."""
    return {key: _clip_value(item) for key, item in value.items()}


def _clip_value(value: object) -> object:
    if isinstance(value, str):
        return clip(value)
    if isinstance(value, dict):
        return clip_values(value)
    if isinstance(value, list):
        return [_clip_value(item) for item in value[:200]]
    return value


def headline(whole: str) -> str:
    """Return the first line that says something, at most 200 characters of it."""
    first = next((line.strip() for line in whole.splitlines() if line.strip()), "")
    return first if len(first) <= HEADLINE_MAX else first[: HEADLINE_MAX - 1] + "…"


def tool_title(name: str, given: Json) -> str:
    """Return what a call of a tool is about."""
    return next((headline(found) for key in TITLE_KEYS if (found := text(given, key))), name)


def summary(output: str) -> str:
    """Return one line about a tool's output."""
    rest = len([line for line in output.splitlines() if line.strip()]) - 1
    more = f" (+{rest} lines)" if rest > 0 else ""
    return headline(output) + more


def diff(result: Json) -> str:
    """Return the unified diff of a Write's or Edit's `tool_use_result`, empty if it is neither."""
    path = text(result, "filePath")
    if not path or "structuredPatch" not in result:
        return ""
    hunks = objects(result["structuredPatch"])
    if not hunks and result.get("type") == "create":
        lines = text(result, "content").splitlines()
        body = "\n".join(f"+{line}" for line in lines)
        return clip(f"--- /dev/null\n+++ {path}\n@@ -0,0 +1,{len(lines)} @@\n{body}\n")
    if not hunks:
        return ""
    return clip(f"--- {path}\n+++ {path}\n" + "".join(_hunk(hunk) for hunk in hunks))


def counted(changed: str) -> str:
    """Return how many lines a diff adds and removes: `+12 -3`."""
    lines = changed.splitlines()[2:]
    added, removed = (sum(line.startswith(sign) for line in lines) for sign in "+-")
    return f"+{added} -{removed}"


def _hunk(hunk: Json) -> str:
    old = f"{hunk.get('oldStart', 0)},{hunk.get('oldLines', 0)}"
    new = f"{hunk.get('newStart', 0)},{hunk.get('newLines', 0)}"
    lines = hunk.get("lines")
    body = "".join(f"{line}\n" for line in lines) if isinstance(lines, list) else ""
    return f"@@ -{old} +{new} @@\n{body}"
