"""Chats with everything real: several coding agents in one container that share its files alone."""

import os
import signal
from pathlib import Path

import pytest
import pytest_asyncio

from adapters.local import process
from bot.client import Client
from bot.demo.script import prompt, say, step, use
from core.errors import UserError
from core.ids import TaskId, WorkspaceId
from core.ports.commands import ChatView
from core.run import Run
from core.workspace import Workspace
from tests.fakes.served import Served, served
from tests.fakes.serving import until
from tests.fakes.world import HOLD, World, claude_processes, writing

pytestmark = [pytest.mark.docker, pytest.mark.claude, pytest.mark.timeout(300)]
apart = pytest.mark.asyncio(loop_scope="session")
PROJECT = "chats"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def project(samovar: World) -> None:
    await samovar.project(PROJECT, {"README.md": "chats\n"})


def held(name: str) -> str:
    return HOLD.replace("/tmp/held", f"/tmp/{name}")


async def opened(samovar: World, home: WorkspaceId, text: str, *steps: object) -> ChatView:
    commands, me = samovar.samovar.commands, samovar.samovar.local
    words = prompt(text, list(steps))  # type: ignore[arg-type]
    samovar.said += 1
    return await commands.new_chat(me, home, words, surface="web", key=f"chat-{samovar.said}")


async def is_at(samovar: World, home: WorkspaceId, chat: TaskId, state: str) -> ChatView:
    found: list[ChatView] = []

    async def is_so() -> bool:
        views = await samovar.samovar.commands.chats(samovar.samovar.local, home)
        found[:] = [view for view in views if view.id == chat]
        return [view.state for view in found] == [state]

    try:
        await until(is_so, within_s=90)
    except AssertionError:
        raise AssertionError(f"{chat} is not {state}: {found}") from None
    return found[0]


async def heard(samovar: World, chat: TaskId) -> list[str]:
    """Return what the coding agents of a chat said."""
    store, texts = samovar.samovar.parts.store, list[str]()
    for run in await store.find(Run, task_id=chat):
        if run.session_id:
            events = await store.session_events(run.session_id, after=-1, limit=1000)
            texts += [one.data["text"] for one in events if one.kind == "message.text"]
    return texts


async def is_made(samovar: World, task: TaskId, name: str) -> None:
    async def is_there() -> bool:
        return name in await samovar.inside(task, "ls /tmp")

    await until(is_there, within_s=90)


async def sessions(samovar: World, task: TaskId) -> int:
    """Count the coding agents in the container of a task's workspace."""
    names = "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n' | grep -o '^--session-id=[0-9a-f-]*$'"
    return int(await samovar.inside(task, f"{names} | sort -u | wc -l"))


@apart
async def test_w11_g6_two_chats_and_a_run_at_once_in_one_container(
    samovar: World, project: None
) -> None:
    del project
    steps = [step(use("Bash", command=held("run"))), *writing("run-file")]
    task = await samovar.ask(PROJECT, "Write it", steps)
    await samovar.working(task)
    await is_made(samovar, task, "run")
    home = (await samovar.workspace(task)).id
    one = await opened(samovar, home, "first chat", step(use("Bash", command=held("one"))),
                       step(say("Said by one.")))  # fmt: skip
    two = await opened(samovar, home, "second chat", step(use("Bash", command=held("two"))),
                       step(say("Said by two.")))  # fmt: skip
    for name in ("one", "two"):
        await is_made(samovar, task, name)
    assert await sessions(samovar, task) == 3
    await samovar.inside(task, "rm /tmp/one")
    await is_at(samovar, home, one.id, "idle")
    assert await heard(samovar, one.id) == ["Said by one."]

    commands, me = samovar.samovar.commands, samovar.samovar.local
    await commands.stop(me, two.id)
    await is_at(samovar, home, two.id, "idle")
    assert await heard(samovar, two.id) == []
    await samovar.reply(two.id, "go on", [step(say("Two goes on."))])
    await until(lambda: _says(samovar, two.id, "Two goes on."))

    await samovar.inside(task, "rm /tmp/run")
    view = await samovar.ended(task)
    assert view.card.result is not None
    assert view.card.result.outcome == "pull_request", "the chats disturb no run"
    assert await sessions(samovar, task) == 2, "the chats outlive it"
    await samovar.reply(one.id, "still there?", [step(say("Here I am."))])
    await until(lambda: _says(samovar, one.id, "Here I am."))
    spent = await samovar.samovar.parts.store.spent(f"{task}.1", f"{one.id}.1", f"{two.id}.1")
    assert len(spent) == 3, "each has costs of its own"
    for chat in (one, two):
        await commands.close_chat(me, chat.id)
        assert (await samovar.ended(chat.id)).card.pull_url == ""
    await until(lambda: _is_quiet(samovar))


async def _is_quiet(samovar: World) -> bool:
    return claude_processes(samovar.stage.config.state) == []


async def _says(samovar: World, chat: TaskId, words: str) -> bool:
    return words in await heard(samovar, chat)


@apart
async def test_a_chat_asks_people_and_money_has_an_end(samovar: World) -> None:
    await samovar.project("dear", {"README.md": "dear\n"})
    task = await samovar.ask("dear", "Write it", writing("file"))
    await samovar.ended(task)
    home = (await samovar.workspace(task)).id
    first = step(use("Bash", command="true"), usage={"output_tokens": 160_000})
    chat = await opened(samovar, home, "dear chat", first, step(say("Paid.")))
    asked = await samovar.asked(chat.id, "budget")
    assert asked.detail == "No ends the chat."
    commands, me = samovar.samovar.commands, samovar.samovar.local
    other = await opened(samovar, home, "cheap chat", step(say("Cheap.")))
    await until(lambda: _says(samovar, other.id, "Cheap."))
    await commands.answer(me, asked.id, surface="web", allow=False)
    ended = await is_at(samovar, home, chat.id, "ended")
    assert "budget" in ended.error
    await commands.close_chat(me, other.id)
    await samovar.ended(other.id)


@apart
async def test_an_open_chat_is_in_the_way_of_a_deletion(samovar: World, project: None) -> None:
    del project
    task = await samovar.ask(PROJECT, "Write one more", writing("more"))
    await samovar.ended(task)
    home = (await samovar.workspace(task)).id
    chat = await opened(samovar, home, "stay", step(say("I stay.")))
    await is_at(samovar, home, chat.id, "idle")
    commands, me = samovar.samovar.commands, samovar.samovar.local
    with pytest.raises(UserError, match="Close it first"):
        await commands.delete_workspace(me, home)
    await samovar.reply(task, "And again", writing("again"))
    await samovar.ended(task, runs=2)
    store = samovar.samovar.parts.store
    assert (await store.get(Workspace, home)).id == home, "the next run works in the same one"
    await samovar.reply(chat.id, "still?", [step(say("Still here."))])
    await until(lambda: _says(samovar, chat.id, "Still here."))
    await commands.close_chat(me, chat.id)
    await samovar.ended(chat.id)


@pytest.mark.long
async def test_w7_a_chat_in_mid_turn_outlives_node_agent_and_control_plane(tmp_path: Path) -> None:
    async with served(tmp_path) as samovar:
        task = await samovar.ask("Write it", writing("file"))
        home = (await samovar.ended(task))["workspace_id"]
        words = prompt("Wait for me", [step(use("Bash", command=HOLD)), step(say("Waited."))])
        chat = (await samovar.post("workspaces", home, "chats", text=words))["id"]
        await samovar.reached()
        await _kill_agent(samovar)
        await samovar.kill()
        await samovar.go_on()
        await samovar.start()
        await until(lambda: _state(samovar, home, chat, "idle"), within_s=90)
        view = await samovar.get("tasks", chat)
        assert len(view["runs"]) == 1
        session = view["runs"][0]["session_id"]
        events = (await samovar.get("sessions", session, "events"))["events"]
        said = [one["data"]["text"] for one in events if one["kind"] == "message.text"]
        assert said == ["Waited."], "P6: once"
        starts = [one for one in events if one["data"].get("state") == "starting"]
        assert len(starts) == 1, "adopted, not restarted"
        async with Client(samovar.stage.config.state / "api.sock") as client:
            await client.delete("chats", chat)
        await samovar.ended(chat)
        await until(lambda: not claude_processes(tmp_path))


async def _state(samovar: Served, home: str, chat: str, wanted: str) -> bool:
    found = (await samovar.get("workspaces", home, "chats"))["chats"]
    return [one["state"] for one in found if one["id"] == chat] == [wanted]


async def _kill_agent(samovar: Served) -> None:
    [node] = samovar.stage.nodes
    pid = process.find(node)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await until(lambda: process.find(node) != pid)
