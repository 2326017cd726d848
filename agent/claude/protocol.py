"""The lines that Claude Code reads and writes in stream-json mode.

Shapes: `sdk.d.ts` of the npm package `@anthropic-ai/claude-agent-sdk`, and what 2.1.330 does.
"""

import json
import uuid

from core.wire import Json

STOP_HOOK = "stop"
INTERRUPT = "interrupt:"
"""Begins the ids of our requests to interrupt, so that their answers tell what they were."""
SERVER = "samovar"
PATIENCE_S = 24 * 3600
"""An unanswered hook fails closed at its time limit, so the limit is longer than any outage."""


def decode(line: bytes) -> Json | None:
    """Return the JSON object of one line, None if it is something else."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def encode(value: Json) -> bytes:
    """Return one line without its newline. Every character outside ASCII is escaped."""
    return json.dumps(value, separators=(",", ":")).encode()


def prompt(ident: str, text: str) -> Json:
    """Return a prompt; `ident` comes back in `command_lifecycle` and is taken once (measured)."""
    content = [{"type": "text", "text": text}]
    return {
        "type": "user",
        "uuid": ident,
        "message": {"role": "user", "content": content},
        "parent_tool_use_id": None,
        "session_id": "",
    }


def control(request: str, subtype: str, **more: object) -> Json:
    """Return a request of ours."""
    body = {"subtype": subtype, **more}
    return {"type": "control_request", "request_id": request, "request": body}


def initialize(request: str) -> Json:
    """Return the request that begins a session and, repeated, attaches to it."""
    return control(
        request,
        "initialize",
        hooks={"Stop": [{"hookCallbackIds": [STOP_HOOK], "timeout": PATIENCE_S}]},
        sdkMcpServers=[SERVER],
        sdkMcpServerConfigs={SERVER: {"timeout": PATIENCE_S * 1000}},
    )


def answer(request: str, response: Json) -> Json:
    """Return the answer to a request of theirs."""
    body = {"subtype": "success", "request_id": request, "response": response}
    return {"type": "control_response", "response": body}


def refuse(request: str, text: str) -> Json:
    """Return an error as the answer to a request of theirs."""
    body = {"subtype": "error", "request_id": request, "error": text}
    return {"type": "control_response", "response": body}


def mark(event: str, **more: object) -> Json:
    """Return a line that we write into the journal ourselves, while no coding agent runs."""
    return {"type": "samovar", "event": event, "uuid": str(uuid.uuid4()), **more}


def part(value: Json, *keys: str) -> Json:
    """Return the object at `keys`, empty if there is none."""
    found: object = value
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def text(value: Json, key: str) -> str:
    """Return the string at `key`, empty if there is none."""
    found = value.get(key)
    return found if isinstance(found, str) else ""


def objects(value: object) -> list[Json]:
    """Return the objects of a list, empty if it is none."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
