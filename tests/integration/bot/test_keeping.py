"""What people can ask for of whole workspaces, and what becomes of it in our records."""

import asyncio
from dataclasses import replace

import pytest

from bot.fetching import may_fetch
from core.access import Person
from core.errors import ForbiddenError, NotFoundError, UserError
from core.ids import CopyId, NodeId, ProjectId, TaskId, WorkspaceId
from core.message import Post
from core.order import NodeOrder
from core.rescue import CopyState, RescueCopy
from core.workspace import Workspace, WorkspaceState
from tests.fakes.desk import Desk
from tests.fakes.nouns import a_copy, a_workspace

WORKSPACE, WEB = WorkspaceId("wabcdefg"), ProjectId("web")
STOPPED = {"state": WorkspaceState.STOPPED, "node_id": "", "run_id": None, "base_commit": "a" * 40}


@pytest.fixture
async def ana(desk: Desk) -> Person:
    return await desk.person("ana")


@pytest.fixture
async def root(desk: Desk) -> Person:
    return await desk.person("root", "admin")


async def used(desk: Desk, **values: object) -> Workspace:
    """Put a workspace in which somebody has worked, and that no run works in."""
    known = {"run_id": None, "base_commit": "a" * 40, "container": "c1", **values}
    await desk.put(a_workspace(**known))
    return await desk.store.get(Workspace, WORKSPACE)


async def state(desk: Desk) -> WorkspaceState:
    return (await desk.store.get(Workspace, WORKSPACE)).state


async def kinds(desk: Desk, by: Person) -> list[str]:
    return [event.kind for event in await desk.commands.events(by, after=0)]


async def test_five_clicks_on_stop_are_one_wish(desk: Desk, ana: Person) -> None:
    await used(desk)
    await asyncio.gather(*(desk.commands.stop_workspace(ana, WORKSPACE) for _ in range(5)))
    assert await state(desk) is WorkspaceState.STOPPING
    (copy,) = await desk.store.find(RescueCopy)
    assert (copy.id, copy.state, copy.why) == ("wabcdefg-1", CopyState.WANTED, "stopped")
    assert await kinds(desk, ana) == ["workspace.stopping", "workspace.asked"]
    assert await desk.store.find(NodeOrder) == [], "a request stores, a worker works"


async def test_a_stopped_workspace_is_restarted_with_its_copy(desk: Desk, ana: Person) -> None:
    await used(desk, **STOPPED)
    await desk.put(a_copy())
    (shown,) = await desk.commands.workspaces(ana)
    assert shown.copy is not None
    assert (shown.state, shown.copy.id, shown.node_id) == ("stopped", "wabcdefg-1", "")
    for _ in range(2):
        await desk.commands.restart_workspace(ana, WORKSPACE)
    found = await desk.store.get(Workspace, WORKSPACE)
    assert (found.state, found.attempt, found.keep_until) == (WorkspaceState.REQUESTED, 2, None)
    assert found.active_at == desk.clock.now()
    assert (await desk.commands.workspace(ana, WORKSPACE)).place == 1
    await desk.commands.stop_workspace(ana, WORKSPACE)
    assert await state(desk) is WorkspaceState.STOPPED, "the wish is taken back"
    (copy,) = await desk.store.find(RescueCopy)
    assert copy.state is CopyState.KEPT


async def test_a_rebuild_is_a_new_attempt_and_keeps_what_is_there(desk: Desk, ana: Person) -> None:
    await used(desk, steps=({"step": "fetch"},), code="save_failed", error="No.")
    await desk.commands.rebuild_workspace(ana, WORKSPACE)
    found = await desk.store.get(Workspace, WORKSPACE)
    assert (found.state, found.attempt, found.steps, found.error) == (
        *(WorkspaceState.BUILDING, 2),
        *((), ""),
    )
    assert await desk.store.find(RescueCopy) == []


async def test_deleting_saves_first_and_can_be_taken_back(desk: Desk, root: Person) -> None:
    await used(desk)
    await desk.commands.delete_workspace(root, WORKSPACE)
    assert await state(desk) is WorkspaceState.STOPPING
    (copy,) = await desk.store.find(RescueCopy)
    assert copy.why == "deleted"
    await desk.put(replace(copy, state=CopyState.KEPT, sha256="ab" * 32, made_at=desk.clock.now()))
    gone = replace(await desk.store.get(Workspace, WORKSPACE), state=WorkspaceState.GONE)
    await desk.put(gone)
    (listed,) = await desk.commands.copies(root)
    assert (listed.id, listed.why, listed.project) == (copy.id, "deleted", "web")
    first = await desk.commands.restore(root, copy.id, key="k")
    again = await desk.commands.restore(root, copy.id, key="k")
    assert (first.id, first.task_id) == (again.id, "T-1")
    assert (first.state, first.branch) == ("requested", gone.branch)
    assert first.copy is not None
    assert (await desk.store.get(RescueCopy, f"{first.id}-1")).sha256 == "ab" * 32
    another = await desk.commands.restore(root, copy.id)
    assert (another.id != first.id, another.task_id) == (True, ""), "a task has one workspace"


async def test_what_cannot_be_saved_is_thrown_away_by_an_administrator_who_says_so(
    desk: Desk, ana: Person, root: Person
) -> None:
    await used(desk, code="disk_full", error="The disk of the node is full.")
    with pytest.raises(ForbiddenError):
        await desk.commands.delete_workspace(ana, WORKSPACE, without_copy=True)
    for _ in range(2):
        await desk.commands.delete_workspace(root, WORKSPACE, without_copy=True)
    found = await desk.store.get(Workspace, WORKSPACE)
    assert (found.state, found.discarded_by, found.error) == (WorkspaceState.DELETING, "root", "")
    assert await desk.store.find(RescueCopy) == []
    assert await kinds(desk, ana) == ["workspace.deleting", "workspace.asked"]
    with pytest.raises(UserError, match="deleted without a copy"):
        await desk.commands.stop_workspace(ana, WORKSPACE)


async def test_what_is_deleted_and_does_not_get_out_can_still_be_thrown_away(
    desk: Desk, root: Person
) -> None:
    await used(desk, state=WorkspaceState.DELETING)
    await desk.commands.delete_workspace(root, WORKSPACE, without_copy=True)
    found = await desk.store.get(Workspace, WORKSPACE)
    assert (found.state, found.discarded_by) == (WorkspaceState.DELETING, "root")


async def test_deleting_what_stops_already_changes_only_what_comes_of_it(
    desk: Desk, ana: Person, root: Person
) -> None:
    await used(desk)
    await desk.commands.stop_workspace(ana, WORKSPACE)
    for _ in range(2):
        await desk.commands.delete_workspace(root, WORKSPACE)
    (copy,) = await desk.store.find(RescueCopy)
    assert (copy.why, copy.state, await state(desk)) == (
        *("deleted", CopyState.WANTED),
        WorkspaceState.STOPPING,
    )


@pytest.mark.parametrize(
    ("values", "what", "code"),
    [
        ({"run_id": "T-1.1"}, "stop", "busy"),
        ({"run_id": "T-1.1"}, "restart", "busy"),
        ({"run_id": "T-1.1"}, "rebuild", "busy"),
        ({"run_id": "T-1.1"}, "delete", "busy"),
        ({"state": WorkspaceState.BUILDING}, "stop", "workspace_not_ready"),
        ({"state": WorkspaceState.BUILDING}, "rebuild", "workspace_not_ready"),
        ({"state": WorkspaceState.BUILDING}, "delete", "workspace_not_ready"),
        ({"state": WorkspaceState.STOPPING}, "restart", "workspace_not_ready"),
        ({"state": WorkspaceState.STOPPING}, "rebuild", "workspace_not_ready"),
        (STOPPED, "rebuild", "workspace_not_ready"),
        ({}, "restart", "workspace_runs"),
        ({"state": WorkspaceState.GONE}, "stop", "workspace_gone"),
        ({"state": WorkspaceState.DELETING}, "restart", "workspace_gone"),
        ({"state": WorkspaceState.GONE}, "rebuild", "workspace_gone"),
    ],
)
async def test_what_cannot_be_done_now_is_refused_with_what_to_do_first(
    desk: Desk, root: Person, values: dict[str, object], what: str, code: str
) -> None:
    before = await used(desk, **values)
    with pytest.raises(UserError) as refused:
        await getattr(desk.commands, f"{what}_workspace")(root, WORKSPACE)
    assert refused.value.code == code
    assert await desk.store.get(Workspace, WORKSPACE) == before


async def test_c8_who_may_only_look_changes_no_workspace(desk: Desk, ana: Person) -> None:
    await used(desk)
    await desk.put(a_copy(state=CopyState.RESTORED))
    eve = await desk.person("eve", "viewer")
    for asked in (
        desk.commands.stop_workspace(eve, WORKSPACE),
        desk.commands.restart_workspace(eve, WORKSPACE),
        desk.commands.rebuild_workspace(eve, WORKSPACE),
        desk.commands.delete_workspace(ana, WORKSPACE),
        desk.commands.new_workspace(eve, WEB),
        desk.commands.restore(eve, CopyId("wabcdefg-1")),
    ):
        with pytest.raises(ForbiddenError):
            await asked
    assert len(await desk.commands.copies(eve)) == 1


async def test_what_is_stopped_has_no_terminals_and_no_files(desk: Desk, ana: Person) -> None:
    await used(desk, **STOPPED)
    for asked in (
        desk.commands.open_terminal(ana, WORKSPACE),
        desk.commands.workspace_link(ana, WORKSPACE),
        desk.commands.changes(ana, WORKSPACE),
        desk.commands.build_log(ana, WORKSPACE),
    ):
        with pytest.raises(UserError, match="Restart it first"):
            await asked


# By hand


async def test_a_workspace_without_a_task_has_a_branch_of_its_own(desk: Desk, ana: Person) -> None:
    made = await desk.commands.new_workspace(ana, WEB, size="medium", key="k")
    again = await desk.commands.new_workspace(ana, WEB, size="medium", key="k")
    other = await desk.commands.new_workspace(ana, WEB, key="l")
    assert made.id == again.id != other.id
    assert (made.state, made.task_id, made.node_id, made.size) == (
        *("requested", ""),
        *("", "medium"),
    )
    assert made.branch == f"samovar/ws-{made.id}"
    assert await kinds(desk, ana) == ["workspace.requested", "workspace.asked"] * 2
    assert [one.place for one in await desk.commands.workspaces(ana)] == [1, 2]


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"size": "huge"}, "size"),
        ({"branch": "two words"}, "branch"),
        ({"branch": "-x"}, "branch"),
        ({"branch": "../../etc"}, "branch"),
        ({"branch": "main"}, "branch"),
    ],
)
async def test_what_cannot_be_made_is_refused(
    desk: Desk, ana: Person, values: dict[str, str], code: str
) -> None:
    await used(desk)  # Its base is main.
    with pytest.raises(UserError) as refused:
        await desk.commands.new_workspace(ana, WEB, **values)
    assert refused.value.code == code
    with pytest.raises(NotFoundError, match="There are: "):
        await desk.commands.new_workspace(ana, ProjectId("nope"))
    assert len(await desk.store.find(Workspace)) == 1


async def test_a_branch_that_is_there_is_gone_on_with(desk: Desk, ana: Person) -> None:
    made = await desk.commands.new_workspace(ana, WEB, branch="feature/günther-2")
    assert made.branch == "feature/günther-2"


async def test_a_copy_that_is_gone_is_not_restored(desk: Desk, ana: Person) -> None:
    await used(desk)
    await desk.put(a_copy(state=CopyState.GONE))
    for copy in ("wabcdefg-1", "wnothing-1"):
        with pytest.raises(NotFoundError, match="samovar rescue list"):
            await desk.commands.restore(ana, CopyId(copy))


# In the thread


async def test_words_in_the_thread_are_for_the_tasks_workspace(desk: Desk, ana: Person) -> None:
    run, thread = await desk.working(ana)
    await used(desk, task_id=run.task_id)
    await desk.say(ana, "Stop workspace.", thread=thread)
    assert await state(desk) is WorkspaceState.STOPPING
    replies = [post.text for post in await desk.store.find(Post, lane=thread, kind="reply")]
    assert [text.partition(",")[0] for text in replies] == [
        "Workspace wabcdefg stops. Its repository's folder"
    ]
    await desk.say(ana, "restart workspace", thread=thread)
    await desk.say(ana, "delete workspace", thread=thread)
    posts = [post.text for post in await desk.store.find(Post, lane=thread, kind="reply")]
    assert "Restart it when it is stopped." in posts[1]
    assert "Only administrators may" in posts[2]
    assert await state(desk) is WorkspaceState.STOPPING


async def test_a_task_without_a_workspace_says_so(desk: Desk, ana: Person) -> None:
    _, thread = await desk.working(ana)
    await desk.say(ana, "rebuild workspace", thread=thread)
    (post,) = await desk.store.find(Post, lane=thread, kind="reply")
    assert post.text.startswith("T-1 has no workspace now.")


async def test_other_words_about_workspaces_are_for_the_agent(desk: Desk, ana: Person) -> None:
    run, thread = await desk.working(ana)
    await used(desk, task_id=run.task_id)
    await desk.say(ana, "stop workspace from leaking", thread=thread)
    await desk.say(ana, "clean workspace", thread=thread)
    assert await state(desk) is WorkspaceState.READY
    lines = (await desk.commands.task(ana, TaskId(run.task_id))).lines
    assert [line.kind for line in lines] == ["message"] * 3


# What machines may fetch


async def test_c6_a_node_fetches_only_what_is_put_back_on_it_now(desk: Desk) -> None:
    sha256, here = "ab" * 32, NodeId("node-1")
    known = await used(desk, state=WorkspaceState.BUILDING)
    await desk.put(a_copy())
    assert await may_fetch(desk.store, here, sha256)
    assert not await may_fetch(desk.store, NodeId("node-2"), sha256)
    assert not await may_fetch(desk.store, here, "cd" * 32)
    await desk.put(replace(known, state=WorkspaceState.READY))
    assert not await may_fetch(desk.store, here, sha256)
    await desk.put(replace(await desk.store.get(Workspace, WORKSPACE), state=known.state))
    await desk.put(
        replace(await desk.store.get(RescueCopy, "wabcdefg-1"), state=CopyState.RESTORED)
    )
    assert not await may_fetch(desk.store, here, sha256)
