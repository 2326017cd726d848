"""The host over stand-in parts: order, overtaking, errors, restarts."""

import asyncio
import errno
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.driver import BROKEN
from agent.errors import NodeError
from agent.host import Host
from agent.sessions import Sessions
from agent.spool import Spool
from core.ids import OrderId, RunId, SessionId, TerminalId, WorkspaceId
from core.wire import (
    AnswerQuestion,
    CloseTerminal,
    Collect,
    CreateWorkspace,
    DeleteWorkspace,
    DropCopy,
    OpenTerminal,
    Order,
    OrderBody,
    SaveWorkspace,
    SendPrompt,
    StartSession,
    StopSession,
    to_json,
)
from tests.fakes.node_parts import (
    Ask,
    Killed,
    PlayedDriver,
    PlayedTerminals,
    PlayedWorkspaces,
    Say,
    World,
)
from tests.fakes.serving import until

A, B = WorkspaceId("aaaaaaaa"), WorkspaceId("bbbbbbbb")
S = SessionId("5e55a0ae-0000-4000-8000-000000000001")
RUN = RunId("T-1.1")
TERMINAL = TerminalId("t-00000001")


def create(workspace: WorkspaceId = A, attempt: int = 1) -> CreateWorkspace:
    return CreateWorkspace(
        workspace=workspace,
        attempt=attempt,
        repository="acme/web",
        url="http://forge/acme/web.git",
        base="main",
        branch="samovar/T-1-x",
        cpus=1.0,
        memory_mb=512,
        devcontainer="",
        image="base",
    )


START = StartSession(session=S, run=RUN, workspace=A, model="m", frame="f")
GO = SendPrompt(session=S, prompt="p1", text="go")
COLLECT = Collect(workspace=A, run=RUN, message="m", author="a", email="a@b")


class Node:
    """A spool, a world and the lives of a host between them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.world = World()
        self.spool: Spool
        self.seq = 0

    async def order(self, body: OrderBody, *, fence: int = 1, ident: str = "") -> OrderId:
        self.seq += 1
        made = Order(
            id=OrderId(ident or f"run:T-1.1/{body.KIND}/{self.seq}"),
            object="run:T-1.1",
            fence=fence,
            kind=body.KIND,
            body=to_json(body),
        )
        await self.spool.accept([(self.seq, made)])
        return made.id

    async def answers(self) -> dict[str, dict[str, Any]]:
        rows = await self.spool.reports(after=0, bytes_max=10**9)
        found = [json.loads(body) for _, kind, body in rows if kind == "order_answer"]
        return {answer["order"]: answer for answer in found}

    async def answered(self, order: OrderId) -> dict[str, Any]:
        async def is_there() -> bool:
            return order in await self.answers()

        await until(is_there)
        return (await self.answers())[order]

    def host(self) -> Host:
        workspaces = PlayedWorkspaces(self.world, self.spool.put)
        sessions = Sessions(
            spool=self.spool,
            place=workspaces.place,
            make=lambda order, _: PlayedDriver(self.world, self.spool, order),
            crash_back_off_s=0.001,
        )
        return Host(
            spool=self.spool,
            workspaces=workspaces,
            sessions=sessions,
            terminals=self.terminals,
        )

    @asynccontextmanager
    async def life(self) -> AsyncGenerator[Host]:
        self.spool = Spool(self.folder / "spool.db")
        await self.spool.open()
        self.terminals = PlayedTerminals()
        host = self.host()
        try:
            async with asyncio.TaskGroup() as group:
                running = group.create_task(host.run())
                yield host
                running.cancel()
        finally:
            await self.spool.close()


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


async def test_a_workspace_a_session_and_a_prompt_are_done_and_answered(node: Node) -> None:
    async with node.life():
        ready = await node.answered(await node.order(create()))
        assert (ready["ok"], ready["result"]["container"]) == (True, f"c-{A}")
        assert (await node.answered(await node.order(START)))["ok"]
        assert (await node.answered(await node.order(GO)))["ok"]
        process = node.world.processes[S]
        await until(lambda: any(e.kind == "turn.end" for e in process.journal))
        collected = await node.answered(await node.order(COLLECT))
        assert collected["result"]["commits"] == 1


async def test_a_failure_is_answered_with_its_code_and_sentence(node: Node) -> None:
    node.world.fail_next["create"] = [NodeError("clone_refused", "no such repository")]
    async with node.life():
        answer = await node.answered(await node.order(create()))
    assert (answer["ok"], answer["code"], answer["text"]) == (
        False,
        "clone_refused",
        "no such repository",
    )


async def test_t6_a_bug_in_one_order_holds_up_no_other(node: Node) -> None:
    node.world.fail_next["create"] = [ZeroDivisionError("x")]  # type: ignore[list-item]
    async with node.life():
        assert (await node.answered(await node.order(create())))["code"] == "node_bug"
        assert (await node.answered(await node.order(create(B))))["ok"]


async def test_an_order_of_an_unknown_kind_is_answered(node: Node) -> None:
    async with node.life():
        node.seq += 1
        strange = Order(id=OrderId("x"), object="o", fence=1, kind="dance", body={})
        await node.spool.accept([(node.seq, strange)])
        assert (await node.answered(OrderId("x")))["code"] == "unreadable_order"


async def test_orders_of_one_workspace_wait_for_each_other_and_others_do_not(node: Node) -> None:
    gate = asyncio.Event()

    async def held(_: float) -> None:
        await gate.wait()

    node.world.sleep, node.world.took_s = held, {"step fetch": 1.0}
    async with node.life():
        first = await node.order(create(A))
        second = await node.order(COLLECT)
        await until(lambda: "step fetch" in node.world.calls)
        node.world.took_s = {}
        assert (await node.answered(await node.order(create(B))))["ok"]
        assert "collect" not in node.world.calls
        gate.set()
        assert (await node.answered(first))["ok"]
        assert (await node.answered(second))["ok"]


async def test_p9_deleting_a_workspace_overtakes_what_is_going_on_in_it(node: Node) -> None:
    async def for_ever(_: float) -> None:
        await asyncio.Event().wait()

    node.world.sleep, node.world.took_s = for_ever, {"step build": 1.0}
    async with node.life():
        building, waiting = await node.order(create()), await node.order(COLLECT)
        await until(lambda: "step build" in node.world.calls)
        gone = await node.order(DeleteWorkspace(workspace=A))
        assert (await node.answered(gone))["ok"]
        assert (await node.answered(building))["code"] == "overtaken"
        assert (await node.answered(waiting))["code"] == "overtaken"
    assert node.world.workspaces == {}


async def test_what_a_person_gave_up_is_deleted_as_that(node: Node) -> None:
    async with node.life():
        for discard in (False, True):
            await node.answered(await node.order(DeleteWorkspace(workspace=A, discard=discard)))
    assert node.world.calls == ["delete", "delete, discarded"]


async def test_the_same_order_gives_the_same_answer_and_is_done_once(node: Node) -> None:
    async with node.life():
        await node.answered(await node.order(create(), ident="one"))
        before = len(node.world.calls)
        await node.spool.acknowledged(await node.spool.highest())
        again = await node.answered(await node.order(create(), ident="one"))
        assert again["result"]["container"] == f"c-{A}"
        assert len(node.world.calls) == before


async def test_n1_an_order_under_a_lower_fence_is_refused(node: Node) -> None:
    async with node.life():
        await node.answered(await node.order(create(), fence=7))
        stale = await node.answered(await node.order(DeleteWorkspace(workspace=A), fence=6))
        assert (stale["ok"], stale["code"]) == (False, "stale_fence")
        assert (await node.answered(await node.order(COLLECT, fence=7)))["ok"]
    assert A in node.world.workspaces


async def test_w7_a_session_is_adopted_by_the_next_life_and_its_question_is_still_open(
    node: Node,
) -> None:
    node.world.script = lambda _: (Ask("which?"), Say("thanks"))
    async with node.life():
        for body in (create(), START, GO):
            await node.answered(await node.order(body))
        process = node.world.processes[S]
        await until(lambda: process.question)
    async with node.life() as host:
        await until(lambda: list(host.sessions()) == [S])
        answer = AnswerQuestion(session=S, request=process.question, answers={"which?": "this"})
        assert (await node.answered(await node.order(answer)))["ok"]
        await until(lambda: any(e.kind == "turn.end" for e in process.journal))
        assert (await node.answered(await node.order(StopSession(session=S))))["ok"]
        await until(lambda: not host.sessions())
    assert process.starts == 1
    async with node.life() as host:
        assert list(host.sessions()) == []


async def test_w7_of_no_session_a_life_that_ends_says_that_it_ended(node: Node) -> None:
    async with node.life() as host:
        for body in (create(), START):
            await node.answered(await node.order(body))
    assert list(host.sessions()) == [S]


async def test_stopping_what_has_ended_and_prompting_it_have_their_answers(node: Node) -> None:
    async with node.life():
        assert (await node.answered(await node.order(StopSession(session=S))))["ok"]
        assert (await node.answered(await node.order(GO)))["code"] == "session_ended"


async def test_a_driver_that_crashes_is_made_again(node: Node) -> None:
    async with node.life() as host:
        await node.answered(await node.order(create()))
        node.world.fail_next["start"] = [ZeroDivisionError("x")] * 2  # type: ignore[list-item]
        started = await node.order(START)
        await until(lambda: node.world.calls.count("start") == 3)
        assert (await node.answered(started))["ok"]
        assert list(host.sessions()) == [S]


async def test_what_is_asked_of_a_driver_that_crashes_is_asked_of_the_next_one(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashes, run, prompt = asyncio.Event(), PlayedDriver.run, PlayedDriver.prompt
    drivers: list[PlayedDriver] = []

    async def runs(driver: PlayedDriver) -> None:
        drivers.append(driver)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(run(driver))
            if driver is drivers[0]:
                await crashes.wait()
                running.cancel()
                raise ZeroDivisionError

    async def prompts(driver: PlayedDriver, name: str, text: str) -> None:
        if driver is drivers[0]:
            crashes.set()
            raise NodeError(BROKEN, "The session broke on the node.")
        await prompt(driver, name, text)

    monkeypatch.setattr(PlayedDriver, "run", runs)
    monkeypatch.setattr(PlayedDriver, "prompt", prompts)
    async with node.life():
        await node.answered(await node.order(create()))
        assert (await node.answered(await node.order(START)))["ok"]
        assert (await node.answered(await node.order(GO)))["ok"]
        assert len(drivers) == 2


async def test_g6_a_session_whose_driver_failed_can_still_be_stopped(node: Node) -> None:
    async with node.life() as host:
        await node.answered(await node.order(create()))
        assert (await node.answered(await node.order(START)))["ok"]
        process = node.world.processes[S]
    node.world.fail_next["start"] = [NodeError("docker_failed", "no answer")]
    async with node.life() as host:
        await until(lambda: not host.sessions())
        assert not process.has_ended
        assert (await node.answered(await node.order(StopSession(session=S))))["ok"]
        assert process.has_ended


async def test_t4_a_session_that_was_stopped_before_it_was_started_never_starts(
    node: Node,
) -> None:
    node.world.fail_next["start"] = [NodeError("docker_failed", "no answer")]
    async with node.life() as host:
        await node.answered(await node.order(create()))
        assert not (await node.answered(await node.order(START)))["ok"]
        assert (await node.answered(await node.order(StopSession(session=S))))["ok"]
    async with node.life() as host:
        assert list(host.sessions()) == []
    assert node.world.processes == {}


async def test_t4_a_stop_is_answered_only_when_it_is_certain(node: Node) -> None:
    async with node.life():
        await node.answered(await node.order(create()))
        assert (await node.answered(await node.order(START)))["ok"]
        process = node.world.processes[S]
        node.world.fail_next["stop"] = [NodeError("docker_failed", "no answer")] * 3
        assert (await node.answered(await node.order(StopSession(session=S))))["ok"]
        assert process.has_ended
        assert node.world.calls.count("stop") == 4


async def test_g6_killed_at_every_call_nothing_is_done_twice_or_lost(tmp_path: Path) -> None:
    """Kill the life at the nth call of the world, live on, and compare with a calm history."""
    for length in range(1, 200):
        node = Node(tmp_path / str(length))
        node.folder.mkdir()
        fuse = _Fuse(length)
        node.world.fuse = fuse.burn
        bodies: list[OrderBody] = [create(), START, GO]
        await _live(node, bodies)
        await _live(node, bodies)
        node.world.fuse = lambda _: None
        async with node.life():
            await node.answered(await node.order(COLLECT))
            process = node.world.processes[S]
            await until(lambda p=process: any(e.kind == "turn.end" for e in p.journal))
            await until(lambda n=node, p=process: _stored(n, p))
        offsets = await _offsets(node)
        assert offsets == list(range(1, len(process.journal) + 1)), f"killed at call {length}"
        assert process.starts == 1
        assert list(process.prompts) == ["p1"]
        assert list(node.world.workspaces) == [A]
        if fuse.is_whole:
            break
    assert length > 20


class _Fuse:
    def __init__(self, length: int) -> None:
        self._left = length

    def burn(self, _: str) -> None:
        self._left -= 1
        if self._left == 0:
            raise Killed

    @property
    def is_whole(self) -> bool:
        return self._left > 0


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "full"),
        NodeError("commits_refused", "git: fatal: write error: No space left on device"),
        NodeError("docker_failed", "mkdir /var/lib/docker/tmp: no space left on device"),
    ],
)
async def test_a_full_disk_is_said_whoever_meets_it(node: Node, error: Any) -> None:
    async with node.life():
        node.world.fail_next["collect"] = [error]
        await node.answered(await node.order(create()))
        answer = await node.answered(await node.order(COLLECT))
        assert answer["code"] == "disk_full"
        assert "MB free" in answer["text"]
        assert "`samovar workspace delete ID --without-copy`" in answer["text"]


async def _live(node: Node, bodies: list[OrderBody]) -> None:
    """Live until the fuse has burnt, or until the session is idle again."""
    try:
        async with node.life():
            for body in bodies:
                await node.answered(await node.order(body, ident=body.KIND))
            await until(
                lambda: (
                    S in node.world.processes
                    and any(e.kind == "turn.end" for e in node.world.processes[S].journal)
                )
            )
    except BaseExceptionGroup as ended:
        if ended.split(Killed)[1] is not None:
            raise


async def _stored(node: Node, process: Any) -> bool:
    return (await node.spool.cursor(S))[1] == len(process.journal)


async def _offsets(node: Node) -> list[int]:
    spool = Spool(node.folder / "spool.db")
    await spool.open()
    rows = await spool.reports(after=0, bytes_max=10**9)
    await spool.close()
    events = [json.loads(body)["events"] for _, kind, body in rows if kind == "session_events"]
    return [event["offset"] for batch in events for event in batch]


async def test_a_terminal_waits_for_the_making_of_its_workspace_and_for_nothing_else(
    node: Node,
) -> None:
    gate = asyncio.Event()

    async def held(_: float) -> None:
        await gate.wait()

    node.world.sleep, node.world.took_s = held, {"step fetch": 1.0, "collect": 1.0}
    async with node.life():
        made = await node.order(create())
        opened = await node.order(OpenTerminal(workspace=A, terminal=TERMINAL))
        other = await node.order(OpenTerminal(workspace=B, terminal=TerminalId("t-2")))
        await until(lambda: "step fetch" in node.world.calls)
        assert (await node.answered(other))["ok"]
        assert TERMINAL not in node.terminals.there
        gate.set()
        assert (await node.answered(made))["ok"]
        assert (await node.answered(opened))["ok"]
        gate.clear()
        collecting = await node.order(COLLECT)
        await until(lambda: "collect" in node.world.calls)
        closed = await node.order(CloseTerminal(workspace=A, terminal=TERMINAL))
        assert (await node.answered(closed))["ok"]
        assert collecting not in await node.answers()
        gate.set()


async def test_a_workspace_that_goes_takes_its_terminals_along(node: Node) -> None:
    async with node.life():
        await node.answered(await node.order(create()))
        await node.answered(await node.order(OpenTerminal(workspace=A, terminal=TERMINAL)))
        await node.answered(await node.order(DeleteWorkspace(workspace=A)))
        assert node.terminals.there == {}


async def test_closing_a_terminal_overtakes_its_opening(node: Node) -> None:
    async def for_ever(_: float) -> None:
        await asyncio.Event().wait()

    node.world.sleep, node.world.took_s = for_ever, {"step build": 1.0}
    async with node.life():
        await node.order(create())
        opening = await node.order(OpenTerminal(workspace=A, terminal=TERMINAL))
        closing = await node.order(CloseTerminal(workspace=A, terminal=TERMINAL))
        assert (await node.answered(opening))["code"] == "overtaken"
        assert (await node.answered(closing))["ok"]


SAVE = SaveWorkspace(workspace=A, attempt=1)


async def test_what_runs_in_a_workspace_is_ended_before_it_is_saved(node: Node) -> None:
    other = replace(START, session=SessionId("another"), workspace=B)
    async with node.life() as host:
        opening = OpenTerminal(workspace=A, terminal=TERMINAL)
        for body in (create(), create(B), START, other, opening):
            assert (await node.answered(await node.order(body)))["ok"]
        saved = await node.answered(await node.order(SAVE))
        assert saved["result"]["branch"] == "samovar/T-1-x"
        assert node.world.processes[S].has_ended
        assert node.terminals.ended == [A]
        assert list(host.sessions()) == [other.session], "what runs elsewhere goes on"
        calls = node.world.calls
        assert calls.index("stop") < calls.index("save")


async def test_terminals_that_came_back_with_a_workspace_are_known_once_it_is_there(
    node: Node,
) -> None:
    async with node.life():
        assert (await node.answered(await node.order(create())))["ok"]
        assert node.terminals.taken_in == [A]


async def test_a_copy_is_dropped_while_its_workspace_is_busy(node: Node) -> None:
    async def for_ever(_: float) -> None:
        await asyncio.Event().wait()

    node.world.sleep, node.world.took_s = for_ever, {"save": 1.0}
    async with node.life():
        assert (await node.answered(await node.order(create())))["ok"]
        await node.order(SAVE)
        await until(lambda: "save" in node.world.calls)
        assert (await node.answered(await node.order(DropCopy(sha256="ab" * 32))))["ok"]
