import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
import sqlalchemy as sa

from adapters.store.schema import TABLES
from core.access import Person
from core.browse import Changes, Entry
from core.card import Card
from core.errors import NotFoundError, UserError
from core.ids import NodeId, TaskId, WorkspaceId
from core.message import Post, Said
from core.node import Node, NodeState
from core.ports.store import Update
from core.reconcile.stuck import Stuck
from core.run import Outcome, Run, RunState
from core.session import Prompt
from core.task import Task, TaskState
from core.workspace import Workspace, WorkspaceState
from tests.fakes.desk import Desk
from tests.fakes.nouns import (
    CLOCKS,
    a_decision,
    a_link,
    a_run,
    a_session,
    a_task,
    a_workspace,
    at,
)
from tests.fakes.statements import commit_elsewhere, once_before, queries


async def test_a_node_is_drained_with_an_event(desk: Desk) -> None:
    root = await desk.person("root", "admin")
    await asyncio.gather(*(desk.commands.delete_node(root, NodeId("node-1")) for _ in range(3)))
    assert (await desk.store.get(Node, "node-1")).state is NodeState.DRAINING
    events = await desk.commands.events(root, after=0)
    assert [(event.kind, event.data) for event in events] == [("node.draining", {"by": "root"})]


async def test_nodes_are_shown_with_what_their_link_says(desk: Desk) -> None:
    ana = await desk.person("ana")
    assert [node.link for node in await desk.commands.nodes(ana)] == ["never"]
    now = desk.clock.now()
    await desk.store.commit()
    for silent_s, state in ((0, "up"), (60, "stale"), (400, "lost")):
        node = replace(await desk.store.get(Node, "node-1"), state_since=now)
        desk.clock.advance(silent_s)
        shown = desk.commands._node(node, a_link(seen_at=now), ())
        assert shown.link == state


async def test_a_workspace_at_work_is_not_removed(desk: Desk) -> None:
    root = await desk.person("root", "admin")
    run, _ = await desk.working(root)
    await desk.put(a_workspace(task_id=run.task_id, run_id=run.id))
    with pytest.raises(UserError, match="Stop its task first") as refused:
        await desk.commands.delete_workspace(root, WorkspaceId("wabcdefg"))
    assert refused.value.code == "busy"
    await desk.put(replace(await desk.store.get(Workspace, "wabcdefg"), run_id=None))
    await desk.commands.delete_workspace(root, WorkspaceId("wabcdefg"))
    gone = await desk.store.get(Workspace, "wabcdefg")
    assert gone.state is WorkspaceState.DELETING, "nothing was done in it"


async def test_a_build_log_is_its_end_when_it_is_long(desk: Desk) -> None:
    ana = await desk.person("ana")
    run, _ = await desk.working(ana)
    await desk.put(a_workspace(task_id=run.task_id, run_id=run.id))
    with pytest.raises(UserError, match="does not answer"):
        await desk.commands.build_log(ana, WorkspaceId("wabcdefg"))
    desk.logs.chunks = [b"begin ", b"x" * 300_000, b"\xff end"]
    log = await desk.commands.build_log(ana, WorkspaceId("wabcdefg"))
    assert log.endswith("\ufffd end")
    assert "begin" not in log
    assert len(log) <= 200_000


async def test_files_and_changes_are_fetched_from_the_workspaces_node(desk: Desk) -> None:
    ana = await desk.person("ana")
    run, _ = await desk.working(ana)
    await desk.put(a_workspace(task_id=run.task_id, run_id=run.id))
    there = WorkspaceId("wabcdefg")
    with pytest.raises(UserError, match="does not answer") as away:
        await desk.commands.changes(ana, there)
    assert away.value.code == "node_away"
    desk.logs.chunks = [b'{"base": "c0', b'ffee", "diff": "+x"}']
    assert await desk.commands.changes(ana, there) == Changes(base="c0ffee", diff="+x")
    desk.logs.chunks = [b'{"entries": [{"name": "a", "kind": "file"}]}']
    folder = await desk.commands.folder(ana, there, "src/")
    assert folder.entries == (Entry(name="a", kind="file"),)
    desk.logs.chunks = [b"x" * 2**20] * 17
    with pytest.raises(UserError, match="too much") as told:
        await desk.commands.folder(ana, there, "src/")
    assert told.value.code == "too_much"
    assert len([chunk async for chunk in desk.commands.file(ana, there, "big")]) == 17


@pytest.mark.parametrize(
    ("path", "inside"),
    [
        ("/workspaces/web/src/a b.py", "src/a%20b.py"),
        ("src/../x.py", "x.py"),
        ("/workspaces/web", None),
        ("/workspaces/webs/x", None),
        ("/workspaces/web/../other/x", None),
        ("../x", None),
        ("/etc/passwd", None),
    ],
)
async def test_only_files_of_the_checkout_are_located(
    desk: Desk, path: str, inside: str | None
) -> None:
    ana = await desk.person("ana")
    run, _ = await desk.working(ana)
    workspace = a_workspace(task_id=run.task_id, run_id=run.id, folder="/workspaces/web")
    session = a_session(run_id=run.id, task_id=run.task_id, workspace_id=workspace.id)
    await desk.put(workspace, session)
    if inside is None:
        with pytest.raises(NotFoundError, match="not in the workspace"):
            await desk.commands.locate(ana, session.id, path)
    else:
        located = await desk.commands.locate(ana, session.id, path)
        assert located == (WorkspaceId("wabcdefg"), inside)


async def test_c5_a_row_that_cannot_be_read_takes_no_page_down(desk: Desk) -> None:
    ana = await desk.person("ana")
    run, _ = await desk.working(ana)
    await desk.asked(ana, "Fix the till.")
    await desk.put(a_workspace(task_id=run.task_id, run_id=run.id))
    known = await desk.store.get(Run, run.id)
    await desk.put(replace(known, workspace_id=WorkspaceId("wabcdefg")))
    broken = sa.update(TABLES[Workspace]).values(notes='{"not": "a list"}')
    await desk.store.database.write(lambda tx: tx.run(broken))
    titles = [card.title for card in await desk.commands.tasks(ana)]
    assert sorted(titles) == ["Fix the cart", "Fix the till"]


# What is seen together


async def on_page(desk: Desk, by: Person, task: TaskId) -> Card:
    return (await desk.commands.task(by, task)).card


async def in_list(desk: Desk, by: Person, task: TaskId) -> Card:
    (card,) = await desk.commands.tasks(by)
    return card


async def in_chat(desk: Desk, by: Person, task: TaskId) -> Card:
    (post,) = await desk.store.find(Post, task_id=task, kind="card")
    shown = (await desk.commands.cards.render(post)).card
    assert shown is not None
    return shown


@pytest.mark.parametrize("look", [on_page, in_list, in_chat])
async def test_a_run_is_never_seen_as_over_without_its_pull_request(
    desk: Desk, database_url: str, look: Callable[[Desk, Person, TaskId], Awaitable[Card]]
) -> None:
    ana = await desk.person("ana")
    run, _ = await desk.working(ana)
    task = await desk.task(run.task_id)
    end = (
        Update(replace(task, pull_number=7, pull_url="http://forge/7", state=TaskState.DONE)),
        Update(replace(run, verdict=Outcome.PULL_REQUEST, state=RunState.ENDED)),
    )
    with once_before("FROM run", lambda: commit_elsewhere(database_url, *end)):
        before = await look(desk, ana, task.id)
    assert (before.result, before.pull_url) == (None, "")
    after = await look(desk, ana, task.id)
    assert after.result is not None
    assert (after.result.outcome, after.pull_url) == ("pull_request", "http://forge/7")


async def at_work(desk: Desk, number: int) -> None:
    """Write a task whose run has everything that a card is made of."""
    task, place, session = TaskId(f"T-{number}"), f"w{number}", f"s{number}"
    run = a_run(id=f"{task}.1", task_id=task, workspace_id=place, session_id=session)
    await desk.put(
        a_task(id=task, created_at=at(number)),
        run,
        a_workspace(id=place, task_id=task, run_id=run.id),
        a_session(id=session, run_id=run.id, task_id=task, workspace_id=place),
        a_decision(id=f"d{number}", task_id=task, run_id=run.id, session_id=session),
    )
    await desk.store.book(run.id, "m", usd_micros=1_000_000 * number, tokens={})


async def test_fifty_cards_take_no_more_queries_than_one(desk: Desk) -> None:
    ana = await desk.person("ana")
    await at_work(desk, 1)
    with queries() as for_one:
        await desk.commands.tasks(ana)
    for number in range(2, 51):
        await at_work(desk, number)
    with queries() as for_fifty:
        cards = await desk.commands.tasks(ana)
    assert len(for_fifty) == len(for_one) <= 12
    assert [card.task_id for card in cards] == [f"T-{number}" for number in range(50, 0, -1)]
    for card, number in zip(cards, range(50, 0, -1), strict=True):
        assert (card.run_id, card.workspace_id) == (f"T-{number}.1", f"w{number}")
        assert [question.id for question in card.questions] == [f"d{number}"]
        assert card.tokens_usd == number


# What is stuck


async def stuck(desk: Desk, kind: str, key: str) -> None:
    await Stuck(store=desk.store, clock=desk.clock, clocks=CLOCKS)(kind, key, "ValueError: x")


async def test_t9_a_stuck_run_ends_on_the_one_way_and_its_people_hear_of_it(desk: Desk) -> None:
    ana = await desk.person("ana")
    run, thread = await desk.working(ana)
    session = a_session(run_id=run.id, task_id=run.task_id)
    await desk.put(
        a_workspace(task_id=run.task_id, run_id=run.id),
        session,
        a_decision(task_id=run.task_id, run_id=run.id),
        replace(run, workspace_id="wabcdefg", session_id=session.id, node_id="node-1"),
    )
    await stuck(desk, "run", run.id)
    ended = await desk.store.get(Run, run.id)
    assert (ended.state, ended.verdict, ended.code) == (RunState.ENDED, Outcome.FAILED, "stuck")
    assert (await desk.task(run.task_id)).state is TaskState.FAILED
    posts = [post for post in await desk.store.find(Post, lane=thread) if post.kind == "stopped"]
    assert [(post.text, post.mention) for post in posts] == [(ended.reason, "ana")]
    assert (await desk.store.get(Workspace, "wabcdefg")).run_id is None
    kinds = {event.kind for event in await desk.commands.events(ana, after=0)}
    assert {"work.stuck", "run.ended", "task.failed", "decision.withdrawn"} <= kinds
    await stuck(desk, "run", run.id)
    assert await desk.store.get(Run, run.id) == ended


async def test_g3_a_message_that_cannot_be_understood_is_said_to_be_lost(desk: Desk) -> None:
    ana = await desk.person("ana")
    desk.is_open = False
    heard = await desk.say(ana, "Fix it.")
    (said,) = await desk.store.find(Said)
    await stuck(desk, "inbox", said.key)
    (post,) = await desk.store.find(Post, lane=heard.thread)
    assert (post.kind, post.mention) == ("stopped", "ana")
    await desk.work_off("inbox")
    assert await desk.store.find(Task) == []
    await stuck(desk, "inbox", said.key)
    assert len(await desk.store.find(Post)) == 1


async def test_what_else_is_stuck_is_told_to_operators(desk: Desk) -> None:
    ana = await desk.person("ana")
    await stuck(desk, "workspace", "w1")
    (event,) = await desk.commands.events(ana, after=0)
    assert (event.kind, event.subject, event.data) == (
        "work.stuck",
        "workspace:w1",
        {"error": "ValueError: x"},
    )


async def test_p4_a_page_shows_the_receipt_of_every_message(desk: Desk) -> None:
    ana = await desk.person("ana")
    run, _ = await desk.working(ana)
    (prompt,) = await desk.store.find(Prompt)
    receipts = {}
    for state in ("pending", "sent", "started", "completed", "ambiguous", "lost"):
        known = await desk.store.get(Prompt, prompt.id)
        await desk.put(replace(known, state=state))
        receipts[state] = (await desk.commands.task(ana, run.task_id)).lines[0].receipt
    assert receipts["completed"] == ""
    assert receipts["ambiguous"].startswith("outcome unknown: look at")
    assert len(set(receipts.values())) == len(receipts)
