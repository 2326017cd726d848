"""Promises of `Grants` on our records, on both databases."""

from dataclasses import replace
from decimal import Decimal

import pytest

from adapters.store.store import SqlStore
from bot.grants import StoredGrants
from bot.people import fingerprint
from core.decision import Decision, DecisionState
from core.ids import RunId, SessionId, TaskId
from core.ports.grants import Grant, ModelCall
from core.ports.store import Insert, Update
from core.session import SessionState
from core.workspace import WorkspaceState
from tests.fakes.clock import FakeClock
from tests.fakes.nouns import SESSION, a_project, a_run, a_session, a_task, a_workspace

TOKEN = "wst_for-tests"
CHATS = SessionId("5f0f7a3e-6a40-4b6e-9c0e-0d7a9a7b6c22")


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


async def test_4_each_coding_agent_spends_its_own_runs_budget(
    store: SqlStore, grants: StoredGrants
) -> None:
    chat = a_run(id=RunId("T-2.1"), task_id=TaskId("T-2"), session_id=CHATS, budget_usd=Decimal(1))
    await store.commit(
        Insert(chat),
        Insert(a_session()),
        Insert(a_session(id=CHATS, run_id=chat.id, task_id=chat.task_id)),
    )
    asking = await grants.grant(TOKEN, session=CHATS)
    assert asking is not None
    assert (asking.run_id, asking.task_id, asking.budget_usd) == ("T-2.1", "T-2", Decimal(1))
    assert asking.branches == "samovar/T-1-", "the branch is the workspace's"
    await grants.book(asking, a_call("0.25"))
    own = await grants.grant(TOKEN, session=SESSION)
    assert own is not None
    assert (own.run_id, own.spent_usd) == ("T-1.1", Decimal(0))
    again = await grants.grant(TOKEN, session=CHATS)
    assert again is not None
    assert again.spent_usd == Decimal("0.25")


@pytest.mark.parametrize("values", [{"workspace_id": "wother00"}, {"state": SessionState.ENDED}])
async def test_4_a_session_that_is_not_alive_here_says_nothing(
    store: SqlStore, grants: StoredGrants, values: dict[str, object]
) -> None:
    chat = a_run(id=RunId("T-2.1"), task_id=TaskId("T-2"), session_id=CHATS)
    session = a_session(id=CHATS, run_id=chat.id, task_id=chat.task_id, **values)
    await store.commit(Insert(chat), Insert(session))
    for name in (CHATS, "", "x", "\x00"):
        grant = await grants.grant(TOKEN, session=name)
        assert grant is not None
        assert grant.run_id == "T-1.1"


async def test_4_a_chat_has_its_budget_between_the_runs_of_the_workspace(
    store: SqlStore, grants: StoredGrants
) -> None:
    chat = a_run(id=RunId("T-2.1"), task_id=TaskId("T-2"), session_id=CHATS)
    session = a_session(id=CHATS, run_id=chat.id, task_id=chat.task_id)
    between = a_workspace(token_hash=fingerprint(TOKEN), run_id=None)
    await store.commit(Insert(chat), Insert(session), Update(between))
    assert await grants.grant(TOKEN) is None
    anew = replace(between, version=1, state=WorkspaceState.BUILDING)
    for known in (between, anew):
        grant = await grants.grant(TOKEN, session=CHATS)
        assert grant is not None
        assert grant.run_id == "T-2.1"
        if known is between:
            await store.commit(Update(anew))


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
