"""Chats in our records: opened once, beside the task's run, kept, stopped, closed."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import cast

import pytest

from adapters.memory.files import MemoryFiles
from adapters.memory.forge import MemoryForge
from core.access import Person
from core.chat import CHATS_MAX, Chat
from core.errors import ConflictError, ForbiddenError, NotFoundError, QuotaError, UserError
from core.ids import NodeId, PersonId, RunId, SessionId, TaskId, ThreadId, WorkspaceId
from core.order import NodeOrder
from core.ports.commands import ChatView
from core.ports.nodes import Nodes
from core.ports.store import Insert, Wake
from core.reconcile.placing import Machines
from core.reconcile.runs import RunReconciler
from core.reconcile.workspaces import WorkspaceReconciler
from core.run import LIVE, Outcome, Run, RunState
from core.session import AgentSession, Prompt, SessionState
from core.task import Task, TaskState
from core.workspace import Workspace, WorkspaceState
from tests.fakes.desk import REPLICA, Desk
from tests.fakes.nouns import CLOCKS, a_link, a_run, a_session, a_workspace, an_event

HOME = WorkspaceId("wabcdefg")


@pytest.fixture
async def ana(desk: Desk) -> Person:
    """Somebody who may talk, beside a workspace in which a run works."""
    ana = await desk.person("ana")
    run, _ = await desk.working(ana)
    session = a_session(run_id=run.id, task_id=run.task_id)
    at_work = {"session_id": session.id, "node_id": NodeId("node-1"), "workspace_id": HOME}
    await desk.put(replace(run, **at_work), session)
    await desk.store.commit(Insert(a_link(seen_at=desk.clock.now())))
    await desk.put(a_workspace(task_id=run.task_id, run_id=run.id, container="c1"))
    return ana


async def look(desk: Desk, kind: str) -> None:
    """Let the reconcilers of runs and workspaces look at what is due."""
    looks = {
        "run": RunReconciler(
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
        ),
        "workspace": WorkspaceReconciler(
            store=desk.store,
            files=MemoryFiles(),
            nodes=cast("Nodes", None),  # Nothing is saved here.
            clock=desk.clock,
            clocks=CLOCKS,
            machines=Machines(supplier="", nodes_max=0, mint=lambda: NodeId("node-x")),
            url=lambda repo: f"http://git/{repo}.git",
            image="base",
        ),
    }
    for _ in range(50):
        claims = await desk.work.claim(REPLICA, [kind], limit=10)
        for claim in claims:
            due_in_s: float | None = 0
            with suppress(ConflictError):
                due_in_s = await looks[kind](claim)
            await desk.work.give_back(claim, due_in_s=due_in_s or None)
        if not claims:
            return
    raise AssertionError(f"{kind} is never done")


async def opened(desk: Desk, by: Person, text: str = "Why is it slow?", key: str = "") -> ChatView:
    desk.keys += 1
    key = key or f"c{desk.keys}"
    return await desk.commands.new_chat(by, HOME, text, surface="web", key=key)


async def talking(desk: Desk, by: Person) -> tuple[ChatView, Run]:
    """Open a chat and let its coding agent take the first words."""
    chat = await opened(desk, by)
    await desk.work_off("task")
    await look(desk, "run")
    run = await desk.store.get(Run, f"{chat.id}.1")
    assert run.session_id is not None
    await happen(desk, run, ("session.state", {"state": "busy"}))
    prompts = await desk.store.find(NodeOrder, kind="send_prompt", subject=run.id)
    await happen(
        desk, run, ("prompt.state", {"prompt": prompts[0].body["prompt"], "state": "queued"})
    )
    return chat, await desk.store.get(Run, run.id)


async def happen(desk: Desk, run: Run, *facts: tuple[str, dict[str, object]]) -> None:
    """Let the coding agent do something, and the run hear of it."""
    assert run.session_id is not None
    known = await desk.store.session_events(run.session_id, after=-1, limit=500)
    first = known[-1].offset + 1 if known else 0
    events = [
        replace(an_event(first + n, kind, **data), session=run.session_id, run=run.id)
        for n, (kind, data) in enumerate(facts)
    ]
    await desk.store.append(events)
    await desk.store.commit(Wake("run", run.id))
    await look(desk, "run")


async def states(desk: Desk, by: Person) -> list[tuple[str, str]]:
    return [(view.id, view.state) for view in await chats(desk, by)]


async def chats(desk: Desk, by: Person) -> list[ChatView]:
    return [view for view in await desk.commands.chats(by, HOME) if not view.is_own]


async def test_a_chat_begins_beside_the_run_of_its_workspace(desk: Desk, ana: Person) -> None:
    chat, run = await talking(desk, ana)
    assert (run.state, run.chat_in, run.workspace_id, run.deadline_at) == (
        *(RunState.WORKING, HOME, HOME, None),
    )
    home = await desk.store.get(Workspace, HOME)
    assert home.run_id == "T-1.1", "the workspace is still the task's"
    task = await desk.store.get(Task, chat.id)
    assert (task.branch, task.title, task.state) == (
        *(home.branch, "Why is it slow?", TaskState.ACTIVE),
    )
    start = await desk.store.get(NodeOrder, f"{run.id}/start/0")
    assert (start.body["is_chat"], start.body["workspace"]) == (True, HOME)
    assert await states(desk, ana) == [(chat.id, "busy")]


async def test_several_chats_have_an_order_and_the_tasks_own_comes_first(
    desk: Desk, ana: Person
) -> None:
    made = [await opened(desk, ana, text) for text in ("one", "two", "three")]
    found = await desk.commands.chats(ana, HOME)
    assert [(view.title, view.is_own) for view in found] == [
        *(("Fix the cart", True), ("one", False), ("two", False), ("three", False)),
    ]
    await desk.commands.change_chat(ana, made[2].id, position=0, title="\x07third \n")
    await desk.commands.change_chat(ana, made[0].id, position=99)
    titles = [view.title for view in await desk.commands.chats(ana, HOME)]
    assert titles == ["Fix the cart", "third", "two", "one"]


async def test_the_tasks_own_stays_while_its_next_run_has_no_agent_yet(
    desk: Desk, ana: Person
) -> None:
    (before,) = await desk.commands.chats(ana, HOME)
    await desk.put(replace(await desk.store.get(Run, "T-1.1"), state=RunState.ENDED))
    desk.clock.advance(1)
    again = {"id": RunId("T-1.2"), "number": 2, "created_at": desk.clock.now()}
    await desk.put(a_run(state=RunState.PLACING, session_id=None, **again))
    (own,) = await desk.commands.chats(ana, HOME)
    assert (own.is_own, own.state, own.session_id) == (True, "starting", before.session_id)


async def test_p1_the_same_words_twice_are_one_chat(desk: Desk, ana: Person) -> None:
    both = await asyncio.gather(*(opened(desk, ana, key="same") for _ in range(5)))
    assert len({chat.id for chat in both}) == 1
    assert len(await chats(desk, ana)) == 1


async def test_chats_take_no_place_from_tasks(desk: Desk, ana: Person) -> None:
    for _ in range(5):
        await opened(desk, ana)
    await desk.work_off("task")
    assert len(await desk.store.find(Run, chat_in=HOME)) == 5, "three runs a person are the limit"
    task, _ = await desk.asked(ana, "And the till")
    await desk.work_off("task")
    assert (await desk.task(task)).state is TaskState.ACTIVE


async def test_n12_there_are_at_most_so_many_chats_in_a_workspace(desk: Desk, ana: Person) -> None:
    made = [await opened(desk, ana) for _ in range(CHATS_MAX)]
    with pytest.raises(QuotaError, match="Close one first"):
        await opened(desk, ana)
    await desk.commands.close_chat(ana, made[0].id)
    await opened(desk, ana)


@pytest.mark.parametrize("text", ["", " \n\t"])
async def test_a_chat_needs_words(desk: Desk, ana: Person, text: str) -> None:
    with pytest.raises(UserError, match="empty"):
        await opened(desk, ana, text)


@pytest.mark.parametrize("state", sorted(set(WorkspaceState)))
async def test_a_chat_is_opened_where_there_is_a_workspace(
    desk: Desk, ana: Person, state: WorkspaceState
) -> None:
    await desk.put(replace(await desk.store.get(Workspace, HOME), state=state))
    if state in {WorkspaceState.REQUESTED, WorkspaceState.BUILDING, WorkspaceState.READY}:
        assert (await opened(desk, ana)).state == "starting"
        return
    with pytest.raises(UserError) as refused:
        await opened(desk, ana)
    over = state in {WorkspaceState.DELETING, WorkspaceState.GONE}
    assert refused.value.code == ("workspace_gone" if over else "workspace_not_ready")


async def test_c8_who_may_only_look_opens_changes_and_closes_nothing(
    desk: Desk, ana: Person
) -> None:
    chat, viewer = await opened(desk, ana), await desk.person("vera", "viewer")
    assert [view.id for view in await chats(desk, viewer)] == [chat.id]
    with pytest.raises(ForbiddenError):
        await opened(desk, viewer)
    with pytest.raises(ForbiddenError):
        await desk.commands.change_chat(viewer, chat.id, title="x")
    with pytest.raises(ForbiddenError):
        await desk.commands.close_chat(viewer, chat.id)
    with pytest.raises(NotFoundError):
        await desk.commands.close_chat(ana, TaskId("T-1"))


async def test_words_go_to_the_coding_agent_of_the_chat(desk: Desk, ana: Person) -> None:
    chat, run = await talking(desk, ana)
    thread = (await desk.commands.task(ana, chat.id)).thread
    await desk.say(ana, "And the till?", thread=thread)
    await look(desk, "run")
    sent = await desk.store.find(NodeOrder, kind="send_prompt", subject=run.id)
    assert [order.body["text"] for order in sent] == [
        *("Why is it slow?", "And the till?"),
    ]
    assert {order.body["session"] for order in sent} == {run.session_id}


async def test_p9_a_stop_ends_the_turn_however_often_it_is_pressed(desk: Desk, ana: Person) -> None:
    chat, run = await talking(desk, ana)
    await asyncio.gather(*(desk.commands.stop(ana, chat.id) for _ in range(5)))
    await look(desk, "run")
    assert len(await desk.store.find(NodeOrder, kind="interrupt", subject=run.id)) == 1
    ended = {"ok": False, "code": "interrupted"}
    await happen(desk, run, ("turn.end", ended), ("session.state", {"state": "idle"}))
    assert await states(desk, ana) == [(chat.id, "idle")]
    await desk.commands.stop(ana, chat.id)
    await look(desk, "run")
    assert (await desk.store.get(Run, run.id)).state is RunState.WORKING


async def closed(desk: Desk, by: Person, chat: ChatView) -> None:
    await desk.commands.close_chat(by, chat.id)
    await desk.commands.close_chat(by, chat.id)
    await look(desk, "run")
    stop = f"{chat.id}.1/stop"
    await desk.store.answer_order(stop, ok=True, text="", at=desk.clock.now())
    await look(desk, "run")


async def test_a_closed_chat_ends_and_wakes_when_somebody_writes(desk: Desk, ana: Person) -> None:
    chat, run = await talking(desk, ana)
    await closed(desk, ana, chat)
    over = await desk.store.get(Run, run.id)
    assert (over.state, over.code) == (RunState.ENDED, "chat_closed")
    assert await desk.store.find(NodeOrder, kind="collect") == []
    assert await chats(desk, ana) == []
    thread = (await desk.commands.task(ana, chat.id)).thread
    await desk.say(ana, "One more thing", thread=thread)
    assert await states(desk, ana) == [(chat.id, "starting")]
    await desk.work_off("task")
    await look(desk, "run")
    again = await desk.store.get(NodeOrder, f"{chat.id}.2/start/0")
    assert again.body["continues"] == run.session_id


async def thread_of(desk: Desk, by: Person, chat: ChatView) -> ThreadId:
    return (await desk.commands.task(by, chat.id)).thread


async def test_g6_words_to_a_chat_that_is_being_closed_give_it_its_tab_back(
    desk: Desk, ana: Person
) -> None:
    chat, run = await talking(desk, ana)
    await desk.commands.close_chat(ana, chat.id)
    await look(desk, "run")
    assert (await desk.store.get(Run, run.id)).state is RunState.CHECKING
    desk.clock.advance(1)
    await desk.say(ana, "One more thing", thread=await thread_of(desk, ana, chat))
    assert await states(desk, ana) == [(chat.id, "ending")]
    await desk.store.answer_order(f"{run.id}/stop", ok=True, text="", at=desk.clock.now())
    await look(desk, "run")
    await desk.work_off("task")
    assert await states(desk, ana) == [(chat.id, "starting")]
    await desk.commands.close_chat(ana, chat.id)
    await look(desk, "run")
    assert (await desk.store.get(Run, f"{chat.id}.2")).is_over


async def test_g6_what_waits_in_a_chat_does_not_start_it_again_once_it_is_closed(
    desk: Desk, ana: Person
) -> None:
    chat, run = await talking(desk, ana)
    failing = {"state": RunState.CHECKING, "verdict": Outcome.FAILED, "code": "session_ended"}
    await desk.put(replace(run, **failing))
    await desk.say(ana, "One more thing", thread=await thread_of(desk, ana, chat))
    await desk.commands.close_chat(ana, chat.id)
    await look(desk, "run")
    await desk.store.answer_order(f"{run.id}/stop", ok=True, text="", at=desk.clock.now())
    await look(desk, "run")
    await desk.work_off("task")
    assert [one.id for one in await desk.store.find(Run, task_id=chat.id)] == [run.id]
    (late,) = await desk.store.find(Prompt, task_id=chat.id, text="One more thing")
    assert late.state == "cancelled"
    assert await desk.store.find(Run, chat_in=HOME, state=LIVE) == [], "nothing keeps it from sleep"


async def test_a_closed_chat_whose_agent_runs_all_the_same_can_be_ended(
    desk: Desk, ana: Person
) -> None:
    chat, run = await talking(desk, ana)
    (tab,) = await desk.store.find(Chat, id=chat.id)
    await desk.put(replace(tab, is_closed=True))
    await desk.commands.close_chat(ana, chat.id)
    await look(desk, "run")
    assert (await desk.store.get(Run, run.id)).state is RunState.CHECKING


async def test_p4_a_chat_is_closed_before_or_after_words_and_never_in_between(
    desk: Desk, ana: Person
) -> None:
    chat, _ = await talking(desk, ana)
    await closed(desk, ana, chat)
    thread = await thread_of(desk, ana, chat)
    for n in range(8):
        said = desk.say(ana, f"Thing {n}", thread=thread)
        await asyncio.gather(said, desk.commands.close_chat(ana, chat.id))
        await desk.work_off("inbox")
        (tab,) = await desk.store.find(Chat, id=chat.id)
        waits = await desk.store.find(Prompt, task_id=chat.id, state="pending")
        assert tab.is_closed == (not waits) == (await desk.task(chat.id)).state.is_over


async def test_n12_words_open_no_more_chats_than_there_may_be(desk: Desk, ana: Person) -> None:
    made = [await opened(desk, ana) for _ in range(CHATS_MAX)]
    threads = [await thread_of(desk, ana, chat) for chat in made]
    for chat in made:
        await desk.commands.close_chat(ana, chat.id)
    others = [await opened(desk, ana) for _ in range(CHATS_MAX - 1)]
    for thread in threads[:2]:
        await desk.say(ana, "Go on", thread=thread)
    assert len(await chats(desk, ana)) == CHATS_MAX
    assert (await desk.task(made[1].id)).state is TaskState.CANCELLED
    lines = (await desk.commands.task(ana, made[1].id)).lines
    assert "Close one first" in lines[-1].text
    await desk.commands.close_chat(ana, others[0].id)
    await desk.say(ana, "Go on", thread=threads[1])
    assert (await desk.task(made[1].id)).state is TaskState.QUEUED


async def test_a_chat_that_is_closed_before_it_began_never_begins(desk: Desk, ana: Person) -> None:
    chat = await opened(desk, ana)
    await desk.commands.close_chat(ana, chat.id)
    await desk.work_off("task")
    assert await desk.store.find(Run, task_id=chat.id) == []
    assert (await desk.task(chat.id)).state is TaskState.CANCELLED


async def test_an_open_chat_keeps_its_workspace_and_its_end_lets_it_go_later(
    desk: Desk, ana: Person
) -> None:
    chat, _ = await talking(desk, ana)
    home = await desk.store.get(Workspace, HOME)
    over = desk.clock.now() - timedelta(seconds=1)
    await desk.put(replace(home, run_id=None, keep_until=over))
    await desk.store.commit(Wake("workspace", HOME))
    await look(desk, "workspace")
    assert (await desk.store.get(Workspace, HOME)).state is WorkspaceState.READY
    admin = await desk.person("root", "admin")
    with pytest.raises(UserError, match="Close it first"):
        await desk.commands.delete_workspace(admin, HOME)
    await closed(desk, ana, chat)
    await look(desk, "workspace")
    kept = await desk.store.get(Workspace, HOME)
    assert kept.state is WorkspaceState.READY
    assert kept.keep_until == desk.clock.now() + timedelta(seconds=CLOCKS.warm_s)
    await desk.commands.delete_workspace(admin, HOME)
    await look(desk, "workspace")
    assert (await desk.store.get(Workspace, HOME)).state is WorkspaceState.DELETING


async def test_a_chat_ends_with_its_workspace_and_says_why(desk: Desk, ana: Person) -> None:
    chat, run = await talking(desk, ana)
    home = await desk.store.get(Workspace, HOME)
    await desk.put(replace(home, state=WorkspaceState.DELETING))
    await desk.store.commit(Wake("run", run.id))
    await look(desk, "run")
    assert await states(desk, ana) == [(chat.id, "ended")]
    (view,) = await chats(desk, ana)
    assert "open another chat there" in view.error
    session = await desk.store.get(AgentSession, SessionId(str(run.session_id)))
    assert session.state is SessionState.ENDED


async def test_the_card_of_a_chat_tells_of_its_agent_alone(desk: Desk, ana: Person) -> None:
    chat, run = await talking(desk, ana)
    card = (await desk.commands.task(ana, chat.id)).card
    assert [step.name for step in card.steps] == ["Agent"]
    assert f"chat in {HOME}" in card.facts
    await happen(desk, run, ("turn.end", {"ok": True}), ("session.state", {"state": "idle"}))
    card = (await desk.commands.task(ana, chat.id)).card
    assert [step.text for step in card.steps] == ["waits for your words"]
    assert PersonId("ana") == (await desk.task(chat.id)).asked_by
