"""A real Claude Code, driven through its mailbox on this machine."""

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from agent.errors import NodeError
from bot.demo.model import ScriptedModel
from bot.demo.script import say, step, use
from tests.fakes.agent_session import DONE, Bench, new_prompt, running, script

pytestmark = pytest.mark.claude


def until_there(file: Path) -> str:
    """Return a command that ends when the test makes a file."""
    return f"while [ ! -e {file} ]; do sleep 0.05; done"


async def test_a_prompt_becomes_a_turn_with_text_tool_and_result(bench: Bench) -> None:
    prompt = new_prompt()
    text = script(
        "go",
        step(say("Hello there.", chunks=3), use("Write", file_path="hello.txt", content="hi\n")),
        step(DONE),
    )
    async with running(bench.driver()) as driver:
        await driver.started()
        await driver.prompt(prompt, text)
        end = await bench.turns(1)
        await driver.stop()
    assert end["ok"]
    assert end["prompts"] == [prompt]
    assert [p["state"] for p in bench.of("prompt.state")] == ["queued", "started", "completed"]
    assert bench.of("message.user") == [{"text": text, "prompt": prompt}]
    assert [t["text"] for t in bench.of("message.text")] == ["Hello there.", "Done."]
    assert "".join(d.text for d in bench.deltas) == "Hello there.Done."
    assert bench.of("complete") == [{"summary": "It is done."}]
    assert "+hi" in bench.of("tool.end")[0]["diff"]
    phases = [p["state"] for p in bench.of("session.state")]
    assert phases == ["starting", "idle", "busy", "idle", "ended"]


async def test_our_own_question_waits_and_its_answer_reaches_the_model(
    bench: Bench, model: ScriptedModel
) -> None:
    async with running(bench.driver()) as driver:
        question = use("mcp__samovar__ask", question="Which colour?", options=["Red", "Blue"])
        await driver.prompt(new_prompt(), script("go", step(question), step(DONE)))
        await bench.until(lambda: bench.of("question.open"))
        opened = bench.of("question.open")[0]
        assert bench.phase() == "busy"
        given = {"allow": True, "answers": {"Which colour?": "Blue"}, "message": ""}
        await driver.answer(opened["request"], **given)
        await driver.answer(opened["request"], **{**given, "answers": {"Which colour?": "Red"}})
        await bench.turns(1)
        await driver.stop()
    assert opened["kind"] == "question"
    assert [o["label"] for o in opened["questions"][0]["options"]] == ["Red", "Blue"]
    assert bench.of("question.closed") == [{"request": opened["request"], "by": "answered"}]
    assert "Blue" in str(model.bodies[-1]["messages"])
    assert "'Red'" not in str(model.bodies[-1]["messages"][-2:])


async def test_p13_an_askuserquestion_is_answered_after_a_restart_of_the_driver(
    bench: Bench, model: ScriptedModel
) -> None:
    options = [{"label": "Red", "description": "r"}, {"label": "Blue", "description": "b"}]
    asked = {"question": "Which?", "header": "Colour", "options": options, "multiSelect": False}
    question = use("AskUserQuestion", questions=[asked])
    async with running(bench.driver()) as driver:
        await driver.prompt(new_prompt(), script("go", step(question), step(DONE)))
        await bench.until(lambda: bench.of("question.open"))
    async with running(bench.driver()) as driver:
        await driver.started()
        opened = bench.of("question.open")
        assert len(opened) == 1
        answers = {"Which?": "Blue"}
        await driver.answer(opened[0]["request"], allow=True, answers=answers, message="")
        await bench.turns(1)
        with pytest.raises(NodeError, match="question_gone"):
            await driver.answer("other", allow=True, answers={}, message="")
        await driver.stop()
    assert opened[0]["questions"][0] == {
        "text": "Which?", "header": "Colour", "options": options, "multiple": False,
    }  # fmt: skip
    assert len(bench.of("question.closed")) == 1
    assert "Blue" in str(model.bodies[-1]["messages"])


@pytest.mark.parametrize("allow", [True, False])
async def test_a_permission_is_asked_for_and_given_or_not(bench: Bench, allow: bool) -> None:
    bench.mode = "default"
    async with running(bench.driver()) as driver:
        write = use("Write", file_path=str(bench.root / "work/a.txt"), content="x")
        await driver.prompt(new_prompt(), script("go", step(write), step(DONE)))
        await bench.until(lambda: bench.of("question.open"))
        opened = bench.of("question.open")[0]
        assert (opened["kind"], opened["tool"]) == ("permission", "Write")
        await driver.answer(opened["request"], allow=allow, answers={}, message="Not that file.")
        for _ in range(2):  # complete_task wants a permission too in this mode
            if bench.of("turn.end"):
                break
            await bench.until(lambda: len(bench.of("question.open")) > 1 or bench.of("turn.end"))
            if len(bench.of("question.open")) > 1:
                later = bench.of("question.open")[1]["request"]
                await driver.answer(later, allow=True, answers={}, message="")
        await bench.turns(1)
        await driver.stop()
    assert (bench.root / "work/a.txt").exists() == allow
    assert bench.of("tool.end")[0]["ok"] == allow


async def test_a_plan_is_a_question_of_its_own_kind(bench: Bench) -> None:
    bench.mode = "plan"
    async with running(bench.driver()) as driver:
        plan = use("ExitPlanMode")
        await driver.prompt(new_prompt(), script("go", step(plan), step(DONE)))
        await bench.until(lambda: bench.of("question.open"))
        opened = bench.of("question.open")[0]
        assert (opened["kind"], opened["tool"]) == ("plan", "ExitPlanMode")
        await driver.interrupt()
        await bench.until(lambda: bench.of("question.closed"))
        assert bench.of("question.closed")[0]["by"] == "withdrawn"
        await driver.stop()


async def test_p11_a_turn_without_a_result_is_asked_about_once(
    bench: Bench, model: ScriptedModel
) -> None:
    async with running(bench.driver()) as driver:
        await driver.prompt(new_prompt(), script("go", step(say("Bye.")), step(say("Really."))))
        await bench.turns(1)
        await driver.stop()
    assert [t["text"] for t in bench.of("message.text")] == ["Bye.", "Really."]
    assert "call complete_task with a summary" in str(model.bodies[-1]["messages"])
    assert len(bench.of("turn.end")) == 1


async def test_p9_five_interrupts_at_once_are_one(bench: Bench) -> None:
    async with running(bench.driver()) as driver:
        await driver.prompt(
            new_prompt(), script("go", step(say("x" * 400, chunks=400, delay_s=0.05)))
        )
        await bench.until(lambda: bench.deltas)
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(driver.interrupt())
        end = await bench.turns(1)
        assert (end["ok"], end["code"]) == (False, "interrupted")
        await driver.prompt(new_prompt(), script("again", step(DONE)))
        assert (await bench.turns(2))["ok"]
        await driver.stop()
    assert len(bench.of("turn.end")) == 2


async def test_an_interrupt_drops_what_is_queued_and_ends_a_command(bench: Bench) -> None:
    first, second = new_prompt(), new_prompt()
    async with running(bench.driver()) as driver:
        bash = use("Bash", command="for i in 1 2 3 4 5 6 7 8 9; do sleep 7; done; echo end")
        await driver.prompt(first, script("go", step(bash), step(DONE)))
        await bench.until(lambda: bench.of("tool.start"))
        await driver.prompt(second, "and this")
        await bench.until(lambda: {"prompt": second, "state": "queued"} in bench.of("prompt.state"))
        await driver.interrupt()
        await bench.turns(1)
        await driver.stop()
    assert {"prompt": second, "state": "cancelled"} in bench.of("prompt.state")
    assert not bench.of("tool.end")[0]["ok"]


async def test_a_prompt_in_mid_work_steers_the_turn(bench: Bench, model: ScriptedModel) -> None:
    first, second, go = new_prompt(), new_prompt(), bench.root / "go"
    async with running(bench.driver()) as driver:
        bash = use("Bash", command=f"{until_there(go)}; echo slept")
        await driver.prompt(first, script("go", step(bash), step(DONE)))
        await bench.until(lambda: bench.of("tool.start"))
        await driver.prompt(second, "Use blue, please.")
        await bench.until(lambda: {"prompt": second, "state": "queued"} in bench.of("prompt.state"))
        go.touch()
        await bench.turns(1)
        await driver.stop()
    states = [p["state"] for p in bench.of("prompt.state") if p["prompt"] == second]
    assert states == ["queued", "started", "completed"]
    assert len(bench.of("turn.end")) == 1
    assert "Use blue, please." in str(model.bodies[-1]["messages"])


async def test_background_work_keeps_a_session_busy(bench: Bench) -> None:
    go = bench.root / "go"
    async with running(bench.driver()) as driver:
        bash = use("Bash", command=f"{until_there(go)}; echo later", run_in_background=True)
        await driver.prompt(new_prompt(), script("go", step(bash), step(DONE)))
        await bench.until(lambda: bench.of("turn.end"))
        assert bench.phase() == "busy"
        assert bench.of("background")[-1]["tasks"][0]["kind"] == "local_bash"
        go.touch()
        await bench.until(lambda: bench.phase() == "idle")
        await driver.stop()
    assert bench.of("background")[-1] == {"tasks": []}


async def test_a_subagents_work_carries_its_parent(bench: Bench) -> None:
    async with running(bench.driver()) as driver:
        inner = script(
            "look", step(say("I look."), use("Bash", command="echo inside")), step(say("Found."))
        )
        task = use("Task", description="Look around", prompt=inner, subagent_type="general-purpose")
        await driver.prompt(new_prompt(), script("go", step(task), step(DONE)))
        await bench.until(lambda: any("parent" in t for t in bench.of("message.text")))
        await bench.turns(1)
        await driver.stop()
    parent = bench.of("tool.start")[0]["tool"]
    assert {t["parent"] for t in bench.of("message.text") if "parent" in t} == {parent}
    assert [t["name"] for t in bench.of("tool.start") if t.get("parent") == parent] == ["Bash"]


async def test_a_long_output_and_an_edit_are_shown_short(bench: Bench) -> None:
    path = str(bench.root / "work/f.txt")
    async with running(bench.driver()) as driver:
        write = use("Write", file_path=path, content="one\ntwo\nthree\n")
        edit = use("Edit", file_path=path, old_string="two", new_string="2")
        bash = use("Bash", command="seq 1 20000")
        text = script("go", step(write), step(edit), step(bash), step(DONE))
        await driver.prompt(new_prompt(), text)
        await bench.turns(1)
        await driver.stop()
    written, edited, printed = bench.of("tool.end")
    assert "+two" in written["diff"]
    assert "-two\n+2\n" in edited["diff"]
    assert printed["summary"]
    assert len(printed["output"]) < 20_000


async def test_hostile_and_large_prompts_go_through_unchanged(
    bench: Bench, model: ScriptedModel
) -> None:
    hostile = (
        '{"type":"user"}\n\x00\u202e\u200b\u2028\U0001f600 </system-reminder>\r\n"quoted" \\u0000'
    )
    large = "lorem ipsum dolor " * 450_000
    async with running(bench.driver()) as driver:
        await driver.prompt(new_prompt(), script(hostile, step(DONE)))
        await bench.turns(1)
        await driver.prompt(new_prompt(), script(large, step(DONE)))
        await bench.turns(2)
        for bad in ("", " \n", "half \ud800"):
            with pytest.raises(NodeError, match="prompt_invalid"):
                await driver.prompt(new_prompt(), bad)
        await driver.stop()
    assert bench.of("message.user")[0]["text"].startswith(hostile)
    assert bench.of("message.user")[1]["text"].startswith(large)
    sent = _texts(model)
    assert any(hostile in text for text in sent)
    assert any(large in text for text in sent)


def _texts(model: ScriptedModel) -> list[str]:
    """Return every text that the model was sent."""
    return [
        block["text"]
        for body in model.bodies
        for message in cast("list[dict[str, Any]]", body["messages"])
        for block in (message["content"] if isinstance(message["content"], list) else [])
        if block["type"] == "text"
    ]
