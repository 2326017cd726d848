import asyncio
from dataclasses import replace
from decimal import Decimal

import pytest

from bot.grants import StoredGrants
from bot.people import fingerprint
from core.decision import Decision, DecisionState
from core.ports.grants import Grant, ModelCall
from core.run import Outcome, Run, RunState
from core.workspace import Workspace, WorkspaceState
from tests.fakes.desk import Desk
from tests.fakes.nouns import a_workspace

TOKEN = "wst_canary"


async def granted(desk: Desk, **values: object) -> tuple[StoredGrants, Run]:
    run, _ = await desk.working(await desk.person("ana"))
    await desk.put(
        a_workspace(
            task_id=run.task_id,
            run_id=run.id,
            token_hash=fingerprint(TOKEN),
            **values,
        )
    )
    return StoredGrants(store=desk.store, clock=desk.clock), run


async def grant_of(grants: StoredGrants) -> Grant:
    grant = await grants.grant(TOKEN)
    assert grant is not None
    return grant


async def test_1_a_token_stands_for_the_run_of_its_workspace(desk: Desk) -> None:
    grants, run = await granted(desk)
    grant = await grant_of(grants)
    assert (grant.run_id, grant.task_id, str(grant.repository)) == (run.id, run.task_id, "acme/web")
    assert grant.branches == f"samovar/{run.task_id}-"
    assert (grant.budget_usd, grant.spent_usd) == (3, 0)


@pytest.mark.parametrize("token", ["", "x", TOKEN + "x", "\x00"])
async def test_1_an_unknown_token_stands_for_nothing(desk: Desk, token: str) -> None:
    grants, _ = await granted(desk)
    assert await grants.grant(token) is None


@pytest.mark.parametrize(
    "over",
    [
        {"run_id": None},
        {"token_hash": ""},
        {"state": WorkspaceState.DELETING},
        {"state": WorkspaceState.GONE},
    ],
)
async def test_1_a_workspace_that_is_not_at_work_spends_nothing(
    desk: Desk, over: dict[str, object]
) -> None:
    grants, _ = await granted(desk)
    workspace = await desk.store.get(Workspace, "wabcdefg")
    await desk.put(replace(workspace, **over))
    assert await grants.grant(TOKEN) is None


@pytest.mark.parametrize(
    ("cost", "micros"),
    [("0", 0), ("0.000001", 1), ("0.0000015", 2), ("0.00000000001", 1), ("1.25", 1_250_000)],
)
async def test_2_a_cost_is_rounded_up_to_a_millionth(desk: Desk, cost: str, micros: int) -> None:
    grants, run = await granted(desk)
    call = ModelCall(model="m", session="s", cost_usd=Decimal(cost), tokens={"input_tokens": 1})
    await grants.book(await grant_of(grants), call)
    assert await desk.store.spent(run.id) == {run.id: micros}


async def test_2_calls_at_once_are_all_booked_also_past_the_budget(desk: Desk) -> None:
    grants, _ = await granted(desk)
    grant = await grant_of(grants)
    call = ModelCall(model="m", session="s", cost_usd=Decimal("0.5"), tokens={})
    await asyncio.gather(*(grants.book(grant, call) for _ in range(10)))
    assert (await grant_of(grants)).spent_usd == 5


async def test_3_an_empty_purse_asks_once_until_it_is_answered(desk: Desk) -> None:
    grants, run = await granted(desk)
    grant = await grant_of(grants)
    await asyncio.gather(*(grants.exhausted(grant) for _ in range(5)))
    (asked,) = await desk.store.find(Decision)
    assert (asked.kind, asked.state, asked.run_id) == ("budget", DecisionState.OPEN, run.id)
    assert "$3.00" in asked.title
    ana = await desk.person("ana")
    await desk.commands.answer(ana, asked.id, surface="web", allow=True)
    await grants.exhausted(grant)
    assert [one.state for one in await desk.store.find(Decision)] == ["answered", "open"]


async def test_3_a_run_that_ended_is_not_asked_for_money(desk: Desk) -> None:
    grants, run = await granted(desk)
    grant = await grant_of(grants)
    over = replace(run, state=RunState.ENDED, verdict=Outcome.PUSHED, deadline_at=None)
    await desk.put(over)
    await grants.exhausted(grant)
    assert await desk.store.find(Decision) == []
