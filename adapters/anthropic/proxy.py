"""The model proxy: lets a workspace talk to Anthropic without ever seeing the key, and counts."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import aiohttp
import structlog
from starlette.types import Receive, Scope, Send

from adapters.anthropic import answers, asgi
from adapters.anthropic.answers import Refusal
from adapters.anthropic.asgi import ClientGone, Heard
from adapters.anthropic.meter import Meter
from adapters.anthropic.upstream import Key, ProxyLimits, Question, Upstream
from core.ports.grants import Grant, Grants, ModelCall
from core.prices import Prices

log = structlog.get_logger(__name__)

MESSAGES = "/v1/messages"
PATHS = frozenset({MESSAGES, f"{MESSAGES}/count_tokens"})
BOOK_S_MAX = 10.0
"""Seconds that booking may take after the client has gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request that may be passed on."""

    grant: Grant
    model: str
    session: str
    is_billed: bool
    question: Question


class ModelProxy:
    """An ASGI application and the connections that it holds; use it as a context manager."""

    def __init__(
        self,
        *,
        grants: Grants,
        upstream: str,
        key: Callable[[], Awaitable[Key | None]],
        prices: Prices,
        limits: ProxyLimits | None = None,
    ) -> None:
        """Make a proxy.

        Args:
            grants: Who may ask, and where the cost is written down.
            upstream: Address without a path: `https://api.anthropic.com`.
            key: Returns the key in use now, None if there is none yet.
            prices: Cost of each model; others are refused.
            limits: Other than the default ones.
        """
        self._grants, self._prices = grants, prices
        self._limits = limits or ProxyLimits()
        self._upstream = Upstream(url=upstream, key=key, limits=self._limits)

    async def __aenter__(self) -> Self:
        await self._upstream.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._upstream.__aexit__(kind, error, trace)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; mount it anywhere."""
        if scope["type"] != "http":
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if scope["method"] == "HEAD" and path in {"", "/"}:
            await asgi.send_whole(send, 200, [], b"")
            return
        try:
            call = await self._admit(scope, receive, path)
            if isinstance(call, Refusal):
                await asgi.refuse(send, call)
            else:
                await self._pass_on_while_heard(call, receive, send)
        except ClientGone:
            log.info("model.client_gone")

    async def _admit(self, scope: Scope, receive: Receive, path: str) -> Call | Refusal:
        headers = asgi.request_headers(scope)
        session = dict(headers).get("x-claude-code-session-id", "")
        grant = await self._grants.grant(asgi.token(headers), session=session)
        if grant is None:
            return answers.UNKNOWN_TOKEN
        if scope["method"] != "POST" or path not in PATHS:
            return answers.NOT_SERVED
        body = await asgi.read_body(receive, self._limits.request_bytes_max)
        if isinstance(body, Refusal):
            return body
        asked = asgi.parsed(body)
        if isinstance(asked, Refusal):
            return asked
        model, is_billed = str(asked.get("model", "")), path == MESSAGES
        if (refusal := await self._refused(grant, model, is_billed=is_billed)) is not None:
            return refusal
        query = scope["query_string"].decode("latin-1")
        return Call(
            grant=grant,
            model=model,
            session=session,
            is_billed=is_billed,
            question=Question(
                target=f"{path}?{query}" if query else path,
                headers=asgi.passed_on(headers),
                body=body,
                is_streamed=asked.get("stream") is True,
            ),
        )

    async def _refused(self, grant: Grant, model: str, *, is_billed: bool) -> Refusal | None:
        if self._prices.find_price(model) is None:
            return answers.no_price(model)
        if grant.models is not None and model not in grant.models:
            return answers.not_allowed(model, grant)
        if is_billed and grant.spent_usd >= grant.budget_usd:
            await self._grants.exhausted(grant)
            return answers.budget_spent(grant)
        return None

    async def _pass_on_while_heard(self, call: Call, receive: Receive, send: Send) -> None:
        """Pass the call on; hang up on the upstream as soon as the workspace hangs up on us."""
        heard = Heard(receive=receive, send=send)
        try:
            async with asyncio.TaskGroup() as group:
                watch = group.create_task(heard.until_gone())
                await self._pass_on(call, heard.say)
                watch.cancel()
        except* ClientGone:
            log.info("model.client_gone", workspace_id=call.grant.workspace_id)

    async def _pass_on(self, call: Call, send: Send) -> None:
        async with self._upstream.ask(call.question) as answer:
            if isinstance(answer, Refusal):
                await asgi.refuse(send, answer)
            elif answer.content_type == "text/event-stream":
                await self._stream(call, answer, send)
            else:
                await self._hand_over(call, answer, send)

    async def _hand_over(self, call: Call, answer: aiohttp.ClientResponse, send: Send) -> None:
        """Pass on an answer that comes in one piece."""
        try:
            body = await answer.read()
        except (aiohttp.ClientError, TimeoutError):
            await asgi.refuse(send, answers.UNREACHABLE)
            return
        meter = Meter()
        meter.read_whole(body)
        await self._book(call, meter)
        await asgi.send_whole(send, answer.status, asgi.answer_headers(answer), body)

    async def _stream(self, call: Call, answer: aiohttp.ClientResponse, send: Send) -> None:
        """Pass on a stream as it comes; returning without its end makes the server hang up."""
        meter, is_booked = Meter(), False
        try:
            await send(asgi.start(answer.status, asgi.answer_headers(answer)))
            async for chunk in answer.content.iter_any():
                meter.feed(chunk)
                if meter.is_over and not is_booked:
                    is_booked = True  # Before the last bytes leave: the next call sees the cost.
                    await self._book(call, meter)
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except (aiohttp.ClientError, TimeoutError) as error:
            log.warning("model.stream_cut", model=call.model, error=type(error).__name__)
        finally:
            if not is_booked:
                await self._book(call, meter)

    async def _book(self, call: Call, meter: Meter) -> None:
        tokens = meter.tokens()
        if not (call.is_billed and tokens):
            return
        model = meter.model if self._prices.find_price(meter.model) else call.model
        cost_usd = self._prices.cost(model, tokens)
        done = ModelCall(model=model, session=call.session, cost_usd=cost_usd, tokens=tokens)
        await _to_its_end(self._grants.book(call.grant, done))
        log.info(
            "model.answered",
            workspace_id=call.grant.workspace_id,
            model=model,
            cost_usd=str(cost_usd),
            **tokens,
        )


async def _to_its_end(booking: Coroutine[None, None, None]) -> None:
    """Let `booking` end although the workspace hangs up meanwhile: the vendor bills it anyway."""
    task = asyncio.ensure_future(booking)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        async with asyncio.timeout(BOOK_S_MAX):
            await task
        raise
