"""What the coding agent asks of people: permissions, plans and questions."""

from collections.abc import Mapping

from agent.claude.protocol import objects, part, text
from agent.claude.text import clip_values, headline, tool_title
from agent.claude.tools import read_call, respond
from core.wire import Json


def as_question(ident: str, request: Json) -> Json | None:
    """Return the data of `question.open` for a control request, None if it is none for people."""
    if request.get("subtype") == "can_use_tool":
        return {"request": ident, **_asked_by_tool(request)}
    call = read_call(request)
    if call is None or call.name != "ask" or call.problem:
        return None
    options = [{"label": label, "description": ""} for label in call.data["options"]]
    asked = call.data["question"]
    question = {"text": asked, "header": "", "options": options, "multiple": False}
    return {
        "request": ident,
        "kind": "question",
        "title": headline(asked),
        "questions": [question],
    }


def _asked_by_tool(request: Json) -> Json:
    tool, given = text(request, "tool_name"), part(request, "input")
    if tool == "AskUserQuestion":
        asked = [_question(item) for item in objects(given.get("questions"))]
        title = headline(asked[0]["text"]) if asked else "Question"
        return {"kind": "question", "title": title, "questions": asked}
    if tool == "ExitPlanMode":
        plan = clip_values(given)
        return {"kind": "plan", "title": "Plan", "questions": [], "tool": tool, "input": plan}
    title = f"{tool}: {tool_title(tool, given)}"
    data = {"kind": "permission", "title": title, "questions": []}
    return {**data, "tool": tool, "input": clip_values(given)}


def _question(item: Json) -> Json:
    options = [
        {"label": text(option, "label"), "description": text(option, "description")}
        for option in objects(item.get("options"))
    ]
    return {
        "text": text(item, "question"),
        "header": text(item, "header"),
        "options": options,
        "multiple": bool(item.get("multiSelect")),
    }


def as_answer(request: Json, *, allow: bool, answers: Mapping[str, str], message: str) -> Json:
    """Return what the coding agent is told."""
    if request.get("subtype") == "mcp_message":
        said = "\n".join(answers.values()) if allow else ""
        return respond(request, said or message or "Nobody answered this; decide yourself.")
    if not allow:
        return {"behavior": "deny", "message": message or "This was not allowed."}
    given = part(request, "input")
    if request.get("tool_name") == "AskUserQuestion":
        given = {**given, "answers": dict(answers)}
    return {"behavior": "allow", "updatedInput": given}
