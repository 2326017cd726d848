"""Promises of `Grants` on our records, on both databases."""

from decimal import Decimal

import pytest

from adapters.store.store import SqlStore
from bot.grants import StoredGrants
from bot.people import fingerprint
from core.decision import Decision, DecisionState
from core.ports.grants import Grant, ModelCall
from core.ports.store import Insert, Update
from tests.fakes.clock import FakeClock
from tests.fakes.nouns import a_project, a_run, a_task, a_workspace

TOKEN = "wst_for-tests"


@pytest.fixture
async def grants(store: SqlStore, clock: FakeClock) -> StoredGrants:
    await store.commit(
        Insert(a_project()),
        Insert(a_task()),
        Insert(a_run()),
        Insert(a_workspace(token_hash=fingerprint(TOKEN))),
    )
    return StoredGrants(store=store, clock=clock)


async def granted(grants: StoredGrants) -> Grant:
    grant = await grants.grant(TOKEN)
    assert grant is not None
    return grant


def a_call(cost: str) -> ModelCall:
    return ModelCall(model="m", session="s", cost_usd=Decimal(cost), tokens={"input_tokens": 1})


async def test_1_an_unknown_or_revoked_token_grants_nothing(
    store: SqlStore, grants: StoredGrants
) -> None:
    assert await grants.grant("wst_other") is None
    assert (await granted(grants)).branches == "samovar/T-1-"
    (workspace,) = await store.find(type(a_workspace()))
    await store.commit(Update(a_workspace(token_hash="", version=workspace.version)))
    assert await grants.grant(TOKEN) is None


async def test_1_a_workspace_without_a_run_has_nothing_to_spend(
    store: SqlStore, grants: StoredGrants
) -> None:
    between = a_workspace(token_hash=fingerprint(TOKEN), run_id=None)
    await store.commit(Update(between))
    assert await grants.grant(TOKEN) is None


async def test_2_what_is_booked_adds_up_also_past_the_budget(grants: StoredGrants) -> None:
    for _ in range(4):
        await grants.book(await granted(grants), a_call("1.25"))
    after = await granted(grants)
    assert (after.spent_usd, after.budget_usd) == (Decimal(5), Decimal(3))


async def test_2_a_part_of_a_millionth_is_rounded_up(grants: StoredGrants) -> None:
    await grants.book(await granted(grants), a_call("0.0000001"))
    assert (await granted(grants)).spent_usd == Decimal("0.000001")


async def test_3_a_spent_budget_opens_one_question_until_it_is_answered(
    store: SqlStore, grants: StoredGrants, clock: FakeClock
) -> None:
    grant = await granted(grants)
    for _ in range(3):
        await grants.exhausted(grant)
    (decision,) = await store.find(Decision)
    assert decision.kind == "budget"
    await store.commit(Update(decision.moved(DecisionState.ANSWERED, at=clock.now(), allow=True)))
    await grants.exhausted(grant)
    assert len(await store.find(Decision)) == 2
