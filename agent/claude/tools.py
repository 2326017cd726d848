"""Our tools for the coding agent, spoken as MCP over its own stdin and stdout."""

from dataclasses import dataclass

from agent.claude.protocol import SERVER, part, text
from core.wire import Json

PREFIX = f"mcp__{SERVER}__"
"""What Claude Code puts before the names of our tools."""
TEXT_MAX = 20_000


def _tool(name: str, description: str, required: list[str], **properties: Json) -> Json:
    schema = {"type": "object", "properties": properties, "required": required}
    load = {"anthropic/alwaysLoad": True}  # Else the model has to search for it first.
    return {"name": name, "description": description, "inputSchema": schema, "_meta": load}


TOOLS = [
    _tool(
        "report_progress",
        "Tell the people who wait what you are doing now, in one short sentence. "
        "Call it when you begin a new part of the work.",
        ["text"],
        text={"type": "string"},
        percent={"type": "number", "minimum": 0, "maximum": 100},
    ),
    _tool(
        "complete_task",
        "Call this once, at the end, when the work is finished or cannot be finished. "
        "Your commits are published for you.",
        ["summary"],
        summary={"type": "string", "description": "What you did, for a pull request"},
        answer={"type": "string", "description": "The answer, if a question was asked"},
    ),
    _tool(
        "ask",
        "Ask the people who wait and get their answer. Only when you cannot go on without it.",
        ["question"],
        question={"type": "string"},
        options={"type": "array", "items": {"type": "string"}},
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call of one of our tools; `problem` says why it cannot be taken."""

    name: str
    data: Json
    problem: str = ""


def read_call(request: Json) -> Call | None:
    """Read an `mcp_message` request as a call of a tool, None if it is another message."""
    message = part(request, "message")
    if request.get("subtype") != "mcp_message" or message.get("method") != "tools/call":
        return None
    name, given = text(part(message, "params"), "name"), part(message, "params", "arguments")
    match name:
        case "report_progress":
            data: Json = {"text": text(given, "text")[:TEXT_MAX]}
            percent = given.get("percent")
            if isinstance(percent, int | float) and 0 <= percent <= 100:
                data["percent"] = percent
            wanted = "text"
        case "complete_task":
            data = {"summary": text(given, "summary")[:TEXT_MAX]}
            if reply := text(given, "answer"):
                data["answer"] = reply[:TEXT_MAX]
            wanted = "summary"
        case "ask":
            options = given.get("options")
            labels = [o for o in options if isinstance(o, str)] if isinstance(options, list) else []
            data = {"question": text(given, "question")[:TEXT_MAX], "options": labels}
            wanted = "question"
        case _:
            return Call(name=name, data={}, problem=f"there is no tool {name!r}")
    problem = "" if data[wanted].strip() else f"`{wanted}` must be a text"
    return Call(name=name, data=data, problem=problem)


def reply(request: Json) -> Json | None:
    """Return the answer to an `mcp_message` request, None if a person must give it."""
    message = part(request, "message")
    if call := read_call(request):
        if call.problem:
            return respond(request, f"Not done: {call.problem}.", is_error=True)
        if call.name == "ask":
            return None
        said = "Noted." if call.name == "report_progress" else "Noted. End your turn now."
        return respond(request, said)
    if "id" not in message:
        return {"mcp_response": {"jsonrpc": "2.0", "result": {}, "id": 0}}
    match message.get("method"):
        case "initialize":
            version = text(part(message, "params"), "protocolVersion")
            result: Json = {
                "protocolVersion": version,
                "capabilities": {"tools": {}},
                "serverInfo": {"name": SERVER, "version": "1"},
            }
        case "tools/list":
            result = {"tools": TOOLS}
        case "ping":
            result = {}
        case _:
            error = {"code": -32601, "message": "no such method"}
            return {"mcp_response": {"jsonrpc": "2.0", "id": message["id"], "error": error}}
    return {"mcp_response": {"jsonrpc": "2.0", "id": message["id"], "result": result}}


def respond(request: Json, said: str, *, is_error: bool = False) -> Json:
    """Return the result of a tool call."""
    result: Json = {"content": [{"type": "text", "text": said}]}
    if is_error:
        result["isError"] = True
    ident = part(request, "message").get("id")
    return {"mcp_response": {"jsonrpc": "2.0", "id": ident, "result": result}}
