"""What people can ask for with an agent's conversation, and what becomes of it in our records."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from core.access import Person
from core.errors import ConflictError, ForbiddenError, NotFoundError, UserError
from core.ids import SessionId
from core.order import NodeOrder
from core.ports.commands import When
from core.ports.store import Insert
from core.run import RunState
from core.session import SessionState
from core.task import TaskState
from core.terminal import Terminal, TerminalState
from core.workspace import WorkspaceState
from tests.fakes.desk import Desk
from tests.fakes.nouns import (
    NOW,
    SESSION,
    a_prompt,
    a_run,
    a_session,
    a_task,
    a_terminal,
    a_workspace,
)


@pytest.fixture
async def ana(desk: Desk) -> Person:
    run = a_run(marks={"working": NOW.isoformat()})
    await desk.put(a_task(), run, a_session(), a_workspace(container="c1"))
    return await desk.person("ana")


async def the_terminal(desk: Desk) -> Terminal:
    (found,) = await desk.store.find(Terminal)
    return found


async def test_a_busy_agent_is_left_alone_unless_one_says_when(desk: Desk, ana: Person) -> None:
    with pytest.raises(UserError, match=r"--wait.*--now") as refused:
        await desk.commands.open_session(ana, SESSION)
    assert refused.value.code == "agent_busy"
    waiting = await desk.commands.open_session(ana, SESSION, when="idle")
    assert (waiting.state, waiting.title, waiting.session_id) == ("waiting", "Claude", SESSION)
    assert (await desk.commands.open_session(ana, SESSION)).id == waiting.id, "hers already"
    opening = await desk.commands.open_session(ana, SESSION, when="now")
    assert (opening.id, opening.state) == (waiting.id, "opening")
    await desk.work_off("terminal")
    order = await desk.store.get(NodeOrder, f"{opening.id}/open")
    assert (order.kind, order.body["session"]) == ("hand_over", SESSION)
    kinds = [event.kind for event in await desk.commands.events(ana, after=0)]
    assert kinds == ["terminal.waiting", "terminal.opening"]


async def test_an_idle_agent_is_opened_at_once(desk: Desk, ana: Person) -> None:
    session = await desk.store.get(type(a_session()), SESSION)
    await desk.put(replace(session, state=SessionState.IDLE, turn_ok=True))
    assert (await desk.commands.open_session(ana, SESSION)).state == "waiting"


async def test_g6_of_many_who_ask_at_once_one_has_it(desk: Desk, ana: Person) -> None:
    ben = await desk.person("ben")
    asked = [(who, when) for who in (ana, ben) for when in ("idle", "now") * 3]
    done = await asyncio.gather(
        *(desk.commands.open_session(who, SESSION, when=when) for who, when in asked),
        return_exceptions=True,
    )
    terminal = await the_terminal(desk)
    for (who, _), result in zip(asked, done, strict=True):
        if who.id == terminal.opened_by:
            assert not isinstance(result, Exception) or isinstance(result, ConflictError)
        else:
            assert isinstance(result, UserError | ConflictError), result


async def test_g6_a_session_has_one_live_terminal_and_may_have_another_later(desk: Desk) -> None:
    first = a_terminal(session_id=SESSION)
    await desk.put(first)
    with pytest.raises(ConflictError):
        await desk.store.commit(Insert(a_terminal(id="t-2", session_id=SESSION)))
    known = await desk.store.get(Terminal, first.id)
    await desk.put(replace(known, state=TerminalState.EXITED))
    await desk.store.commit(Insert(a_terminal(id="t-2", session_id=SESSION)))


async def test_somebody_else_is_told_who_has_it(desk: Desk, ana: Person) -> None:
    ben = await desk.person("ben")
    await desk.commands.open_session(ana, SESSION, when="idle")
    with pytest.raises(UserError, match=r"Ana waits for it.*session return T-1") as refused:
        await desk.commands.open_session(ben, SESSION, when="now")
    assert refused.value.code == "in_terminal"
    await desk.commands.open_session(ana, SESSION, when="now")
    with pytest.raises(UserError, match=r"Ana has it in the terminal t-.* since 12:00 UTC"):
        await desk.commands.open_session(ben, SESSION, when="now")


@pytest.mark.parametrize("when", ["idle", "now"])
async def test_it_is_given_back_by_anybody_and_twice(desk: Desk, ana: Person, when: When) -> None:
    await desk.commands.open_session(ana, SESSION, when=when)
    ben = await desk.person("ben")
    for _ in range(2):
        await desk.commands.return_session(ben, SESSION)
    terminal = await the_terminal(desk)
    assert (terminal.state, terminal.is_hidden) == (TerminalState.CLOSING, True)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"state": RunState.CHECKING}, "session_over"),
        ({"state": RunState.ENDED}, "session_over"),
        ({"cancel_by": "ana"}, "session_over"),
        ({"state": RunState.STARTING}, "agent_starts"),
    ],
)
async def test_only_a_live_conversation_is_opened(
    desk: Desk, ana: Person, changed: dict[str, Any], code: str
) -> None:
    run = await desk.store.get(type(a_run()), "T-1.1")
    await desk.put(replace(run, **changed))
    with pytest.raises(UserError) as refused:
        await desk.commands.open_session(ana, SESSION, when="now")
    assert refused.value.code == code


async def test_there_must_be_a_session_a_workspace_and_a_right_to_it(
    desk: Desk, ana: Person
) -> None:
    with pytest.raises(NotFoundError):
        await desk.commands.open_session(ana, SessionId("nobody"), when="now")
    eve = replace(ana, role="viewer")
    for refused in (
        desk.commands.open_session(eve, SESSION, when="now"),
        desk.commands.return_session(eve, SESSION),
    ):
        with pytest.raises(ForbiddenError):
            await refused
    workspace = await desk.store.get(type(a_workspace()), "wabcdefg")
    for state, code in (
        (WorkspaceState.BUILDING, "workspace_not_ready"),
        (WorkspaceState.GONE, "workspace_gone"),
    ):
        workspace = replace(workspace, state=state)
        await desk.put(workspace)
        workspace = replace(workspace, version=workspace.version + 1)
        with pytest.raises(UserError) as refused_so:
            await desk.commands.open_session(ana, SESSION, when="now")
        assert refused_so.value.code == code


async def test_the_card_and_the_thread_say_who_has_it(desk: Desk, ana: Person) -> None:
    await desk.put(a_prompt(id="p-2", state="pending", text="And the till"))
    view = await desk.commands.task(ana, a_task().id)
    assert (view.card.session_id, view.card.holder) == (SESSION, None)
    await desk.commands.open_session(ana, SESSION, when="idle")
    view = await desk.commands.task(ana, a_task().id)
    assert view.card.holder is not None
    assert view.card.holder.text == "goes to a terminal of Ana when it is idle"
    assert view.lines[-1].receipt == "waiting"
    await desk.commands.open_session(ana, SESSION, when="now")
    view = await desk.commands.task(ana, a_task().id)
    said = "in the terminal since 12:00 UTC, by Ana"
    assert [step.text for step in view.card.steps if step.name == "Agent"] == [said]
    assert view.lines[-1].receipt == f"the agent is {said}; sent when it comes back"
    run = await desk.store.get(type(a_run()), "T-1.1")
    await desk.put(replace(run, state=RunState.ENDED))
    task = await desk.store.get(type(a_task()), a_task().id)
    await desk.put(replace(task, state=TaskState.DONE))
    view = await desk.commands.task(ana, a_task().id)
    assert (view.card.session_id, view.card.holder) == (None, None)
