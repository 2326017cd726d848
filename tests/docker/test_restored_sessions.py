"""Conversations and terminals of a workspace that was saved go on, or are read, where it is now."""

import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from adapters.disk.files import DiskFiles
from adapters.nodelink.files import NodeFiles
from adapters.system import SecretBox
from agent.terminal.recording import recording
from bot.demo.model import ScriptedModel
from bot.demo.script import say, step
from core.ids import NodeId, RunId, SessionId, TerminalId, WorkspaceId
from core.viewing import Input
from core.wire import (
    DeleteWorkspace,
    DropCopy,
    OpenStream,
    OpenTerminal,
    SaveWorkspace,
    SendPrompt,
    StartSession,
    TerminalExited,
)
from tests.fakes.agent_session import DONE, new_prompt, script
from tests.fakes.keep_node import KeepNode, keep_node
from tests.fakes.node_link import NODE, control_plane
from tests.fakes.node_world import REPOSITORY, NodeWorld, node_world
from tests.fakes.serving import until
from tests.fakes.viewer import watching

pytestmark = [pytest.mark.docker, pytest.mark.claude, pytest.mark.timeout(300)]

SHELL = TerminalId("t-1")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[NodeWorld]:
    async with node_world(tmp_path) as opened:
        opened.forge.add(REPOSITORY, {"a.txt": "a\n"})
        yield opened


@pytest.fixture
async def model(world: NodeWorld) -> AsyncGenerator[ScriptedModel]:
    async with ScriptedModel(host=await world.engine.bridge()) as model:
        yield model


@asynccontextmanager
async def another_node(world: NodeWorld, folder: Path, sha256: str) -> AsyncIterator[NodeWorld]:
    """Give a node that never saw the workspace, and a control plane that has the copy for it."""
    store = DiskFiles(folder / "files", SecretBox({"1": b"k" * 32}))

    async def content() -> AsyncGenerator[bytes]:
        yield world.layout.copy(sha256).read_bytes()

    async def may_fetch(node: NodeId, _: str) -> bool:
        return node == NODE

    await store.put(content())
    async with control_plane(files=NodeFiles(store, may_fetch)) as plane:
        token = plane.store.add_node(NODE)
        settings = replace(world.settings, state=folder / "other")
        yield replace(world, settings=settings, files_url=plane.url, files_token=token)


def starting(workspace: WorkspaceId, session: str, *, continues: str = "") -> StartSession:
    return StartSession(
        session=SessionId(session),
        run=RunId("T-1.1"),
        workspace=workspace,
        model="claude-sonnet-5",
        frame="You work on a task.",
        continues=continues,
    )


async def talk(node: KeepNode, session: str, text: str) -> None:
    """Give a prompt and wait for the end of its turn."""
    turns = len(await node.events(session, "turn.end"))
    prompt = SendPrompt(session=SessionId(session), prompt=new_prompt(), text=text)
    answer = await node.order(prompt)
    assert answer["ok"], answer

    async def is_over() -> bool:
        return len(await node.events(session, "turn.end")) > turns

    await until(is_over)


async def good(node: KeepNode, *orders: object) -> dict[str, object]:
    """Have orders carried out, all of them well; return the result of the last one."""
    for order in orders:
        answer = await node.order(order)  # type: ignore[arg-type]
        assert answer["ok"], answer
    return answer["result"]


async def cast(node: KeepNode, workspace: WorkspaceId) -> str:
    wanted = OpenStream(ticket="x", what="recording", name=f"{workspace}/{SHELL}")
    async with aclosing(recording(node.terminals, node.world.workspaces.known, wanted)) as chunks:
        return b"".join([chunk async for chunk in chunks]).decode()


async def test_a_conversation_and_a_terminal_of_a_saved_workspace_come_back_on_another_node(
    world: NodeWorld, model: ScriptedModel, tmp_path: Path
) -> None:
    create, first, second = world.order(), str(uuid.uuid4()), str(uuid.uuid4())
    workspace = create.workspace
    async with keep_node(world, model.url) as node:
        opening = OpenTerminal(workspace=workspace, terminal=SHELL, command=("sh",))
        await good(node, create, starting(workspace, first), opening)
        await talk(node, first, script("remember the hat", step(DONE)))
        await type_in(node, workspace, "echo se''en\n", "seen")
        saved = await good(node, SaveWorkspace(workspace=workspace, attempt=1))
        [ended] = await node.heard(TerminalExited.TYPE)
        assert ended["terminal"] == SHELL
        states = [one["data"]["state"] for one in await node.events(first, "session.state")]
        assert states[-1] == "ended"
        sha256 = str(saved["sha256"])
        async with another_node(world, tmp_path, sha256) as other:
            await good(node, DropCopy(sha256=sha256), DeleteWorkspace(workspace=workspace))
            assert world.copies() == []
            async with keep_node(other, model.url) as there:
                restoring = replace(create, attempt=2, restore=sha256)
                back = await good(there, restoring)
                assert back["restored"] == ["Put back: 1 conversation, 1 terminal's history."]
                assert "seen" in await cast(there, workspace)
                await good(there, starting(workspace, second, continues=first))
                await talk(there, second, script("what was it?", step(DONE)))
                assert "remember the hat" in str(model.bodies[-1]["messages"])
                await good(there, DeleteWorkspace(workspace=workspace))


async def type_in(node: KeepNode, workspace: WorkspaceId, text: str, sight: str) -> None:
    async def look(view: object) -> None:
        await node.terminals.view(
            view,  # type: ignore[arg-type]
            workspace=workspace,
            terminal=SHELL,
            viewer="Ada",
            writes=True,
        )

    async with watching(look) as viewer:
        await viewer.say(Input(text.encode()))
        await viewer.sees(sight)


async def test_the_same_session_goes_on_in_the_same_run_where_it_was_stopped(
    world: NodeWorld, model: ScriptedModel
) -> None:
    create, session = world.order(), str(uuid.uuid4())
    workspace = create.workspace
    async with keep_node(world, model.url) as node:
        start = starting(workspace, session)
        await good(node, create, start)
        await talk(node, session, script("remember the hat", step(DONE)))
        slow = SendPrompt(
            session=SessionId(session),
            prompt=new_prompt(),
            text=script("and the coat", step(say("word " * 300, chunks=300, delay_s=0.1))),
        )
        await good(node, slow)
        await until(lambda: model.inflight)
        saved = await good(node, SaveWorkspace(workspace=workspace, attempt=1))
        before = await node.events(session, "session.state")
        await good(node, DeleteWorkspace(workspace=workspace))
        restoring = replace(create, attempt=2, restore=str(saved["sha256"]))
        await good(node, restoring, start)
        await talk(node, session, script("what was it?", step(DONE)))
        asked = str(model.bodies[-1]["messages"])
        assert "remember the hat" in asked
        assert "and the coat" in asked
        after = (await node.events(session, "session.state"))[len(before) :]
        assert after
        assert min(one["offset"] for one in after) > max(one["offset"] for one in before)
        await good(node, DeleteWorkspace(workspace=workspace))


async def test_w3_conversations_and_terminals_outlive_a_rebuild(
    world: NodeWorld, model: ScriptedModel
) -> None:
    create, session = world.order(), str(uuid.uuid4())
    workspace = create.workspace
    async with keep_node(world, model.url) as node:
        opening = OpenTerminal(workspace=workspace, terminal=SHELL, command=("sh",))
        await good(node, create, starting(workspace, session), opening)
        await talk(node, session, script("remember the hat", step(DONE)))
        await type_in(node, workspace, "echo se''en\n", "seen")
        await good(node, replace(create, attempt=2))
        await until(partial(node.heard, TerminalExited.TYPE))
        assert "seen" in await cast(node, workspace)
        await good(node, replace(starting(workspace, session), run=RunId("T-1.2")))
        await talk(node, session, script("what was it?", step(DONE)))
        assert "remember the hat" in str(model.bodies[-1]["messages"])
        await good(node, DeleteWorkspace(workspace=workspace))
