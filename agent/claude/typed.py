"""Lines of Claude Code's transcript, written while it ran in a terminal. Pure.

They have the API's own messages, one block a line, with keys in camelCase; the stream that we read
otherwise has the same messages with keys in snake_case (measured with 2.1.330).
"""

import re

from agent.claude.protocol import objects, part, text
from core.wire import Json

TERMINAL = "cli"
"""`entrypoint` of what was written from a terminal."""
_NOT_SAID = re.compile(r"<(command-|local-command-|bash-stdout>|bash-stderr>)")
"""How lines of the user begin that are about commands of the program itself."""
_SHELL = re.compile(r"<bash-input>(.*)</bash-input>", re.DOTALL)


def as_streamed(line: Json) -> Json | None:
    """Return a line as the stream would have it; None if it is nothing that was said or done."""
    if line.get("entrypoint") != TERMINAL or line.get("isSidechain") or line.get("isMeta"):
        return None
    message = part(line, "message")
    match line.get("type"):
        case "assistant":
            return {"type": "assistant", "message": message}
        case "user" if any(b.get("type") == "tool_result" for b in objects(message.get("content"))):
            result = line.get("toolUseResult")
            return {"type": "user", "message": message, "tool_use_result": result}
        case "user" if not line.get("isCompactSummary"):
            said = _said(message.get("content"))
            echo = {"type": "user", "isReplay": True, "uuid": text(line, "uuid")}
            return {**echo, "message": {"content": said}} if said else None
    return None


def is_said(line: Json) -> bool:
    """Return whether a line makes events."""
    return as_streamed(line) is not None or api_error(line) is not None


def api_error(line: Json) -> tuple[str, str] | None:
    """Return the code and the text of a line that tells of the model's refusal."""
    if line.get("entrypoint") != TERMINAL or not line.get("isApiErrorMessage"):
        return None
    blocks = objects(part(line, "message").get("content"))
    said = "\n".join(text(block, "text") for block in blocks)
    return text(line, "error") or "unknown", said


def _said(content: object) -> str:
    """Return what a person typed; empty for what the program said in their name."""
    plain = content if isinstance(content, str) else ""
    if not plain:
        plain = "\n".join(text(block, "text") for block in objects(content) if "text" in block)
    if shell := _SHELL.fullmatch(plain.strip()):
        return f"! {shell[1]}"
    return "" if _NOT_SAID.match(plain) else plain
