"""People and the coding agent talk: steering, queueing, going on, asking, stopping."""

import asyncio
import json

import pytest
import pytest_asyncio

from bot.client import Client
from bot.demo.improvise import ASK
from bot.demo.script import say, step, use
from core.errors import UserError
from tests.fakes.world import HOLD, World, claude_processes, writing

pytestmark = [
    pytest.mark.docker,
    pytest.mark.claude,
    pytest.mark.timeout(180),
    pytest.mark.asyncio(loop_scope="session"),
]

PROJECT, REPOSITORY = "talk", "acme/talk"
ASKING = {
    "question": "Which colour?",
    "header": "Colour",
    "options": [{"label": "red", "description": ""}, {"label": "blue", "description": ""}],
    "multiSelect": False,
}


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def project(samovar: World) -> None:
    await samovar.project(PROJECT, {"README.md": "talk\n"})


async def subjects(samovar: World, head: str) -> list[str]:
    commits = await samovar.forge.commits(REPOSITORY, f"main..{head}")
    return [commit.message.strip() for commit in reversed(commits)]


async def test_a_reply_steers_and_a_queued_one_waits_until_the_agent_is_idle(
    samovar: World,
) -> None:
    task = await samovar.ask(
        PROJECT, "Add one", [step(use("Bash", command=HOLD)), *writing("never")]
    )
    await samovar.reached(task)
    await samovar.reply(task, "Then three", writing("three"), ending=". queue")
    await samovar.reply(task, "No: two", writing("two"))
    lines = (await samovar.view(task)).lines
    assert "waits until the agent is idle" in [line.receipt for line in lines]
    await samovar.go_on(task)
    view = await samovar.ended(task)
    assert len(view.runs) == 1
    [pull] = [p for p in await samovar.forge.pulls(REPOSITORY) if task in p.head]
    assert await subjects(samovar, pull.head) == ["Add two", "Add three"]


async def test_w7_a_reply_after_the_end_wakes_the_workspace_and_updates_the_pull_request(
    samovar: World,
) -> None:
    task = await samovar.ask(PROJECT, "Add first, the code word is pomegranate", writing("first"))
    await samovar.ended(task)
    before = await samovar.workspace(task)
    await samovar.reply(task, "Now second", writing("second"))
    view = await samovar.ended(task, runs=2)
    after = await samovar.workspace(task)
    assert (after.id, after.container) == (before.id, before.container)
    [pull] = [p for p in await samovar.forge.pulls(REPOSITORY) if task in p.head]
    assert await subjects(samovar, pull.head) == ["Add first", "Add second"]
    assert [run.outcome for run in view.runs] == ["pull_request", "pull_request"]
    heard = json.dumps(samovar.stage.model.bodies[-1])
    assert heard.index("pomegranate") < heard.index("Now second"), "the conversation goes on"


async def test_p13_questions_are_answered_on_any_surface_once(samovar: World) -> None:
    """One by the page, one by the command line's socket, one by plain words; the first wins."""
    ask = step(use(ASK, questions=[ASKING]))
    steps = [ask, ask, step(use("mcp__samovar__ask", question="How many?")), *writing("seen")]
    task = await samovar.ask(PROJECT, "Paint it", steps)
    commands, me = samovar.samovar.commands, samovar.samovar.local
    first = await samovar.asked(task)
    assert (await samovar.view(task)).card.run_state == "asking"
    await commands.answer(me, first.id, surface="web", answers={"Which colour?": "red"})
    with pytest.raises(UserError, match="has answered already: red"):
        await commands.answer(me, first.id, surface="cli", answers={"Which colour?": "blue"})
    second = await samovar.asked(task, nth=2)
    async with Client(samovar.stage.config.state / "api.sock") as client:
        body = {"answers": {"Which colour?": "blue"}}
        await client.post("decisions", second.id, "answer", body=body)
    await samovar.asked(task, nth=3)
    await samovar.reply(task, "four and a half")
    view = await samovar.ended(task)
    assert view.card.result is not None
    assert view.card.result.outcome == "pull_request"
    answers = [one.answer for one in view.card.questions]
    assert answers == ["red", "blue", "four and a half"]
    told = json.dumps(samovar.stage.model.bodies[-1])
    assert told.index("red", told.rindex("Paint it")) < told.rindex("four and a half")


async def test_a_permission_that_is_denied_stops_only_that_command(samovar: World) -> None:
    rules = {"permissions": {"ask": ["Bash(rm:*)"]}}
    files = {".claude/settings.json": json.dumps(rules), "keep.txt": "keep\n"}
    repository = await samovar.project("careful", files)
    remove = use("Bash", command="rm keep.txt")
    task = await samovar.ask("careful", "Clean up", [step(remove), *writing("done")])
    question = await samovar.asked(task, "permission")
    assert "rm keep.txt" in question.title
    commands, me = samovar.samovar.commands, samovar.samovar.local
    await commands.answer(me, question.id, surface="web", allow=False)
    view = await samovar.ended(task)
    assert (view.card.questions[0].answer, view.card.state) == ("no", "done")
    [pull] = await samovar.forge.pulls(repository)
    names = await samovar.forge.git(repository, "ls-tree", "--name-only", pull.head)
    assert {"keep.txt", "done"} <= set(names.split())


async def test_p9_g4_five_stops_are_one_and_keep_what_was_done(samovar: World) -> None:
    steps = [
        *writing("half")[:1],
        step(use("Bash", command="echo draft > uncommitted.txt; " + HOLD)),
        step(say("Never said.")),
    ]
    task = await samovar.ask(PROJECT, "Half of it", steps)
    await samovar.reached(task)
    commands, me = samovar.samovar.commands, samovar.samovar.local
    await asyncio.gather(*(commands.stop(me, task) for _ in range(5)))
    view = await samovar.ended(task)
    result = view.card.result
    assert result is not None
    assert (result.outcome, view.card.state) == ("cancelled", "cancelled")
    assert "Stopped as you asked" in result.advice
    events = await commands.events(me, after=0, task=task)
    assert [event.kind for event in events].count("run.stop_asked") == 1
    branch = (await samovar.workspace(task)).branch
    names = await samovar.forge.git(REPOSITORY, "ls-tree", "--name-only", branch)
    assert {"half", "uncommitted.txt"} <= set(names.split()), "G4"
    assert [p for p in await samovar.forge.pulls(REPOSITORY) if p.head == branch] == []
    assert claude_processes(samovar.stage.config.state) == []
