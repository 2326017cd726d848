"""Record journals of a real Claude Code: `python -m tests.fakes.record_journals`.

Writes `tests/fixtures/claude/*.jsonl`, without paths, names and long lists of the machine that it
runs on, and beside each what the normaliser makes of it (`*.events.json`), to be read before it
is committed.
"""

import asyncio
import json
import os
import re
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from agent.claude.normalise import fold
from agent.claude.state import State
from bot.demo.model import ScriptedModel
from bot.demo.script import Step, say, step, think, use
from tests.fakes.agent_session import DONE, Bench, new_prompt, running, script

FOLDER = Path(__file__).parent.parent / "fixtures" / "claude"
SHORT = frozenset(
    {"commands", "models", "agents", "account", "output_style", "available_output_styles"}
)
KEPT = frozenset({"type", "subtype", "cwd", "tools", "mcp_servers", "model", "permissionMode"})


def events_of(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what the normaliser makes of a journal."""
    state, found = State(), []
    for line in lines:
        state, facts = fold(state, line)
        found += [{"kind": fact.kind, "data": fact.data} for fact in facts]
    return found


def clean(line: dict[str, Any], root: str) -> dict[str, Any]:
    """Return a line of a journal without what belongs to this machine."""
    if line.get("subtype") == "init":
        line = {key: value for key, value in line.items() if key in KEPT}
        line["tools"] = [tool for tool in line["tools"] if "samovar" in tool]
    body = line.get("response", {}).get("response", {})
    if isinstance(body, dict):
        for key in SHORT & set(body):
            del body[key]
    text = json.dumps(line, separators=(",", ":")).replace(root, "/run/samovar")
    text = text.replace(re.sub(r"[^a-zA-Z0-9]", "-", root), "-run-samovar")
    text = re.sub(rf"{tempfile.gettempdir()}/claude-\d+", "/run/samovar/scratch", text)
    text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:1", text)
    cleaned: dict[str, Any] = json.loads(text)
    return cleaned


async def tool_round(bench: Bench) -> None:
    write = use("Write", file_path=str(bench.root / "work/a.txt"), content="one\ntwo\n")
    edit = use("Edit", file_path=str(bench.root / "work/a.txt"), old_string="two", new_string="2")
    progress = use("mcp__samovar__report_progress", text="Half of it.", percent=50)
    bash = use("Bash", command="echo hi; exit 3", description="Say hi")
    steps = [step(think("Hm."), say("I begin.", chunks=2), write), step(edit, progress)]
    await one_turn(bench, *steps, step(bash), step(DONE))


async def one_turn(bench: Bench, *steps: Step) -> None:
    async with running(bench.driver()) as driver:
        await driver.prompt(new_prompt(), script("go", *steps))
        await bench.turns(1)
        await driver.stop()


async def questions(bench: Bench) -> None:
    options = [{"label": "Red", "description": "warm"}, {"label": "Blue", "description": "cold"}]
    asked = {"question": "Which?", "header": "Colour", "options": options, "multiSelect": False}
    ask = use("mcp__samovar__ask", question="Which hat?", options=["Top", "Straw"])
    steps = [step(use("AskUserQuestion", questions=[asked])), step(ask), step(DONE)]
    async with running(bench.driver()) as driver:
        await driver.prompt(new_prompt(), script("go", *steps))
        for number, answers in enumerate([{"Which?": "Blue"}, {"Which hat?": "Straw"}], start=1):
            await bench.until(partial(asked_times, bench, number))
            request = bench.of("question.open")[-1]["request"]
            await driver.answer(request, allow=True, answers=answers, message="")
        await bench.turns(1)
        await driver.stop()


def asked_times(bench: Bench, number: int) -> bool:
    return len(bench.of("question.open")) == number


async def permission_interrupted(bench: Bench) -> None:
    bench.mode = "default"
    async with running(bench.driver()) as driver:
        await driver.prompt(new_prompt(), script("go", step(use("Bash", command="rm -f b.txt"))))
        await bench.until(lambda: bench.of("question.open"))
        await driver.interrupt()
        await bench.turns(1)
        await driver.stop()


async def cut_stream(bench: Bench) -> None:
    text = say("one two three", chunks=13, delay_s=0.01)
    await one_turn(bench, step(text, DONE, cut_after=6, times=1))


async def budget(bench: Bench) -> None:
    said = "This task has spent its budget."
    await one_turn(bench, step(status=402, error="billing_error", message=said))


async def background(bench: Bench) -> None:
    bash = use("Bash", command="sleep 1; echo later", run_in_background=True)
    await one_turn(bench, step(bash), step(DONE))


async def subagent(bench: Bench) -> None:
    looks = step(say("I look."), use("Bash", command="echo inside"))
    inner = script("look", looks, step(say("Found.")))
    task = use("Task", description="Look around", prompt=inner, subagent_type="general-purpose")
    await one_turn(bench, step(task), step(DONE))


SCENES: dict[str, Callable[[Bench], Awaitable[None]]] = {
    "tool_round": tool_round,
    "questions": questions,
    "permission_interrupted": permission_interrupted,
    "cut_stream": cut_stream,
    "budget": budget,
    "background": background,
    "subagent": subagent,
}


async def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, play in SCENES.items():
        with tempfile.TemporaryDirectory() as folder:
            async with ScriptedModel() as model:
                bench = Bench(Path(folder) / "run", model.url, os.environ["SAMOVAR_CLAUDE"])
                await play(bench)
            raw = (bench.box / "out.jsonl").read_text().splitlines()
            root = str(bench.root)
            lines = [clean(json.loads(line), root) for line in raw]
            bench.journal.close()
        text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
        (FOLDER / f"{name}.jsonl").write_text(text)
        shown = json.dumps(events_of(lines), indent=1)
        (FOLDER / f"{name}.events.json").write_text(shown + "\n")


if __name__ == "__main__":
    asyncio.run(main())
