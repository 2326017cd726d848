"""What stops is brought into the file store, whatever its size, its machine and its luck."""

import hashlib
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import core.rescue
from adapters.disk.files import DiskFiles
from adapters.memory.files import MemoryFiles
from adapters.memory.forge import MemoryForge
from bot.keys import vault
from core.access import Person
from core.errors import RefusedError, UnavailableError
from core.ids import NodeId
from core.message import Post
from core.order import NodeOrder
from core.ports.files import Files
from core.ports.store import Insert, Wake
from core.ports.work import Claim
from core.reconcile.placing import Machines
from core.reconcile.runs import RunReconciler
from core.reconcile.stuck import Stuck
from core.reconcile.workspaces import WorkspaceReconciler
from core.rescue import CopyState, RescueCopy
from core.run import Run, RunState
from core.session import SessionState
from core.wire import Saved, to_json
from core.workspace import Workspace, WorkspaceState
from tests.fakes.desk import REPLICA, Desk
from tests.fakes.nouns import (
    CLOCKS,
    a_copy,
    a_link,
    a_session,
    a_workspace,
    an_answer,
)

WORKSPACE = "wabcdefg"
CONTENT = bytes(range(250)) * 40
NAME = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Sender:
    """A node with one copy."""

    content: bytes = CONTENT
    sends: Callable[[], None] = lambda: None

    async def stream(
        self, node: str, what: str, name: str, *, offset_bytes: int = 0
    ) -> AsyncGenerator[bytes]:
        for at in range(offset_bytes, len(self.content), 100):
            self.sends()
            yield self.content[at : at + 100]


def reconciler(desk: Desk, files: Files, nodes: Any) -> WorkspaceReconciler:
    return WorkspaceReconciler(
        store=desk.store,
        files=files,
        nodes=nodes,
        clock=desk.clock,
        clocks=CLOCKS,
        machines=Machines(supplier="", nodes_max=0, mint=lambda: NodeId("node-x")),
        url=lambda repo: f"http://git/{repo}.git",
        image="base",
    )


async def look(desk: Desk, look_at: Callable[[Claim], Any], kind: str, key: str) -> float | None:
    """Let a reconciler look once."""
    await desk.store.commit(Wake(kind, key))
    claims = {claim.key: claim for claim in await desk.work.claim(REPLICA, [kind], limit=9)}
    try:
        due_in_s: float | None = await look_at(claims[key])
    finally:
        for claim in claims.values():
            await desk.work.give_back(claim, due_in_s=None)
    return due_in_s


async def stopping(desk: Desk) -> Workspace:
    """A workspace whose copy lies on its machine and is to be brought in."""
    now = desk.clock.now()
    await desk.store.commit(Insert(a_link(seen_at=now)))
    saved = Saved(sha256=NAME, size_bytes=len(CONTENT), branch="b", head="h", base_commit="a" * 40)
    made = an_answer(
        f"{WORKSPACE}/save/{WORKSPACE}-1", result=to_json(saved), subject_kind="workspace",
        subject=WORKSPACE, answered_at=now,
    )  # fmt: skip
    workspace = a_workspace(
        state=WorkspaceState.STOPPING, run_id=None, base_commit="a" * 40, container="c1",
        deadline_at=now + timedelta(seconds=CLOCKS.save_s),
    )  # fmt: skip
    await desk.put(workspace, a_copy(state=CopyState.WANTED, sha256="", made_at=None))
    await desk.store.commit(Insert(made))
    return await known(desk)


async def known(desk: Desk) -> Workspace:
    return await desk.store.get(Workspace, WORKSPACE)


async def copy_state(desk: Desk) -> CopyState:
    return (await desk.store.get(RescueCopy, f"{WORKSPACE}-1")).state


async def test_a_copy_may_take_longer_than_it_takes_to_make_one_as_long_as_some_of_it_comes(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core.rescue, "PART_BYTES", 1000)
    began, files = (await stopping(desk)).state_since, MemoryFiles()
    look_at = reconciler(desk, files, Sender())
    looks = 0
    while await copy_state(desk) is CopyState.WANTED:
        desk.clock.advance(CLOCKS.save_s * 0.6)
        looks += 1
        with suppress(UnavailableError):
            await look(desk, look_at, "workspace", WORKSPACE)
    assert (await copy_state(desk), looks) == (CopyState.KEPT, 10)
    assert desk.clock.now() - began > timedelta(seconds=3 * CLOCKS.save_s)


async def test_a_copy_of_which_nothing_more_comes_is_given_up(desk: Desk) -> None:
    class Away(Sender):
        async def stream(self, *_: Any, **__: Any) -> AsyncGenerator[bytes]:
            raise UnavailableError("Node", "it is not connected")
            yield b""

    await stopping(desk)
    look_at = reconciler(desk, MemoryFiles(), Away())
    with pytest.raises(UnavailableError):
        await look(desk, look_at, "workspace", WORKSPACE)
    desk.clock.advance(CLOCKS.save_s)
    await look(desk, look_at, "workspace", WORKSPACE)
    found = await known(desk)
    assert (found.state, found.code) == (WorkspaceState.BUILDING, "save_timeout")
    await look(desk, look_at, "workspace", WORKSPACE)
    drop = await desk.store.get(NodeOrder, f"{WORKSPACE}/drop/{WORKSPACE}-1")
    assert drop.body["sha256"] == NAME, "copies would pile up there, one for each try"


async def test_a_file_store_that_refuses_keeps_the_workspace_and_says_why(desk: Desk) -> None:
    class Refusing(MemoryFiles):
        async def resume(self, *_: Any, **__: Any) -> Any:
            raise RefusedError("File store", "it cannot be read", code="damaged")

    await stopping(desk)
    await look(desk, reconciler(desk, Refusing(), Sender()), "workspace", WORKSPACE)
    found = await known(desk)
    assert (found.state, found.code) == (WorkspaceState.BUILDING, "damaged")
    assert "it cannot be read" in found.error
    assert await copy_state(desk) is CopyState.FAILED


async def test_a_damaged_file_of_the_same_content_is_replaced(desk: Desk, tmp_path: Path) -> None:
    files = DiskFiles(tmp_path, vault(tmp_path))
    (tmp_path / NAME).write_bytes(b"as a bad disk left it")
    await stopping(desk)
    await look(desk, reconciler(desk, files, Sender()), "workspace", WORKSPACE)
    assert await copy_state(desk) is CopyState.KEPT
    assert b"".join([piece async for piece in files.get(NAME)]) == CONTENT


@pytest.mark.parametrize(
    ("copy", "state"),
    [(CopyState.WANTED, WorkspaceState.BUILDING), (CopyState.KEPT, WorkspaceState.STOPPED)],
)
async def test_g2_a_workspace_that_is_given_up_while_it_stops_goes_on(
    desk: Desk, copy: CopyState, state: WorkspaceState
) -> None:
    await stopping(desk)
    await desk.put(replace(await desk.store.get(RescueCopy, f"{WORKSPACE}-1"), state=copy))
    stuck = Stuck(store=desk.store, clock=desk.clock, clocks=CLOCKS)
    for _ in range(2):
        await stuck("workspace", WORKSPACE, "TimeoutError: ")
    found = await known(desk)
    assert found.state is state
    is_unsaved = copy is CopyState.WANTED
    assert (found.code, "could not be saved" in found.error) == (
        ("stuck", True) if is_unsaved else ("", False)
    )
    (claim,) = await desk.work.claim(REPLICA, ["workspace"], limit=1)
    assert claim.key == WORKSPACE, "somebody looks at it again"


# Before the end


async def test_the_thread_of_a_stopped_workspace_hears_of_its_end_once(desk: Desk) -> None:
    ana = await desk.person("ana")
    run, thread = await desk.working(ana)
    ends = desk.clock.now() + timedelta(seconds=CLOCKS.copy_notice_s)
    stopped = a_workspace(
        task_id=run.task_id, state=WorkspaceState.STOPPED, node_id="", run_id=None,
        keep_until=ends, base_commit="a" * 40,
    )  # fmt: skip
    await desk.put(stopped, a_copy(expires_at=ends))
    look_at = reconciler(desk, MemoryFiles(), Sender())
    for _ in range(3):
        assert await look(desk, look_at, "workspace", WORKSPACE) == CLOCKS.copy_notice_s
    posts = [post for post in await desk.store.find(Post, lane=thread) if "removed" in post.text]
    assert [(post.mention, post.state) for post in posts] == [("ana", "pending")]


# After a restore


async def restored(desk: Desk, ana: Person) -> tuple[str, str]:
    """Work in a workspace, lose it, restore an older copy; return that session and its task."""
    run, _ = await desk.working(ana)
    before = desk.clock.now()
    first = a_session(run_id=run.id, task_id=run.task_id, state=SessionState.ENDED)
    await desk.put(
        first, replace(run, state=RunState.ENDED),
        a_workspace(task_id=run.task_id, run_id=None, state=WorkspaceState.GONE),
    )  # fmt: skip
    desk.clock.advance(60)
    copy = a_copy(task_id=run.task_id, made_at=desk.clock.now(), created_at=before, why="deleted")
    desk.clock.advance(60)
    later = replace(first, id="later", created_at=desk.clock.now())
    await desk.put(copy, later)
    return first.id, run.task_id


async def test_a_restored_workspace_goes_on_with_the_conversation_that_was_in_its_copy(
    desk: Desk,
) -> None:
    ana = await desk.person("ana")
    session, task_id = await restored(desk, ana)
    root = await desk.person("root", "admin")
    made = await desk.commands.restore(root, a_copy().id)
    assert made.task_id == task_id
    again = replace(
        await desk.store.get(Workspace, made.id), state=WorkspaceState.READY, node_id="node-1",
        base_commit="a" * 40, run_id=f"{task_id}.2",
    )  # fmt: skip
    copy = await desk.store.get(RescueCopy, f"{made.id}-1")
    run = replace(
        await desk.store.get(Run, f"{task_id}.1"), id=f"{task_id}.2", number=2,
        state=RunState.PREPARING, workspace_id=again.id, node_id="node-1", version=0,
        deadline_at=desk.clock.now() + timedelta(seconds=900),
    )  # fmt: skip
    await desk.put(again, replace(copy, state=CopyState.RESTORED), run)
    look_at = RunReconciler(
        store=desk.store,
        forge=MemoryForge(now=desk.clock.now),
        clock=desk.clock,
        clocks=CLOCKS,
        model="m",
        installation="here",
        supplier="",
        nodes_max=0,
        mint=lambda: NodeId("node-x"),
        page_url=lambda task: f"http://page/{task.id}",
    )
    await look(desk, look_at, "run", run.id)
    start = await desk.store.get(NodeOrder, f"{run.id}/start/0")
    assert start.body["continues"] == session
