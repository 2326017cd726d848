"""Two control planes on PostgreSQL with one node: killed, frozen, asked at once.

A tenth of it runs always, the rest with `--long`.
"""

import asyncio
import signal
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import pytest

from core.decision import Decision, DecisionState
from core.limits import Limits
from core.node import Link
from core.run import Run
from core.task import Task
from tests.fakes.history import CLOCKS, DONE, History, Plan, history
from tests.fakes.history_checks import problems, unrest
from tests.fakes.history_world import Script
from tests.fakes.node_parts import Ask, Commit, Pause, Say

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(420)]

WORK: Script = (Say("I look."), Pause(1.5), Commit(), Say("I am through."), Pause(1.0), DONE)
QUICK: Script = (Commit(), DONE)
QUESTION: Script = (Ask("Tabs or spaces?"), Commit(), DONE)
PLAN = Plan(
    seed=0,
    requests=(),
    scripts={"work": WORK, "quick": QUICK, "ask": QUESTION},
    blows=(),
    faults=(),
    checks=("make test",),
    room=128.0,
    clocks=replace(CLOCKS, warm_s=60.0, lease_s=15, beat_s=4, heartbeat_s=3, stale_s=9, sweep_s=3),
    limits=Limits(runs=20, runs_per_person=20),
    pauses=(0.0,),
)
"""The leases of life: a replica on a busy machine is not a dead one."""
DEADLY = replace(PLAN, clocks=replace(CLOCKS, warm_s=60.0, lease_s=6, beat_s=1.5))
"""Somebody dies or freezes, and it is noticed sooner."""


@pytest.fixture
def plan() -> Plan:
    return PLAN


@pytest.fixture
async def known(plan: Plan, postgres_url: str, tmp_path: Path) -> AsyncGenerator[History]:
    """A history with the replicas `a`, where the node's link is, and `b`."""
    async with history(plan, tmp_path, postgres_url) as known:
        known.front.prefer = "a"
        for name in ("a", "b"):
            known.add_control(name)
        await known.until(lambda: _are_up(known), limit_s=60)
        yield known


async def _are_up(known: History) -> bool:
    return set(known.socket.peers) == {"a", "b"}


async def ask_for(known: History, key: str, script: str, at: str = "") -> None:
    heard = await known.say(key, f"Do it {key} #{script}", at=at)
    while heard.task_id is None:
        heard = await known.say(key, f"Do it {key} #{script}", at=at)
    known.tasks[key] = heard.task_id


async def works(known: History) -> bool:
    return any(agent.last_code is not None for agent in known.world.agents.values())


async def ends_well(known: History, *, limit_s: float = 180) -> None:
    async def is_calm() -> bool:
        return not await unrest(known)

    try:
        await known.until(is_calm, limit_s=limit_s)
    except TimeoutError:
        pytest.fail("\n".join([*await unrest(known), known.timeline()]))
    wrong = await problems(known)
    assert not wrong, "\n".join([*wrong, known.timeline()])


async def last_event(known: History) -> int:
    return max(event.seq for event in await known.store.events(after=0, limit=100_000))


@pytest.mark.parametrize("plan", [DEADLY])
@pytest.mark.parametrize("victim", ["a", pytest.param("b", marks=pytest.mark.long)])
async def test_w7_the_other_replica_takes_over_what_a_killed_one_did(
    known: History, victim: str
) -> None:
    for number in range(3):
        await ask_for(known, f"k{number}", "work", at=victim)
    await known.until(lambda: works(known))
    known.controls[victim].is_kept = False
    known.kill(known.controls[victim])
    known.front.prefer = ""
    await ends_well(known)
    assert {run.verdict for run in await known.store.find(Run)} == {"pull_request"}


@pytest.mark.long
@pytest.mark.parametrize("plan", [DEADLY])
@pytest.mark.parametrize("after_s", [0.0, 0.37])
async def test_t1_a_thawed_replica_writes_nothing_and_does_nothing_twice(
    known: History, after_s: float
) -> None:
    for number in range(3):
        await ask_for(known, f"k{number}", "work", at="a")
    await known.until(lambda: works(known))
    await asyncio.sleep(after_s)
    known.controls["a"].signal(signal.SIGSTOP)
    known.front.prefer = "b"
    await asyncio.sleep(DEADLY.clocks.lease_s)
    await ends_well(known)
    before, calls = await last_event(known), len(known.world.pull_calls)
    known.controls["a"].signal(signal.SIGCONT)
    await known.until(lambda: _joined_again(known))
    await ends_well(known)
    assert await last_event(known) == before, known.timeline()
    assert len(known.world.pull_calls) == calls, known.timeline()
    await ask_for(known, "after", "quick", at="a")
    await ends_well(known)


async def _joined_again(known: History) -> bool:
    return "replica.joined_again" in (known.folder / "a.log").read_text()


@pytest.mark.long
async def test_p13_a_question_that_one_replica_asked_is_answered_at_the_other(
    known: History,
) -> None:
    await ask_for(known, "k", "ask", at="a")

    async def is_asked() -> object:
        return await known.store.find(Decision, state=DecisionState.OPEN)

    await known.until(is_asked)
    (decision,) = await known.store.find(Decision)
    (link,) = await known.store.find(Link)
    assert link.replica == "a"
    await known.answer(decision, at=("b", "b"))
    await ends_well(known)


async def test_p13_an_answer_at_both_replicas_at_once_counts_once(known: History) -> None:
    for number in range(3):
        await ask_for(known, f"k{number}", "ask")

    async def are_asked() -> bool:
        return len(await known.store.find(Decision, state=DecisionState.OPEN)) == 3

    await known.until(are_asked)
    async with asyncio.TaskGroup() as group:
        for decision in await known.store.find(Decision):
            group.create_task(known.answer(decision, at=("a", "b")))
    await ends_well(known)


async def _twenty_at_once(known: History) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(20):
            at = "ab"[number % 2]
            group.create_task(ask_for(known, f"k{number}", "quick", at=at))
    await ends_well(known, limit_s=360)


@pytest.mark.long
@pytest.mark.parametrize("plan", [replace(PLAN, limits=Limits(runs=10, runs_per_person=20))])
async def test_n12_of_twenty_submits_at_once_ten_run(known: History) -> None:
    await _twenty_at_once(known)
    runs = await known.store.find(Run)
    # By the log, not by the times in the rows: those are taken before the commit that counts.
    steps = {"run.placing": 1, "run.ended": -1}
    live = most = 0
    for event in await known.store.events(after=0, limit=10_000):
        live += steps.get(event.kind, 0)
        most = max(most, live)
    assert (len(runs), live) == (20, 0)
    assert 1 < most <= 10


@pytest.mark.long
async def test_n3_twenty_tasks_at_once_make_one_node(known: History) -> None:
    await _twenty_at_once(known)
    assert len(known.world.servers_made) == 1
    assert len(await known.store.find(Task)) == 20
