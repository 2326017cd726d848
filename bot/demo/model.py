"""A Messages API that plays scripts: for the demonstration without a key, and for every test."""

import asyncio
import hashlib
import json
import uuid
from collections import Counter, deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Literal, Self

from aiohttp import web

from bot.demo.frames import frames, message
from bot.demo.improvise import Recipe, improvise
from bot.demo.script import ScriptError, Step, find_script, say
from bot.demo.talk import Talk

REQUEST_MAX_BYTES = 64 << 20
REQUEST_ID = "req_scripted"
MODELS = ("claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-5-5")
Credential = Literal["x-api-key", "bearer", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request, without its credential.

    Attributes:
        credential: In which header it came.
        key_sha256: Hash of the credential in hex; of nothing when there was none.
        session: Claude Code's own session id; may be empty.
        headers: Lower-case names; the two that carry credentials are left out.
        body_sha256: Hash of the body as it came, in hex.
        step: Which step of the prompt's script was asked for; None without a script.
    """

    method: str
    path: str
    credential: Credential
    key_sha256: str
    session: str
    headers: Mapping[str, str]
    body_sha256: str
    model: str = ""
    is_streamed: bool = False
    prompt: str = ""
    step: int | None = None


def key_sha256(key: str) -> str:
    """Return what `Asked.key_sha256` says of `key`."""
    return hashlib.sha256(key.encode()).hexdigest()


class ScriptedModel:
    """A loopback server that answers as the Messages API does.

    Attributes:
        requests: What was asked, oldest first; the last thousand.
        bodies: The last twenty bodies of `/v1/messages`, parsed.
        keys: Credentials that are accepted; None accepts any.
        always: When set, every answer is this step, whatever the prompt says.
        inflight: Answers of `/v1/messages` that are being given now.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        keys: frozenset[str] | None = None,
        recipes: Sequence[Recipe] = (),
    ) -> None:
        self.requests: deque[Asked] = deque(maxlen=1000)
        self.bodies: deque[dict[str, object]] = deque(maxlen=20)
        self.keys = keys
        self.always: Step | None = None
        self.inflight = 0
        self.url = ""
        self._host, self._port = host, port
        self._recipes = tuple(recipes)
        self._tried: Counter[Hashable] = Counter()
        app = web.Application(client_max_size=REQUEST_MAX_BYTES)
        app.router.add_post("/v1/messages", self._messages)
        app.router.add_post("/v1/messages/count_tokens", self._count_tokens)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/", self._alive)
        self._runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1
        )

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._runner.cleanup()

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        asked = _asked(request, body)
        self.requests.append(asked)
        if (refused := self._refused(asked)) is not None:
            return refused
        try:
            raw = json.loads(body)
            talk = Talk.of(raw)
            script = find_script(talk.prompt)
        except (ScriptError, ValueError, TypeError) as error:
            return _failure(400, "invalid_request_error", str(error))
        self.bodies.append(raw)
        asked = replace(
            asked,
            model=talk.model,
            is_streamed=talk.is_streamed,
            prompt=talk.prompt,
            step=None if script is None else talk.answered,
        )
        self.requests[-1] = asked
        step = self._step(asked, talk, script)
        self.inflight += 1
        try:
            return await _play(request, step, talk, asked_bytes=len(body))
        finally:
            self.inflight -= 1

    def _step(self, asked: Asked, talk: Talk, script: Sequence[Step] | None) -> Step:
        """Choose what to say, and whether it goes wrong this time."""
        if self.always is not None:
            return self._this_time(self.always, id(self.always))
        if script is None:
            return improvise(talk, self._recipes)
        if talk.answered >= len(script):
            return Step(blocks=(say("Done."),))
        key = (asked.session, talk.asked_at, talk.prompt, talk.answered)
        return self._this_time(script[talk.answered], key)

    def _this_time(self, step: Step, key: Hashable) -> Step:
        self._tried[key] += 1
        is_over = step.times is not None and self._tried[key] > step.times
        return step.healed() if is_over else step

    async def _count_tokens(self, request: web.Request) -> web.Response:
        body = await request.read()
        asked = _asked(request, body)
        self.requests.append(asked)
        if (refused := self._refused(asked)) is not None:
            return refused
        return web.json_response({"input_tokens": max(1, len(body) // 4)})

    async def _models(self, request: web.Request) -> web.Response:
        asked = _asked(request, b"")
        self.requests.append(asked)
        if (refused := self._refused(asked)) is not None:
            return refused
        data = [_model(name) for name in MODELS]
        body = {"data": data, "has_more": False, "first_id": MODELS[0], "last_id": MODELS[-1]}
        return web.json_response(body)

    async def _alive(self, request: web.Request) -> web.Response:
        self.requests.append(_asked(request, b""))
        return web.Response()

    def _refused(self, asked: Asked) -> web.Response | None:
        if self.keys is None or asked.key_sha256 in {key_sha256(key) for key in self.keys}:
            return None
        return _failure(401, "authentication_error", f"invalid {asked.credential}")


def _asked(request: web.Request, body: bytes) -> Asked:
    headers = {name.lower(): value for name, value in request.headers.items()}
    bearer = headers.pop("authorization", "").removeprefix("Bearer ")
    key = headers.pop("x-api-key", "")
    return Asked(
        method=request.method,
        path=request.path_qs,
        credential="x-api-key" if key else "bearer" if bearer else "none",
        key_sha256=key_sha256(key or bearer),
        session=headers.get("x-claude-code-session-id", ""),
        headers=headers,
        body_sha256=hashlib.sha256(body).hexdigest(),
    )


def _failure(
    status: int, error: str, message: str, headers: Mapping[str, str] | None = None
) -> web.Response:
    body = {"type": "error", "error": {"type": error, "message": message}, "request_id": REQUEST_ID}
    return web.json_response(
        body, status=status, headers={"request-id": REQUEST_ID, **(headers or {})}
    )


def _model(name: str) -> dict[str, object]:
    return {
        "id": name,
        "type": "model",
        "display_name": name,
        "created_at": "2026-10-01T00:00:00Z",
        "lifecycle": "active",
    }


async def _play(
    request: web.Request, step: Step, talk: Talk, *, asked_bytes: int
) -> web.StreamResponse:
    await asyncio.sleep(step.ttfb_s)
    headers = dict(step.headers)
    if step.status is not None:
        if step.retry_after_s is not None:
            headers["retry-after"] = f"{step.retry_after_s:g}"
        return _failure(step.status, step.error, step.message, headers)
    if step.cut_after == 0:
        return _cut(request, web.StreamResponse())
    if step.stall_after == 0:
        await asyncio.Event().wait()
    whole = message(
        step, message_id=f"msg_{uuid.uuid4().hex[:20]}", model=talk.model, asked_bytes=asked_bytes
    )
    headers["request-id"] = REQUEST_ID
    if not talk.is_streamed:
        return web.json_response(whole, headers=headers)
    response = web.StreamResponse(headers={"content-type": "text/event-stream", **headers})
    await response.prepare(request)
    pieces = 0
    for frame in frames(step, whole):
        await response.write(frame.encode())
        pieces += frame.is_piece
        if frame.is_piece and pieces == step.cut_after:
            return _cut(request, response)
        if frame.is_piece and pieces == step.stall_after:
            await asyncio.Event().wait()
        if frame.delay_s:
            await asyncio.sleep(frame.delay_s)
    await response.write_eof()
    return response


def _cut(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """Drop the connection without a goodbye."""
    if request.transport is not None:
        request.transport.abort()
    return response
