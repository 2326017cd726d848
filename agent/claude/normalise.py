"""From lines of Claude Code's journal to normalised events: a pure function.

A line is judged by what it says, never by where it stands: the order of keys varies, unknown
types and keys are passed over, and a result is judged by `is_error` and `terminal_reason`,
because its `subtype` is `success` for API errors too (measured with 2.1.330).
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from agent.claude.protocol import INTERRUPT, objects, part, text
from agent.claude.questions import as_question
from agent.claude.state import (
    CONTINUES_MAX,
    PASSING,
    Crash,
    Fact,
    State,
    continue_after_s,
    is_ours,
)
from agent.claude.text import clip, clip_values, counted, diff, summary, tool_title
from agent.claude.tools import PREFIX, read_call
from agent.claude.typed import api_error, as_streamed
from core.wire import Json

Step = tuple[State, list[Fact]]
QUIET_TOOLS = frozenset({"AskUserQuestion", "ExitPlanMode"})
"""Tools that are shown as the question that they ask."""


def fold(state: State, line: Json) -> tuple[State, tuple[Fact, ...]]:
    """Return the state after `line` and what happened in it."""
    if state.has_ended and text(line, "type") != "samovar":
        return state, ()
    step = STEPS.get(text(line, "type"))
    after, facts = step(state, line) if step else (state, [])
    phase = _phase(after)
    if phase not in {state.phase, "ended", "in_terminal"}:
        facts.append(Fact(kind="session.state", data={"state": phase, "reason": ""}))
    return replace(after, phase=phase) if phase != after.phase else after, tuple(facts)


def _phase(state: State) -> str:
    if state.has_ended:
        return "ended"
    if state.holder:
        return "in_terminal"
    if state.is_down:
        return "starting" if state.phase == "in_terminal" else state.phase
    if not state.is_ready:
        return "starting"
    is_busy = state.said != "idle" or state.background or state.broken
    return "busy" if is_busy else "idle"


def _without(mapping: Mapping[str, Json], key: str) -> dict[str, Json]:
    return {name: value for name, value in mapping.items() if name != key}


# Our own marks: starts and ends of processes.


def _mark(state: State, line: Json) -> Step:
    step = MARKS.get(text(line, "event"))
    return step(state, line) if step else (state, [])


def _prompt_mark(state: State, line: Json) -> Step:
    return _prompt_state(state, text(line, "prompt"), text(line, "state"))


def _handed(state: State, line: Json) -> Step:
    holder, copied = text(line, "terminal"), line.get("copied")
    after = replace(state, holder=holder, copied=copied if isinstance(copied, int) else 0)
    data = {"state": "in_terminal", "reason": "", "terminal": holder}
    return after, [Fact(kind="session.state", data=data)]


def _typed(state: State, line: Json) -> Step:
    """Take over a line that Claude Code wrote into its transcript while it ran in a terminal."""
    written, copied = part(line, "line"), line.get("copied")
    facts: list[Fact] = []
    if error := api_error(written):
        facts.append(_notice("error", *error))
    elif (streamed := as_streamed(written)) is not None:
        state, facts = STEPS[text(streamed, "type")](state, streamed)
    for fact in facts:
        if fact.kind == "message.user":
            fact.data["terminal"] = state.holder
    return replace(state, copied=copied if isinstance(copied, int) else state.copied), facts


def _returned(state: State, _: Json) -> Step:
    return replace(state, holder="", tools={}), _cut_off(state)


def _leaving(state: State, _: Json) -> Step:
    return replace(state, is_leaving=True), []


def _interrupted(state: State, _: Json) -> Step:
    """End the turn that a dead process left in the middle; the next one does not resume it."""
    after = replace(
        state, is_given_up=True, resumed=frozenset(), broken="", continues=0, is_refused=False
    )
    if state.phase != "busy" and not state.resumed:
        return after, []
    named = sorted(prompt for prompt in state.resumed if not is_ours(prompt))
    data = {"prompts": named, "ok": False, "reason": "interrupted", "text": ""}
    return after, [Fact(kind="turn.end", data={**data, "code": "interrupted"})]


def _other(state: State, line: Json) -> Step:
    said = (
        "Somebody opened this conversation by hand in a terminal while the agent works in it. What "
        "one of the two says will be lost: leave that terminal, then press “Open in terminal”."
    )
    after = replace(state, others=state.others | {text(line, "name")})
    return after, [_notice("warning", "opened_by_hand", said)]


def _left(state: State, line: Json) -> Step:
    said = (
        "Another conversation is open in the terminal now (/clear or /resume). What is said there "
        "is neither seen here nor known to the agent; /resume in the terminal brings it back."
    )
    after = replace(state, others=state.others | {text(line, "name")})
    return after, [_notice("warning", "conversation_left", said)]


def _cut_off(state: State) -> list[Fact]:
    """Return the ends of the tools whose process has gone."""
    lost = {"ok": False, "summary": "The coding agent ended."}
    return [Fact(kind="tool.end", data={"tool": call, **lost}) for call in state.tools]


def _starting(state: State, line: Json) -> Step:
    after = replace(
        state, run=text(line, "run"), starts=state.starts + 1, is_down=False, is_ready=False,
        said="", has_ended=False, reason="", is_leaving=False,
    )  # fmt: skip
    return after, []


def _ended(state: State, line: Json) -> Step:
    data: Json = {"state": "ended", "reason": text(line, "reason")}
    if isinstance(line.get("code"), int):
        data["exit_code"] = line["code"]
    after = replace(
        state, run=text(line, "run"), has_ended=True, reason=data["reason"], broken="", crashes=(),
        holder="",
    )  # fmt: skip
    return after, [Fact(kind="session.state", data=data)]


def _exited(state: State, line: Json) -> Step:
    facts = [_closed(ident, "withdrawn") for ident, r in state.waiting.items() if _asks(ident, r)]
    if state.partial:
        facts.append(Fact(kind="message.reset", data={"message": state.partial}))
    facts += _cut_off(state)
    if state.background:
        facts.append(Fact(kind="background", data={"tasks": []}))
    crashes = state.crashes
    if not line.get("asked_for"):
        code = line["code"] if isinstance(line.get("code"), int) else None
        at, lived_s = _number(line, "at"), _number(line, "lived_s")
        crashes += (Crash(at=at, lived_s=lived_s, code=code, tail=text(line, "tail")),)
        how = f"exit status {code}" if code is not None else "it vanished"
        said = f"Claude Code ended ({how})."
        facts.append(_notice("warning", "agent_crashed", said))
    queued = {name: value for name, value in state.prompts.items() if value != "queued"}
    begun = frozenset(name for name, value in queued.items() if value == "started")
    after = replace(
        state, is_ready=False, is_down=True, said="", background=(), waiting={}, partial="",
        tools={}, is_refused=False, crashes=crashes, prompts=queued,
        resumed=begun, is_leaving=False,
    )  # fmt: skip
    return after, facts


# Requests of the coding agent and the answers to them.


def _request(state: State, line: Json) -> Step:
    ident, request = text(line, "request_id"), part(line, "request")
    after = replace(state, waiting={**state.waiting, ident: request})
    if question := as_question(ident, request):
        return after, [Fact(kind="question.open", data=question)]
    call = read_call(request)
    if call is None or call.problem:
        return after, []
    if call.name == "complete_task":
        after = replace(after, has_completed=True)
        return after, [Fact(kind="complete", data=call.data)]
    return after, [Fact(kind="progress", data=call.data)]


def _response(state: State, line: Json) -> Step:
    response = part(line, "response")
    ident, body = text(response, "request_id"), part(response, "response")
    if ident in state.waiting:
        return _answered(state, ident, body)
    if ident.startswith(INTERRUPT):
        return replace(state, broken="", continues=0), []
    if "session_state" not in body:
        return state, []
    after = replace(state, is_ready=True, is_down=False, said=text(body, "session_state"))
    pending = objects(response.get("pending_permission_requests"))
    pending += objects(body.get("pending_permission_requests"))
    return _compare(after, pending)


def _answered(state: State, ident: str, body: Json) -> Step:
    request = state.waiting[ident]
    asked = request.get("subtype") == "hook_callback" and body.get("decision") == "block"
    after = replace(
        state, waiting=_without(state.waiting, ident), was_asked=state.was_asked or asked
    )
    return after, [_closed(ident, "answered")] if _asks(ident, request) else []


def _compare(state: State, pending: list[Json]) -> Step:
    """Take over which permissions the process itself waits for."""
    there = {text(item, "request_id"): part(item, "request") for item in pending}
    facts, waiting = [], dict(state.waiting)
    for ident, request in state.waiting.items():
        if request.get("subtype") == "can_use_tool" and ident not in there:
            del waiting[ident]
            facts.append(_closed(ident, "withdrawn"))
    for ident, request in there.items():
        if ident not in waiting and (question := as_question(ident, request)):
            waiting[ident] = request
            facts.append(Fact(kind="question.open", data=question))
    return replace(state, waiting=waiting), facts


def _withdrawn(state: State, line: Json) -> Step:
    ident = text(line, "request_id")
    request = state.waiting.get(ident)
    if request is None:
        return state, []
    after = replace(state, waiting=_without(state.waiting, ident))
    return after, [_closed(ident, "withdrawn")] if _asks(ident, request) else []


def _asks(ident: str, request: Json) -> bool:
    return as_question(ident, request) is not None


def _closed(ident: str, by: str) -> Fact:
    return Fact(kind="question.closed", data={"request": ident, "by": by})


# Prompts.


def _lifecycle(state: State, line: Json) -> Step:
    ident, said = text(line, "command_uuid"), text(line, "state")
    if ident not in state.prompts and ident not in state.echoed and said != "queued":
        return state, []  # A turn that Claude Code began by itself.
    return _prompt_state(state, ident, said)


def _prompt_state(state: State, ident: str, said: str) -> Step:
    known = state.prompts.get(ident)
    if known == said:
        return state, []
    is_dropped = known == "queued" and said == "cancelled" and state.is_leaving
    if said == "unwritten" or is_dropped:  # It goes with its process and will be given again.
        return replace(state, prompts={k: v for k, v in state.prompts.items() if k != ident}), []
    after = replace(state, prompts={**state.prompts, ident: said})
    if said == "started":
        after = replace(after, has_completed=False, was_asked=False, broken="", is_given_up=False)
        if not is_ours(ident):
            after = replace(after, continues=0)
    if is_ours(ident):
        return after, []
    return after, [Fact(kind="prompt.state", data={"prompt": ident, "state": said})]


def _user(state: State, line: Json) -> Step:
    content = part(line, "message").get("content")
    if line.get("isReplay"):
        return _echo(state, line, content)
    facts: list[Fact] = []
    tools = dict(state.tools)
    for block in objects(content):
        call = text(block, "tool_use_id")
        if block.get("type") == "tool_result" and tools.pop(call, None) is not None:
            facts.append(_tool_end(call, block, line.get("tool_use_result")))
    return replace(state, tools=tools) if facts else state, facts


def _echo(state: State, line: Json, content: object) -> Step:
    ident = text(line, "uuid")
    if ident in state.echoed or is_ours(ident):
        return state, []
    data: Json = {"text": _plain(content)}
    if ident in state.prompts:
        data["prompt"] = ident
    after = replace(state, echoed=state.echoed | {ident})
    return after, [Fact(kind="message.user", data=data)]


def _plain(content: object) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(text(block, "text") for block in objects(content) if "text" in block)


def _tool_end(call: str, block: Json, result: object) -> Fact:
    output = _plain(block.get("content"))
    if isinstance(result, dict) and (result.get("isAsync") or result.get("backgroundTaskId")):
        output = "Runs in the background."  # The rest is meant for the model alone.
    data: Json = {"tool": call, "ok": not block.get("is_error"), "summary": summary(output)}
    if isinstance(result, dict) and (changed := diff(result)):
        data |= {"summary": counted(changed), "diff": changed}
    elif output != data["summary"]:
        data["output"] = clip(output)
    return Fact(kind="tool.end", data=data)


# What the model writes.


def _stream(state: State, line: Json) -> Step:
    event = part(line, "event")
    match event.get("type"):
        case "message_start":
            facts = _reset(state) if state.partial else []
            return replace(state, partial=text(part(event, "message"), "id")), facts
        case "message_delta":  # It carries the reason to stop: the message is whole.
            return replace(state, partial=""), []
        case "message_stop":  # Also written for a stream that was cut (measured).
            return replace(state, partial=""), _reset(state) if state.partial else []
        case "content_block_delta" if said := text(part(event, "delta"), "text"):
            data = {"message": state.partial, "text": said}
            return state, [Fact(kind="message.delta", data=data)]
    return state, []


def _reset(state: State) -> list[Fact]:
    return [Fact(kind="message.reset", data={"message": state.partial})]


def _assistant(state: State, line: Json) -> Step:
    message = part(line, "message")
    if line.get("is_api_error_message") or line.get("error"):
        return replace(state, error=text(line, "error") or "unknown"), []
    parent = text(line, "parent_tool_use_id")
    facts: list[Fact] = []
    ident = text(message, "id")
    if state.partial and not parent and ident != state.partial:
        facts += _reset(state)  # The last retry was not streamed.
        state = replace(state, partial="")
    more = {"parent": parent} if parent else {}
    tools = dict(state.tools)
    for block in objects(message.get("content")):
        match block.get("type"):
            case "text" if said := text(block, "text"):
                data = {"message": ident, "text": said, **more}
                facts.append(Fact(kind="message.text", data=data))
            case "thinking" if said := text(block, "thinking"):
                data = {"message": ident, "text": said, **more}
                facts.append(Fact(kind="message.thinking", data=data))
            case "tool_use" if _is_shown(text(block, "name")):
                tools[text(block, "id")] = text(block, "name")
                facts.append(_tool_start(block, more))
    return replace(state, tools=tools), facts


def _is_shown(tool: str) -> bool:
    return tool not in QUIET_TOOLS and not tool.startswith(PREFIX)


def _tool_start(block: Json, more: Json) -> Fact:
    name, given = text(block, "name"), part(block, "input")
    data = {"tool": text(block, "id"), "name": name, "title": tool_title(name, given)}
    return Fact(kind="tool.start", data={**data, "input": clip_values(given), **more})


# What Claude Code says about itself.


def _system(state: State, line: Json) -> Step:
    match line.get("subtype"):
        case "session_state_changed":
            return replace(state, said=text(line, "state")), []
        case "background_tasks_changed":
            return _background(state, line)
        case "api_retry":
            return _api_retry(state, line)
        case "compact_boundary":
            said = "The conversation was long and has been summarised."
            return state, [_notice("info", "compacted", said)]
    return state, []


def _background(state: State, line: Json) -> Step:
    tasks = tuple(
        {
            "id": text(task, "task_id"),
            "kind": text(task, "task_type"),
            "title": text(task, "description"),
        }
        for task in objects(line.get("tasks"))
        if not task.get("ambient")
    )
    if tasks == state.background:
        return state, []
    data = {"tasks": list(tasks)}
    return replace(state, background=tasks), [Fact(kind="background", data=data)]


def _api_retry(state: State, line: Json) -> Step:
    status = _status(line, "error_status")
    code = text(line, "error") or "unknown"
    what = f"{status} {code}" if status else code
    said = f"The model did not answer ({what}); attempt {line.get('attempt')} is under way."
    after = replace(state, is_refused=status in {401, 403})
    return after, [_notice("warning", "api_retry", said)]


def _rate_limit(state: State, line: Json) -> Step:
    info = part(line, "rate_limit_info")
    if text(info, "status") in {"", "allowed"}:
        return state, []
    said = f"The model's limit {text(info, 'rateLimitType')} is {text(info, 'status')}."
    return state, [_notice("warning", "rate_limit", said)]


def _new_conversation(state: State, _: Json) -> Step:
    return state, [_notice("info", "conversation_reset", "The conversation was cleared.")]


def _notice(level: str, code: str, said: str) -> Fact:
    return Fact(kind="notice", data={"level": level, "code": code, "text": said})


# The end of a turn.


def _result(state: State, line: Json) -> Step:
    reason = text(line, "terminal_reason")
    ok = not line.get("is_error") and reason in {"", "completed"}
    uuids = line.get("user_message_uuids")
    named = [u for u in uuids if isinstance(u, str)] if isinstance(uuids, list) else []
    prompts = [prompt for prompt in named if prompt in state.prompts]
    data: Json = {
        "prompts": [prompt for prompt in prompts if not is_ours(prompt)],
        "ok": ok,
        "reason": reason,
        "text": text(line, "result"),
    }
    if cost := _number(line, "total_cost_usd"):
        data["cost_usd"] = cost
    after = replace(state, error="", is_refused=False, broken="", continues=0)
    if not ok:
        code = data["code"] = _code(state, line)
        errors = line.get("errors")
        if code != "interrupted" and not data["text"] and isinstance(errors, list):
            data["text"] = "\n".join(map(str, errors))
        if code in PASSING and state.continues < CONTINUES_MAX:
            data["retry_s"] = continue_after_s(state.continues)
            after = replace(after, broken=text(line, "uuid"), continues=state.continues + 1)
    facts = []
    for prompt in prompts:
        if prompt in state.resumed:
            after, more = _prompt_state(after, prompt, "completed")
            facts += more
    return replace(after, resumed=after.resumed - set(prompts)), [
        *facts,
        Fact(kind="turn.end", data=data),
    ]


STATUS_CODES = {401: "authentication_failed", 402: "billing_error", 403: "authentication_failed",
                429: "rate_limit", 529: "overloaded"}  # fmt: skip


def _code(state: State, line: Json) -> str:
    """Return why a turn failed; see `turn.end` in `EVENT_KINDS`."""
    status, api_error = _status(line, "api_error_status"), text(line, "api_error")
    if state.is_refused:
        return "authentication_failed"
    if api_error in {"usage_limit_reached", "connection_failed"}:
        return api_error
    if status:
        known = STATUS_CODES.get(status, "server_error" if status >= 500 else "")
        return known or text(line, "api_error_type") or state.error or "unknown"
    if text(line, "terminal_reason").startswith("aborted"):
        return "interrupted"
    return state.error or text(line, "api_error_type") or text(line, "terminal_reason") or "unknown"


def _number(line: Json, key: str) -> float:
    value = line.get(key)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else 0.0


def _status(line: Json, key: str) -> int:
    value = line.get(key)
    return value if isinstance(value, int) else 0


MARKS: Mapping[str, Callable[[State, Json], Step]] = {
    "starting": _starting,
    "exited": _exited,
    "prompt": _prompt_mark,
    "handed": _handed,
    "typed": _typed,
    "returned": _returned,
    "leaving": _leaving,
    "interrupted": _interrupted,
    "other": _other,
    "left": _left,
    "ended": _ended,
}
STEPS: Mapping[str, Callable[[State, Json], Step]] = {
    "samovar": _mark,
    "control_request": _request,
    "control_response": _response,
    "control_cancel_request": _withdrawn,
    "command_lifecycle": _lifecycle,
    "user": _user,
    "stream_event": _stream,
    "assistant": _assistant,
    "system": _system,
    "rate_limit_event": _rate_limit,
    "conversation_reset": _new_conversation,
    "result": _result,
}
