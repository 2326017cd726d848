"""What a request to the Messages API is about: who said what last, and what may be used. Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

# What Claude Code 2.1 puts into a conversation by itself, as seen in its requests: reminders in
# user messages, tools that must be looked up first, prompts that came while the model worked.
TAGGED = re.compile(r"<(system-reminder|task-notification|local-command-\w+)>.*?</\1>", re.DOTALL)
DEFERRED = re.compile(r"^mcp__\w+$", re.MULTILINE)
STEERED = re.compile(
    r"\AThe user sent a new message while you were working:\n(.*?)"
    r"(?:\n\nThis is how Claude Code surfaces messages|\Z)",
    re.DOTALL,
)
ASIDES = ("Stop hook feedback", "[Request interrupted", "Continue from where you left off")
GO_ON = "continue"
"""What the node agent says after a turn that broke off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came back from a tool call."""

    text: str
    is_error: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """A conversation as the model sees it.

    Attributes:
        prompt: What a person said last, or said in between with a script.
        asked_at: Index of that message.
        answered: The model's answers since then.
        results: What tools gave back since then, in order.
        asides: What Claude Code itself said since then, such as what a hook wants.
        additions: What a person said in between, without a script.
        used: Names of the tools that the model called since then.
        tools: Names of the tools that are offered, also of those that are only named.
        forced: The tool that must be used, with its JSON schema; None when free to choose.
        schema: The JSON schema that the text must follow; None when any text will do.
        system: The system prompt.
    """

    model: str
    is_streamed: bool
    prompt: str
    asked_at: int
    answered: int
    results: tuple[Result, ...]
    asides: tuple[str, ...]
    additions: tuple[str, ...]
    used: frozenset[str]
    tools: frozenset[str]
    forced: tuple[str, Mapping[str, object]] | None
    schema: Mapping[str, object] | None
    system: str

    @classmethod
    def of(cls, raw: object) -> Self:
        """Read a request body.

        Raises:
            TypeError: If it is not of the form that the Messages API wants.
        """
        body = _object(raw)
        messages = [_object(one) for one in _list(body.get("messages"), "messages")]
        asked_at, prompt = _last_prompt(messages)
        later = messages[asked_at + 1 :]
        tools = {
            str(tool.get("name")): tool
            for tool in map(_object, _list(body.get("tools", []), "tools"))
        }
        return cls(
            model=str(body.get("model", "")),
            is_streamed=body.get("stream") is True,
            prompt=prompt,
            asked_at=asked_at,
            answered=sum(one.get("role") == "assistant" for one in later),
            results=tuple(result for one in later for result in _results(one)),
            asides=tuple(
                text for one in later if one.get("role") == "user" for text in _texts(one)
            ),
            additions=tuple(text for one in later if (text := _steering(one))),
            used=frozenset(name for one in later for name in _used(one)),
            tools=frozenset(tools) | _deferred(messages),
            forced=_forced(body, tools),
            schema=_schema(body),
            system="\n".join(_texts({"content": body.get("system", "")})),
        )


def _last_prompt(messages: Sequence[Mapping[str, object]]) -> tuple[int, str]:
    for at in range(len(messages) - 1, -1, -1):
        steering = _steering(messages[at])
        if "<<[" in steering:
            return at, steering
        if messages[at].get("role") != "user":
            continue
        said = [text for text in map(_persons, _texts(messages[at])) if text]
        if said:
            return at, "\n\n".join(said)
    return -1, ""


def _steering(message: Mapping[str, object]) -> str:
    """Return what a person said while the model worked, empty if the message is no such thing."""
    if message.get("role") != "system":
        return ""
    found = STEERED.search("\n".join(_texts(message)))
    return found[1].strip() if found else ""


def _deferred(messages: Sequence[Mapping[str, object]]) -> frozenset[str]:
    said = (text for one in messages if one.get("role") == "system" for text in _texts(one))
    return frozenset(name for text in said for name in DEFERRED.findall(text))


def _persons(text: str) -> str:
    """Return what a person said in `text`, empty if Claude Code wrote it by itself."""
    text = TAGGED.sub("", text).strip()
    return "" if text.startswith(ASIDES) or text == GO_ON else text


def _texts(message: Mapping[str, object]) -> Iterator[str]:
    content = message.get("content", "")
    if isinstance(content, str):
        yield content
    for block in _blocks(message, "text"):
        yield str(block.get("text", ""))


def _blocks(message: Mapping[str, object], kind: str) -> Iterator[Mapping[str, object]]:
    content = message.get("content", "")
    if isinstance(content, str):
        return
    for block in map(_object, _list(content, "content")):
        if block.get("type") == kind:
            yield block


def _results(message: Mapping[str, object]) -> Iterator[Result]:
    for block in _blocks(message, "tool_result"):
        text = "\n".join(_texts({"content": block.get("content", "")}))
        yield Result(text=text, is_error=block.get("is_error") is True)


def _used(message: Mapping[str, object]) -> Iterator[str]:
    return (str(block.get("name")) for block in _blocks(message, "tool_use"))


def _forced(
    body: Mapping[str, object], tools: Mapping[str, Mapping[str, object]]
) -> tuple[str, Mapping[str, object]] | None:
    choice = _object(body.get("tool_choice") or {})
    tool = tools.get(str(choice.get("name"))) if choice.get("type") == "tool" else None
    return (str(tool["name"]), _object(tool.get("input_schema") or {})) if tool else None


def _schema(body: Mapping[str, object]) -> Mapping[str, object] | None:
    config = _object(body.get("output_config") or {})
    form = _object(config.get("format") or body.get("output_format") or {})
    return _object(form["schema"]) if "schema" in form else None


def _object(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise TypeError(f"not an object: {value!r:.80}")
    return value


def _list(value: object, name: str) -> Sequence[object]:
    if not isinstance(value, list):
        raise TypeError(f"{name} is a list")
    return value
