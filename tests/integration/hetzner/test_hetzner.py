"""Machines of Hetzner Cloud: the vendor's client, a stand-in, and the vendor's description."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from adapters.hetzner.compute import HetznerCompute
from adapters.hetzner.offers import REFUSED_S
from core.errors import (
    CapacityError,
    CredentialError,
    OutsideError,
    RateLimitedError,
    RefusedError,
    UnavailableError,
)
from core.ids import NodeId
from core.secret import Secret
from tests.fakes.hetzner.api import LOCATIONS, ApiError, HetznerApi, hetzner, hetzner_api

A, B = NodeId("node-0000000a"), NodeId("node-0000000b")
ONCE = Secret("one-time")
LATE = ApiError(504, "timeout", "the answer was late")


@pytest.fixture
async def api() -> AsyncIterator[HetznerApi]:
    async with hetzner_api() as served:
        yield served


@pytest.fixture
def compute(api: HetznerApi) -> HetznerCompute:
    return hetzner(api)


async def made(compute: HetznerCompute, api: HetznerApi, node: NodeId = A) -> tuple[str, str]:
    server = await compute.create(node, size="small", enrolment=ONCE)
    body = api.servers[int(server.ref)]
    return body["server_type"]["name"], body["location"]["name"]


@pytest.mark.parametrize(
    ("size", "name"), [("small", "cx23"), ("medium", "cx33"), ("large", "cx43")]
)
async def test_the_cheapest_that_is_large_enough_is_taken(
    compute: HetznerCompute, api: HetznerApi, size: str, name: str
) -> None:
    server = await compute.create(A, size=size, enrolment=ONCE)  # type: ignore[arg-type]
    assert api.servers[int(server.ref)]["server_type"]["name"] == name
    assert api.user_data[A] == "node-0000000a one-time"


async def test_what_is_sold_out_is_not_asked_for(compute: HetznerCompute, api: HetznerApi) -> None:
    api.sold_out = {("cx23", "fsn1"), ("cx23", "nbg1")}
    assert await made(compute, api) == ("cx23", "hel1")
    assert api.asked.count(("POST", "/servers")) == 1


async def test_where_there_is_none_the_next_one_is_asked_for_and_the_refusal_remembered(
    compute: HetznerCompute, api: HetznerApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.refused = {("cx23", place) for place in LOCATIONS}
    assert await made(compute, api, A) == ("cx33", "fsn1")
    assert await made(compute, api, B) == ("cx33", "fsn1")
    assert api.asked.count(("POST", "/servers")) == 5, "the three refusals once, and two servers"
    api.refused.clear()
    soon_s = asyncio.get_running_loop().time() + REFUSED_S
    monkeypatch.setattr("adapters.hetzner.compute._now_s", lambda: soon_s)
    assert await made(compute, api, NodeId("node-0000000c")) == ("cx23", "fsn1")


async def test_n10_no_smaller_one_is_taken(compute: HetznerCompute, api: HetznerApi) -> None:
    api.refused = {("cx43", place) for place in LOCATIONS}
    with pytest.raises(CapacityError, match="no large machine is to be had in fsn1, nbg1, hel1"):
        await compute.create(A, size="large", enrolment=ONCE)
    assert api.bill == 0


async def test_n2_a_server_whose_answer_was_lost_is_found_and_billed_once(
    compute: HetznerCompute, api: HetznerApi
) -> None:
    api.lose_next["POST", "/servers"] = LATE
    first = await compute.create(A, size="small", enrolment=ONCE)
    assert api.asked.count(("POST", "/servers")) == 2, "the client asked again by itself"
    again = await hetzner(api).create(A, size="small", enrolment=ONCE)
    assert (again.ref, api.bill) == (first.ref, 1)


async def test_a_name_that_somebody_else_has_is_left_alone(api: HetznerApi) -> None:
    theirs = await hetzner(api, installation="theirs").create(A, size="small", enrolment=ONCE)
    with pytest.raises(RefusedError, match="not of this installation"):
        await hetzner(api).create(A, size="small", enrolment=ONCE)
    assert list(api.servers) == [int(theirs.ref)]


async def test_n7_a_machine_of_another_installation_is_not_destroyed(api: HetznerApi) -> None:
    theirs = await hetzner(api, installation="theirs").create(A, size="small", enrolment=ONCE)
    with pytest.raises(RefusedError, match="not of this installation"):
        await hetzner(api).destroy(theirs.ref)
    assert len(api.servers) == 1


async def test_n7_a_list_that_is_not_whole_is_none(
    compute: HetznerCompute, api: HetznerApi
) -> None:
    for number in range(60):
        await compute.create(NodeId(f"node-{number:08x}"), size="small", enrolment=ONCE)
    assert len(await compute.servers()) == 60
    api.is_short = True
    with pytest.raises(UnavailableError, match="not whole"):
        await compute.servers()


async def test_n6_what_is_destroyed_is_gone_when_that_returns(
    compute: HetznerCompute, api: HetznerApi
) -> None:
    server = await compute.create(A, size="small", enrolment=ONCE)
    api.delete_s = 0.1
    await compute.destroy(server.ref)
    assert list(await compute.servers()) == []
    assert api.asked.count(("DELETE", f"/servers/{server.ref}")) == 1


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (ApiError(500, "service_error", "an error occurred"), UnavailableError),
        (ApiError(423, "locked", "server is locked"), UnavailableError),
        (ApiError(401, "unauthorized", "unable to authenticate"), CredentialError),
        (ApiError(403, "protected", "server is delete protected"), RefusedError),
    ],
    ids=["500", "locked", "token", "protected"],
)
async def test_n6_what_cannot_be_destroyed_is_not_taken_for_gone(
    compute: HetznerCompute, api: HetznerApi, failure: ApiError, kind: type[OutsideError]
) -> None:
    server = await compute.create(A, size="small", enrolment=ONCE)
    api.fail_next["DELETE", f"/servers/{server.ref}"] = failure
    with pytest.raises(kind):
        await compute.destroy(server.ref)
    assert [one.ref for one in await compute.servers()] == [server.ref]


@pytest.mark.parametrize(
    ("failure", "kind", "code"),
    [
        (
            ApiError(412, "resource_unavailable", "error during placement"),
            CapacityError,
            "capacity",
        ),
        (ApiError(412, "placement_error", "no"), CapacityError, "capacity"),
        (ApiError(403, "resource_limit_exceeded", "limit"), RefusedError, "account_limit"),
        (ApiError(401, "unauthorized", "no"), CredentialError, "credential"),
        (ApiError(403, "token_readonly", "no"), CredentialError, "credential"),
        (ApiError(422, "invalid_input", "no"), RefusedError, "refused"),
        (ApiError(410, "deprecated_api_endpoint", "no"), RefusedError, "refused"),
        (ApiError(503, "maintenance", "later"), UnavailableError, "unavailable"),
        (ApiError(418, "never_heard_of", "?"), UnavailableError, "unavailable"),
    ],
    ids=lambda value: value.body["error"]["code"] if isinstance(value, ApiError) else "",
)
async def test_n9_each_way_to_fail_has_its_class(
    compute: HetznerCompute, api: HetznerApi, failure: ApiError, kind: type[OutsideError], code: str
) -> None:
    api.fail_next["GET", "/server_types"] = failure
    with pytest.raises(kind) as caught:
        await compute.create(A, size="small", enrolment=ONCE)
    assert type(caught.value) is kind
    assert caught.value.code == code
    assert api.bill == 0
    assert (await compute.create(A, size="small", enrolment=ONCE)).node_id == A, "it passed"


async def test_a_wrong_token_is_said_and_not_shown(api: HetznerApi) -> None:
    with pytest.raises(CredentialError) as caught:
        await hetzner(api, token="canary-token").servers()
    assert "canary" not in repr(caught.value)
    assert "its token" in str(caught.value).lower()


async def test_asking_too_often_says_when_to_come_back(
    compute: HetznerCompute, api: HetznerApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = compute.client._client
    monkeypatch.setattr(base, "_retry_max_retries", 0)
    api.fail_next["GET", "/servers"] = ApiError(429, "rate_limit_exceeded", "limit reached")
    with pytest.raises(RateLimitedError) as caught:
        await compute.servers()
    assert caught.value.retry_after_s == 30


async def test_nobody_who_answers_is_told_as_such(api: HetznerApi) -> None:
    compute = hetzner(api)
    api.url = "http://127.0.0.1:9/v1"
    with pytest.raises(UnavailableError, match="cannot be reached"):
        await hetzner(api).servers()
    assert list(await compute.servers()) == []


async def test_the_stand_in_is_judged_by_the_vendors_description() -> None:
    async with hetzner_api(allow_violations=True) as api:
        await hetzner(api).create(A, size="small", enrolment=ONCE)
        assert api.violations == []
        next(iter(api.servers.values()))["status"] = "sleepy"
        await hetzner(api).servers()
        assert any("sleepy" in one.fault for one in api.violations)
