"""A stand-in for the Claude Code program: its protocol over stdin and stdout, without a model.

It plays the script that a prompt carries (`<<[steps]>>`, the words of `bot.demo.script`): `say`,
`use` of Bash and Write (really done), of AskUserQuestion and of our own tools (asked over stdio).
Levers, as blocks of a step:

    {"exit": 3, "once": "/path"}    end at once; with `once` only the first time (the path is made)
    {"exit": -9, "once": "/path"}   the same by a signal
    {"sleep": 0.2}                  be slow
    {"mute": true}                  keep the next change of the session's state to itself
    {"fail": "overloaded", "status": 529, "once": "/path"}   end the turn with an API error

Conversations are kept where Claude Code keeps them, so `--resume` and prompts given twice work.
Only the standard library is used; `install` makes a program of it.
"""

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

Json = dict[str, Any]


def install(folder: Path) -> str:
    """Make an executable in `folder` and return its path."""
    program = folder / "claude"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).resolve()} "$@"\n')
    program.chmod(0o755)
    return str(program)


def script_of(text: str) -> list[Json]:
    at = text.find("<<[")
    if at < 0:
        return []
    steps: list[Json] = json.JSONDecoder().raw_decode(text, at + 2)[0]
    return steps


class InterruptedTurnError(Exception):
    pass


class Conversation:
    """The transcript file: who said what, one JSON object a line."""

    def __init__(self, session: str, *, of: str) -> None:
        home = (
            Path(os.environ["CLAUDE_CONFIG_DIR"]) / "projects" / re.sub(r"\W", "-", str(Path.cwd()))
        )
        home.mkdir(parents=True, exist_ok=True)
        self.path = home / f"{session}.jsonl"
        source = home / f"{of}.jsonl"
        self.lines = [json.loads(line) for line in source.read_text().splitlines()] if of else []

    def add(self, **line: object) -> None:
        self.lines.append(dict(line))
        with self.path.open("a") as file:
            file.write(json.dumps(line, separators=(",", ":")) + "\n")

    def holds(self, prompt: str) -> bool:
        return any(line.get("uuid") == prompt for line in self.lines)

    def interrupted(self) -> Json | None:
        """Return the prompt whose turn did not end."""
        open_: Json | None = None
        for line in self.lines:
            open_ = line if line["type"] == "user" else None if line["type"] == "end" else open_
        return open_


class Claude:
    def __init__(self, arguments: list[str]) -> None:
        options = dict(a.split("=", 1) for a in arguments if a.startswith("--") and "=" in a)
        resumed = options.get("--resume", "")
        self.session = options.get("--session-id", resumed)
        self.talk = Conversation(self.session, of=resumed)
        self.prompts: queue.Queue[Json | None] = queue.Queue()
        self.answers: dict[str, queue.Queue[Json]] = {}
        self.state = "idle"
        self.is_interrupted = threading.Event()
        self.greeted = threading.Event()
        self.printing = threading.Lock()
        self.is_mute = False

    # Out.

    def say(self, kind: str, **more: object) -> None:
        line = {"uuid": str(uuid.uuid4()), **more, "session_id": self.session, "type": kind}
        data = (json.dumps(line) + "\n").encode()
        with self.printing:
            while data:
                data = data[os.write(1, data) :]

    def set_state(self, state: str) -> None:
        if state == self.state:
            return
        self.state = state
        if not self.is_mute:
            self.say("system", subtype="session_state_changed", state=state)
        self.is_mute = False

    def ask(self, request: Json) -> Json:
        ident = str(uuid.uuid4())
        self.answers[ident] = queue.Queue()
        self.say("control_request", request_id=ident, request=request)
        while True:
            try:
                return self.answers[ident].get(timeout=0.05)
            except queue.Empty:
                if self.is_interrupted.is_set():
                    self.say("control_cancel_request", request_id=ident)
                    raise InterruptedTurnError from None

    # In.

    def read(self) -> None:
        for raw in sys.stdin.buffer:
            if not raw.strip():
                continue
            try:
                line = json.loads(raw)
            except ValueError:
                sys.stderr.write("Error parsing streaming input line\n")
                sys.stderr.flush()
                os._exit(1)
            self.take(line)

    def take(self, line: Json) -> None:
        if line["type"] == "user":
            self.take_prompt(line)
        elif line["type"] == "control_request":
            self.take_request(line["request_id"], line["request"])
        elif line["type"] == "control_response":
            waiting = self.answers.pop(line["response"]["request_id"], None)
            if waiting is not None:
                self.say("control_response", response=line["response"])
                waiting.put(line["response"].get("response", {}))

    def take_prompt(self, line: Json) -> None:
        ident = line["uuid"]
        if self.talk.holds(ident):
            self.say("user", message=line["message"], uuid=ident, isReplay=True)
            self.say("command_lifecycle", command_uuid=ident, state="completed")
            return
        if self.state == "idle":
            self.set_state("running")
        self.say("command_lifecycle", command_uuid=ident, state="queued")
        self.prompts.put(line)

    def take_request(self, ident: str, request: Json) -> None:
        more: Json = {}
        if request["subtype"] == "initialize":
            more = {"session_state": self.state, "pid": os.getpid(), "commands": []}
            self.greeted.set()
        if request["subtype"] == "interrupt":
            if request.get("cancel_queued"):
                self.drop_queued()
            if self.state == "running":
                self.is_interrupted.set()
        if request["subtype"] == "end_session":
            while self.state == "running" and self.is_interrupted.is_set():
                time.sleep(0.01)  # It ends what was interrupted first.
            self.say("control_response", response={"subtype": "success", "request_id": ident})
            os._exit(0)
        response = {"subtype": "success", "request_id": ident, "response": more}
        self.say("control_response", response=response)

    def drop_queued(self) -> None:
        while not self.prompts.empty():
            line = self.prompts.get()
            if line is not None:
                self.say("command_lifecycle", command_uuid=line["uuid"], state="cancelled")

    # Turns.

    def run(self) -> None:
        threading.Thread(target=self.read, daemon=True).start()
        self.greeted.wait()
        left = self.talk.interrupted()
        if left and os.environ.get("CLAUDE_CODE_RESUME_INTERRUPTED_TURN"):
            self.set_state("running")
            self.turn(left["uuid"], left["text"])
        while (line := self.prompts.get()) is not None:
            ident = line["uuid"]
            text = line["message"]["content"][0]["text"]
            self.say("command_lifecycle", command_uuid=ident, state="started")
            self.talk.add(type="user", uuid=ident, text=text)
            self.say("user", message=line["message"], uuid=ident, isReplay=True)
            self.turn(ident, text)
            self.say("command_lifecycle", command_uuid=ident, state="completed")
            if self.prompts.empty():
                self.set_state("idle")

    def turn(self, ident: str, text: str) -> None:
        self.is_interrupted.clear()
        more: Json = {"subtype": "success", "is_error": False, "terminal_reason": "completed"}
        said = ""
        try:
            for step in script_of(text) or [{"blocks": [{"say": "Done."}]}]:
                said = self.step(step) or said
            self.hook_stop()
        except InterruptedTurnError:
            more = {"subtype": "error_during_execution", "is_error": True,
                    "terminal_reason": "aborted_streaming"}  # fmt: skip
        except ApiError as error:
            more = {"subtype": "success", "is_error": True, "terminal_reason": "api_error",
                    "api_error_status": error.status, "api_error_type": error.code}  # fmt: skip
            said = f"API Error: {error.status} {error.code}"
        self.talk.add(type="end")
        self.say("result", result=said, user_message_uuids=[ident], total_cost_usd=0.01, **more)
        if self.prompts.empty() and self.talk.interrupted() is None:
            self.set_state("idle")

    def hook_stop(self) -> None:
        given = {"hook_event_name": "Stop", "stop_hook_active": False}
        answer = self.ask({"subtype": "hook_callback", "callback_id": "stop", "input": given})
        if answer.get("decision") == "block":
            self.write("msg_" + uuid.uuid4().hex, {"say": "All is said."})

    def step(self, step: Json) -> str:
        message, said = "msg_" + uuid.uuid4().hex, ""
        for block in step.get("blocks", []):
            if self.is_interrupted.is_set():
                raise InterruptedTurnError
            if "say" in block:
                said = self.write(message, block)
            elif "use" in block:
                self.use(message, block)
            elif "mute" in block:
                self.is_mute = True
            elif first_time(block):
                pull(block)
        return said

    def write(self, message: str, block: Json) -> str:
        text, chunks = block["say"], max(1, block.get("chunks", 1))
        size = max(1, -(-len(text) // chunks))
        self.stream(type="message_start", message={"id": message})
        for at in range(0, len(text), size):
            delta = {"type": "text_delta", "text": text[at : at + size]}
            self.stream(type="content_block_delta", index=0, delta=delta)
            if block.get("delay_s"):
                time.sleep(block["delay_s"])
            if self.is_interrupted.is_set():
                raise InterruptedTurnError
        self.assistant(message, {"type": "text", "text": text})
        self.stream(type="message_delta", delta={"stop_reason": "end_turn"})
        self.stream(type="message_stop")
        return str(text)

    def stream(self, **event: object) -> None:
        self.say("stream_event", event=event, parent_tool_use_id=None)

    def assistant(self, message: str, block: Json) -> None:
        whole = {"id": message, "role": "assistant", "content": [block]}
        self.say("assistant", message=whole, parent_tool_use_id=None)

    def use(self, message: str, block: Json) -> None:
        tool, given, call = block["use"], block.get("input", {}), "toolu_" + uuid.uuid4().hex
        self.assistant(message, {"type": "tool_use", "id": call, "name": tool, "input": given})
        output, is_error, result = self.work(tool, given)
        content = {"type": "tool_result", "tool_use_id": call, "content": output}
        body = {"role": "user", "content": [{**content, "is_error": is_error}]}
        self.say("user", message=body, parent_tool_use_id=None, tool_use_result=result)

    def work(self, tool: str, given: Json) -> tuple[str, bool, Json]:
        if tool == "Bash":
            done = subprocess.run(
                ["/bin/sh", "-c", given["command"]], capture_output=True, text=True, check=False,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "CLAUDE_CODE_SESSION_ID": self.session},
            )  # fmt: skip
            return (done.stdout + done.stderr).strip(), done.returncode != 0, {}
        if tool == "Write":
            Path(given["file_path"]).write_text(given["content"])
            result = {"type": "create", "filePath": given["file_path"], "structuredPatch": []}
            return "File created.", False, {**result, "content": given["content"]}
        if tool.startswith("mcp__samovar__"):
            params = {"name": tool.removeprefix("mcp__samovar__"), "arguments": given}
            message = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params}
            request = {"subtype": "mcp_message", "server_name": "samovar", "message": message}
            result = self.ask(request)["mcp_response"]["result"]
            return result["content"][0]["text"], bool(result.get("isError")), {}
        request = {"subtype": "can_use_tool", "tool_name": tool, "input": given}
        answer = self.ask(request)
        return json.dumps(answer), answer.get("behavior") != "allow", {}


class ApiError(Exception):
    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


def first_time(block: Json) -> bool:
    if "once" not in block:
        return True
    try:
        Path(block["once"]).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def pull(lever: Json) -> None:
    if "sleep" in lever:
        time.sleep(lever["sleep"])
    elif "fail" in lever:
        raise ApiError(lever.get("status", 0), lever["fail"])
    elif lever.get("exit", 0) < 0:
        os.kill(os.getpid(), signal.Signals(-lever["exit"]))
    else:
        sys.stderr.write("told to exit\n")
        sys.stderr.flush()
        os._exit(lever["exit"])


if __name__ == "__main__":
    Claude(sys.argv[1:]).run()
