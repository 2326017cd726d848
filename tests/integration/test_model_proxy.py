"""The model proxy between a client and a scripted model, over real sockets."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from io import BytesIO

import aiohttp
import pytest
import structlog.testing

from adapters.anthropic.proxy import ModelProxy
from adapters.anthropic.upstream import Key, ProxyLimits
from bot.demo.model import ScriptedModel, key_sha256
from bot.demo.script import Step, prompt, say, step
from core.secret import Secret
from tests.fakes.model_proxy import (
    MODEL,
    PRICES,
    REAL_KEY,
    TOKEN,
    FakeGrants,
    a_grant,
    a_proxy,
    serving,
    the_key,
)
from tests.fakes.serving import until

BEARER = {"authorization": f"Bearer {TOKEN}"}
PATIENT = ProxyLimits(retry_s_first=0.02)
QUICK = replace(PATIENT, silent_s_max=2, whole_s_max=3, retry_s_max=2)


def asking(*steps: Step, stream: bool = True, model: str = MODEL) -> bytes:
    text = prompt("hi", steps)
    body = {
        "model": model,
        "max_tokens": 100,
        "stream": stream,
        "messages": [{"role": "user", "content": text}],
    }
    return json.dumps(body).encode()


@pytest.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel(keys=frozenset({REAL_KEY})) as model:
        yield model


@pytest.fixture
def grants() -> FakeGrants:
    return FakeGrants()


@pytest.fixture
async def url(model: ScriptedModel, grants: FakeGrants) -> AsyncIterator[str]:
    async with a_proxy(grants, model.url, PATIENT) as url:
        yield url


@pytest.fixture
async def quick_url(model: ScriptedModel, grants: FakeGrants) -> AsyncIterator[str]:
    """Of a proxy whose limits are over soon."""
    async with a_proxy(grants, model.url, QUICK) as url:
        yield url


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(headers=BEARER) as http:
        yield http


async def test_a_stream_passes_through_unchanged_with_our_key_and_without_the_token(
    model: ScriptedModel, grants: FakeGrants, url: str, http: aiohttp.ClientSession
) -> None:
    # A body that no JSON library would write this way must arrive byte by byte.
    body = asking(step(say("Hello you", chunks=3), usage={"output_tokens": 7})).replace(
        b'"max_tokens": 100', b'"max_tokens" :\t1e2, "x": "\\u00e9\xc3\xa9"'
    )
    headers = {
        "anthropic-beta": "context-1m-2026-01-01,new-thing",
        "anthropic-version": "2023-06-01",
        "x-claude-code-session-id": "s-1",
        "user-agent": "claude-cli/2.1.330",
        "x-unheard-of": "kept",
    }
    async with http.post(f"{url}/v1/messages?beta=true", data=body, headers=headers) as answer:
        text = await answer.text()
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.headers["request-id"] == "req_scripted"
    assert text.count("text_delta") == 3
    assert text.endswith("\n\n")
    (asked,) = model.requests
    assert asked.path == "/v1/messages?beta=true"
    assert asked.body_sha256 == hashlib.sha256(body).hexdigest()
    assert (asked.credential, asked.key_sha256) == ("x-api-key", key_sha256(REAL_KEY))
    assert asked.headers | headers == asked.headers
    assert asked.headers["accept-encoding"] == "identity"
    assert TOKEN not in str(asked.headers)
    (call,) = grants.calls
    assert (call.model, call.session, call.tokens["output_tokens"]) == (MODEL, "s-1", 7)
    assert call.cost_usd == PRICES.cost(MODEL, call.tokens) > 0


async def test_the_first_piece_arrives_before_the_last_is_written(
    model: ScriptedModel, url: str, http: aiohttp.ClientSession
) -> None:
    body = asking(step(say("ab", chunks=2), stall_after=1))
    async with http.post(f"{url}/v1/messages", data=body) as answer:
        async with asyncio.timeout(30):
            assert b"message_start" in await answer.content.readuntil(b"\n\n")


async def test_an_answer_in_one_piece_is_metered_before_it_is_heard(
    grants: FakeGrants, url: str, http: aiohttp.ClientSession
) -> None:
    usage = {
        "input_tokens": 1_000_000,
        "output_tokens": 10_000,
        "cache_read_input_tokens": 500_000,
        "cache_creation_input_tokens": 200_000,
    }
    body = asking(step(say("x"), usage=usage), stream=False)
    async with http.post(f"{url}/v1/messages", data=body) as answer:
        assert (await answer.json())["content"] == [{"type": "text", "text": "x"}]
    (call,) = grants.calls
    assert call.cost_usd == Decimal("4") + Decimal("0.2") + Decimal("0.2") + Decimal("1")
    assert call.tokens == usage


async def test_counting_tokens_costs_nothing_and_head_is_answered(
    model: ScriptedModel, grants: FakeGrants, url: str, http: aiohttp.ClientSession
) -> None:
    async with http.post(f"{url}/v1/messages/count_tokens", data=asking()) as answer:
        assert (await answer.json())["input_tokens"] > 0
    assert grants.calls == []
    async with http.head(f"{url}/") as answer:
        assert answer.status == 200
    assert len(model.requests) == 1


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer wst_old"}, {"x-api-key": "x"}])
async def test_a_stranger_hears_403_and_the_model_nothing(
    model: ScriptedModel, url: str, headers: dict[str, str]
) -> None:
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{url}/v1/messages", data=asking(), headers=headers) as answer,
    ):
        assert answer.status == 403
        assert (await answer.json())["error"]["type"] == "permission_error"
    assert not model.requests


async def test_a_revoked_token_is_refused_at_the_next_call(
    grants: FakeGrants, url: str, http: aiohttp.ClientSession
) -> None:
    grants.held.clear()
    async with http.post(f"{url}/v1/messages", data=asking()) as answer:
        assert answer.status == 403


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models"),
        ("POST", "/v1/files"),
        ("POST", "/v1/messages/batches"),
        ("GET", "/v1/messages"),
        ("POST", "/v1/messages/../files"),
        ("POST", "//v1/messages"),
        ("POST", "/v1/messages%2f..%2ffiles"),
    ],
)
async def test_nothing_else_is_served(
    model: ScriptedModel, url: str, http: aiohttp.ClientSession, method: str, path: str
) -> None:
    from yarl import URL

    async with http.request(method, URL(url + path, encoded=True), data=asking()) as answer:
        assert answer.status == 404
    assert not model.requests


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"model": "claude-haiku-5-5", "model": "claude-opus-5-5"}',
    ],
)
async def test_a_body_that_can_be_read_in_two_ways_or_none_is_refused(
    model: ScriptedModel, url: str, http: aiohttp.ClientSession, body: bytes
) -> None:
    async with http.post(f"{url}/v1/messages", data=body) as answer:
        assert answer.status == 400
    assert not model.requests


async def test_a_request_that_is_too_large_is_refused(
    model: ScriptedModel, grants: FakeGrants, http: aiohttp.ClientSession
) -> None:
    limits = replace(PATIENT, request_bytes_max=1 << 20)
    body = BytesIO(b" " * ((1 << 20) + 1))
    async with (
        a_proxy(grants, model.url, limits) as url,
        http.post(f"{url}/v1/messages", data=body) as answer,
    ):
        assert answer.status == 413
        assert "1 MiB" in (await answer.json())["error"]["message"]
    assert not model.requests


@pytest.mark.parametrize("models", [None, frozenset({MODEL})])
async def test_a_model_without_a_price_is_refused_with_the_setting_to_add(
    model: ScriptedModel,
    grants: FakeGrants,
    url: str,
    http: aiohttp.ClientSession,
    models: frozenset[str] | None,
) -> None:
    grants.held[TOKEN] = a_grant(models=models)
    async with http.post(f"{url}/v1/messages", data=asking(model="claude-new-9")) as answer:
        assert answer.status == 403
        message = (await answer.json())["error"]["message"]
    assert "claude-new-9" in message
    assert "[[model.prices]]" in message
    assert not model.requests


async def test_a_model_that_the_project_does_not_use_is_refused(
    grants: FakeGrants, url: str, http: aiohttp.ClientSession
) -> None:
    grants.held[TOKEN] = a_grant(models=frozenset({"claude-haiku-5-5"}))
    async with http.post(f"{url}/v1/messages", data=asking()) as answer:
        assert answer.status == 403
        assert "claude-haiku-5-5" in (await answer.json())["error"]["message"]


async def test_a_spent_budget_is_402_with_a_sentence_until_it_is_raised(
    model: ScriptedModel, grants: FakeGrants, url: str, http: aiohttp.ClientSession
) -> None:
    grants.held[TOKEN] = a_grant(budget="0.01")
    dear = asking(step(say("x"), usage={"output_tokens": 1000}))
    async with http.post(f"{url}/v1/messages", data=dear) as answer:
        await answer.read()
        assert answer.status == 200, "the call that passes the budget is still answered"
    async with http.post(f"{url}/v1/messages", data=dear) as answer:
        assert answer.status == 402
        error = (await answer.json())["error"]
    assert error["type"] == "billing_error"
    assert "$0.01 for T-1 is used up ($0.02 spent)" in error["message"]
    assert [grant.run_id for grant in grants.refused] == ["T-1.1"]
    assert len(model.requests) == 1
    grants.held[TOKEN] = replace(grants.held[TOKEN], budget_usd=Decimal(1))
    async with http.post(f"{url}/v1/messages", data=dear) as answer:
        assert answer.status == 200


@pytest.mark.parametrize("status", [429, 529])
async def test_too_much_is_tried_again_before_the_first_byte(
    model: ScriptedModel, grants: FakeGrants, url: str, http: aiohttp.ClientSession, status: int
) -> None:
    body = asking(step(say("at last"), status=status, times=3))
    async with http.post(f"{url}/v1/messages", data=body) as answer:
        assert "at last" in await answer.text()
        assert answer.status == 200
    assert len(model.requests) == 4
    assert len(grants.calls) == 1


async def test_retry_after_is_honoured(
    model: ScriptedModel, url: str, http: aiohttp.ClientSession
) -> None:
    clock = asyncio.get_running_loop().time
    body = asking(step(say("ok"), status=429, times=1, retry_after_s=0.5))
    began = clock()
    async with http.post(f"{url}/v1/messages", data=body) as answer:
        assert answer.status == 200
    assert clock() - began >= 0.5


@pytest.mark.parametrize("status", [429, 529])
async def test_after_the_last_try_the_client_is_told_not_to_try_again(
    quick_url: str, http: aiohttp.ClientSession, status: int
) -> None:
    async with http.post(f"{quick_url}/v1/messages", data=asking(step(status=status))) as answer:
        assert answer.status == 529
        assert answer.headers["x-should-retry"] == "false"
        assert (await answer.json())["error"]["type"] == "overloaded_error"


async def test_nobody_waits_for_a_pause_that_is_longer_than_the_limit(
    model: ScriptedModel, url: str, http: aiohttp.ClientSession
) -> None:
    body = asking(step(status=429, retry_after_s=3600))
    async with asyncio.timeout(30), http.post(f"{url}/v1/messages", data=body) as answer:
        assert answer.status == 529
        assert "3600 s" in (await answer.json())["error"]["message"]
    assert len(model.requests) == 1


async def test_all_workspaces_share_one_pause(
    model: ScriptedModel, url: str, http: aiohttp.ClientSession
) -> None:
    refused = asking(step(say("ok"), status=429, times=1, retry_after_s=0.5))
    clock = asyncio.get_running_loop().time

    async def ask(body: bytes) -> float:
        async with http.post(f"{url}/v1/messages", data=body) as answer:
            await answer.read()
            assert answer.status == 200
        return clock()

    began = clock()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(ask(refused))
        await until(lambda: len(model.requests) > 0 and model.inflight == 0)
        second = group.create_task(ask(asking(step(say("ok")))))
    assert second.result() - began >= 0.5
    assert first.result() > 0


async def test_an_upstream_401_becomes_403_and_alerts_the_operator(
    model: ScriptedModel, url: str, http: aiohttp.ClientSession
) -> None:
    model.keys = frozenset({"another"})
    with structlog.testing.capture_logs() as lines:
        async with http.post(f"{url}/v1/messages", data=asking()) as answer:
            assert answer.status == 403
            assert "renew" in (await answer.json())["error"]["message"]
    alerts = [line for line in lines if line["log_level"] == "error"]
    assert [line["event"] for line in alerts] == ["model.key_refused"]


async def test_an_account_without_credit_is_not_taken_for_a_spent_budget(
    grants: FakeGrants, url: str, http: aiohttp.ClientSession
) -> None:
    body = asking(step(status=402, error="billing_error"))
    async with http.post(f"{url}/v1/messages", data=body) as answer:
        assert answer.status == 402
        assert "has no credit" in (await answer.json())["error"]["message"]
    assert grants.refused == []


@pytest.mark.parametrize("status", [400, 404, 413, 500])
async def test_other_errors_pass_as_they_are(
    url: str, http: aiohttp.ClientSession, status: int
) -> None:
    body = asking(step(status=status, message="verbatim", headers={"x-why": "because"}))
    async with http.post(f"{url}/v1/messages", data=body) as answer:
        assert answer.status == status
        assert answer.headers["x-why"] == "because"
        assert (await answer.json())["error"]["message"] == "verbatim"


async def test_a_stream_that_falls_silent_is_cut_and_booked(
    model: ScriptedModel, grants: FakeGrants, quick_url: str, http: aiohttp.ClientSession
) -> None:
    body = asking(step(say("x" * 4000, chunks=4), stall_after=3))
    with pytest.raises(aiohttp.ClientPayloadError):
        async with asyncio.timeout(30), http.post(f"{quick_url}/v1/messages", data=body) as answer:
            await answer.read()
    await until(lambda: len(grants.calls) == 1)
    assert 700 <= grants.calls[0].tokens["output_tokens"] <= 800
    await until(lambda: model.inflight == 0)


async def test_an_upstream_that_is_silent_from_the_start_is_504(
    model: ScriptedModel, grants: FakeGrants, quick_url: str, http: aiohttp.ClientSession
) -> None:
    for stream in (True, False):
        body = asking(step(stall_after=0), stream=stream)
        async with asyncio.timeout(30), http.post(f"{quick_url}/v1/messages", data=body) as answer:
            assert answer.status == 504
    assert grants.calls == []


async def test_an_upstream_that_breaks_off_breaks_off_for_the_client_too(
    grants: FakeGrants, url: str, http: aiohttp.ClientSession
) -> None:
    body = asking(step(say("abc", chunks=3), cut_after=2))
    with pytest.raises(aiohttp.ClientPayloadError):
        async with http.post(f"{url}/v1/messages", data=body) as answer:
            await answer.read()
    await until(lambda: len(grants.calls) == 1)


async def test_an_upstream_that_hangs_up_at_once_is_502(
    url: str, http: aiohttp.ClientSession
) -> None:
    async with http.post(f"{url}/v1/messages", data=asking(step(cut_after=0))) as answer:
        assert answer.status == 502


async def test_an_upstream_that_is_down_is_502(
    grants: FakeGrants, http: aiohttp.ClientSession
) -> None:
    async with (
        a_proxy(grants, "http://127.0.0.1:1", QUICK) as url,
        http.post(f"{url}/v1/messages", data=asking()) as answer,
    ):
        assert answer.status == 502


async def test_a_client_that_hangs_up_in_a_stream_ends_it_upstream_and_pays_for_its_part(
    model: ScriptedModel, grants: FakeGrants, http: aiohttp.ClientSession
) -> None:
    async with a_proxy(grants, model.url) as url:
        body = asking(step(say("x" * 4000, chunks=4), stall_after=3))
        async with http.post(f"{url}/v1/messages", data=body) as answer:
            for _ in range(3):
                await answer.content.readuntil(b"text_delta")
            assert model.inflight == 1
            answer.close()
        await until(lambda: model.inflight == 0)
        await until(lambda: len(grants.calls) == 1)
    assert grants.calls[0].tokens["output_tokens"] >= 700


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_hangs_up_while_its_answer_is_booked_pays_for_it(
    grants: FakeGrants, url: str, http: aiohttp.ClientSession, stream: bool
) -> None:
    grants.book_s = 0.5
    body = asking(step(say("x")), stream=stream)

    async def ask() -> None:
        async with http.post(f"{url}/v1/messages", data=body) as answer:
            await answer.read()

    async with asyncio.TaskGroup() as group:
        call = group.create_task(ask())
        await until(lambda: grants.booking > 0)
        call.cancel()
    await until(lambda: len(grants.calls) == 1)


@pytest.mark.parametrize(
    "stuck", [step(stall_after=0), step(status=429), step(status=429, retry_after_s=30)]
)
async def test_a_client_that_hangs_up_before_the_first_byte_ends_the_call(
    model: ScriptedModel, grants: FakeGrants, http: aiohttp.ClientSession, stuck: Step
) -> None:
    async with a_proxy(grants, model.url) as url:
        async with asyncio.TaskGroup() as group:
            call = group.create_task(http.post(f"{url}/v1/messages", data=asking(stuck)))
            await until(lambda: len(model.requests) > 0)
            call.cancel()
        await until(lambda: model.inflight == 0)
        asked = len(model.requests)
        async with http.head(f"{url}/"):
            assert len(model.requests) <= asked + 1
    assert grants.calls == []


async def test_a_subscription_is_sent_as_bearer_with_its_beta(
    model: ScriptedModel, grants: FakeGrants, http: aiohttp.ClientSession
) -> None:
    async def key() -> Key:
        return Key(secret=Secret(REAL_KEY), kind="oauth")

    proxy = ModelProxy(grants=grants, upstream=model.url, key=key, prices=PRICES)
    async with proxy, serving(proxy.app) as url:
        headers = {"anthropic-beta": "a,b", "x-api-key": "sk-ant-stale"}
        async with http.post(f"{url}/v1/messages", data=asking(), headers=headers) as answer:
            assert answer.status == 200
    (asked,) = model.requests
    assert (asked.credential, asked.key_sha256) == ("bearer", key_sha256(REAL_KEY))
    assert asked.headers["anthropic-beta"] == "a,b,oauth-2025-04-20"


async def test_without_a_key_the_operator_is_named(
    model: ScriptedModel, grants: FakeGrants, http: aiohttp.ClientSession
) -> None:
    async def no_key() -> None:
        return None

    proxy = ModelProxy(grants=grants, upstream=model.url, key=no_key, prices=PRICES)
    async with (
        proxy,
        serving(proxy.app) as url,
        http.post(f"{url}/v1/messages", data=asking()) as answer,
    ):
        assert answer.status == 403
        assert "operator" in (await answer.json())["error"]["message"]
    assert not model.requests


async def test_headers_for_one_hop_stay_on_it(
    model: ScriptedModel, url: str, http: aiohttp.ClientSession
) -> None:
    headers = {"connection": "keep-alive, X-Hop", "x-hop": "1", "te": "trailers"}
    async with http.post(f"{url}/v1/messages", data=asking(), headers=headers) as answer:
        assert answer.status == 200
    assert not {"x-hop", "te"} & model.requests[0].headers.keys()


async def test_g5_neither_key_nor_token_is_ever_logged(
    model: ScriptedModel,
    grants: FakeGrants,
    quick_url: str,
    http: aiohttp.ClientSession,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(0)
    ways = [step(say("x")), step(status=401), step(status=529), step(say("x"), cut_after=1)]
    heard = b""
    with structlog.testing.capture_logs() as lines:
        for way in ways:
            try:
                async with http.post(f"{quick_url}/v1/messages", data=asking(way)) as answer:
                    heard += str(answer.headers).encode() + await answer.read()
            except aiohttp.ClientError as error:
                heard += repr(error).encode()
    seen = f"{lines}{caplog.text}{heard!r}{await the_key()!r}{model.requests}"
    assert "model.answered" in seen
    assert REAL_KEY not in seen
    assert TOKEN not in seen


async def test_forty_calls_at_once_are_all_booked(
    grants: FakeGrants, url: str, http: aiohttp.ClientSession
) -> None:
    body = asking(step(say("abc", chunks=3, delay_s=0.01), usage={"output_tokens": 100}))

    async def ask() -> None:
        async with http.post(f"{url}/v1/messages", data=body) as answer:
            await answer.read()

    async with asyncio.TaskGroup() as group:
        for _ in range(40):
            group.create_task(ask())
    assert len(grants.calls) == 40
    assert grants.held[TOKEN].spent_usd == sum(call.cost_usd for call in grants.calls)
