"""Workspaces stop, sleep, come back and go, through the whole program; no work is lost."""

import json

import pytest
import pytest_asyncio

from core.ids import ProjectId, TaskId, WorkspaceId
from core.rescue import CopyState, RescueCopy
from core.workspace import Workspace
from tests.fakes.serving import until
from tests.fakes.world import TASK_S_MAX, World, writing

pytestmark = [
    pytest.mark.docker,
    pytest.mark.claude,
    pytest.mark.timeout(300),
    pytest.mark.asyncio(loop_scope="session"),
]
PROJECT = "kept"


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def project(samovar: World) -> None:
    await samovar.project(PROJECT, {"README.md": "kept\n", "a.txt": "a\n"})


async def comes_to(samovar: World, workspace: WorkspaceId, state: str) -> Workspace:
    store = samovar.samovar.parts.store

    async def is_there() -> bool:
        return (await store.get(Workspace, workspace)).state == state

    await until(is_there, within_s=TASK_S_MAX)
    return await store.get(Workspace, workspace)


async def test_n8_a_stopped_workspace_comes_back_with_everything_by_a_reply(
    samovar: World,
) -> None:
    commands, me = samovar.samovar.commands, samovar.samovar.local
    task = await samovar.ask(PROJECT, "Add one, the code word is quince", writing("one"))
    await samovar.ended(task)
    await samovar.inside(task, "echo mine > untracked.txt; echo more >> a.txt; rm README.md")
    before = await samovar.workspace(task)
    await samovar.reply(task, "stop workspace")
    await comes_to(samovar, before.id, "stopped")
    assert await samovar.stage.engine.find({"samovar.workspace": before.id}) == []
    (copy,) = await samovar.samovar.parts.store.find(RescueCopy, workspace_id=before.id)
    assert (copy.state, copy.why) == (CopyState.KEPT, "stopped")
    await samovar.reply(task, "Now two", writing("two"))
    view = await samovar.ended(task, runs=2)
    after = await samovar.workspace(task)
    assert (after.id, after.attempt) == (before.id, before.attempt + 1)
    assert after.container != before.container
    there = await samovar.inside(
        task, "cat untracked.txt a.txt; ls; git log --format=%s origin/main.."
    )
    assert there.split("\n")[:3] == ["mine", "a", "more"]
    assert "README.md" not in there
    assert [run.outcome for run in view.runs] == ["pull_request", "pull_request"]
    heard = json.dumps(samovar.stage.model.bodies[-1])
    assert heard.index("quince") < heard.index("Now two"), "the conversation goes on"
    assert any(note for note in (await commands.workspace(me, after.id)).notes)


async def test_w3_a_rebuild_makes_another_container_and_keeps_the_files(samovar: World) -> None:
    task = await samovar.ask(PROJECT, "Add three", writing("three"))
    await samovar.ended(task)
    await samovar.inside(task, "echo mine > untracked.txt")
    before = await samovar.workspace(task)
    await samovar.samovar.commands.rebuild_workspace(samovar.samovar.local, before.id)
    after = await comes_to(samovar, before.id, "ready")
    assert after.container != before.container
    assert await samovar.inside(task, "cat untracked.txt") == "mine"


async def test_g4_what_was_deleted_is_restored_into_a_new_workspace(samovar: World) -> None:
    commands, me = samovar.samovar.commands, samovar.samovar.local
    made = await commands.new_workspace(me, ProjectId(PROJECT), branch="topic", key="e2e")
    ready = await comes_to(samovar, made.id, "ready")
    assert (ready.task_id, ready.branch) == (TaskId(""), "topic")
    await _inside(samovar, ready, "echo mine > untracked.txt; git commit -qam x --allow-empty")
    await commands.delete_workspace(me, made.id)
    await comes_to(samovar, made.id, "gone")
    (copy,) = [one for one in await commands.copies(me) if one.workspace_id == made.id]
    again = await commands.restore(me, copy.id)
    back = await comes_to(samovar, again.id, "ready")
    assert await _inside(samovar, back, "cat untracked.txt; git log -1 --format=%s") == "mine\nx"


async def _inside(samovar: World, workspace: Workspace, script: str) -> str:
    done = await samovar.stage.engine.run(
        workspace.container, ["sh", "-c", script], user=workspace.user, folder=workspace.folder
    )
    assert done.code == 0, done
    return done.text
