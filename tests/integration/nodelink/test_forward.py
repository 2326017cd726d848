"""The forward for containers: two doors, bodies streamed both ways, nothing else."""

import asyncio
import gzip
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from agent.forward import Forward
from tests.fakes.serving import until

TOKEN = {"Authorization": "Bearer workspace"}


@dataclass
class Upstream:
    """A control plane that notes what it is asked."""

    url: str = ""
    seen: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    parts: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)
    received: list[bytes] = field(default_factory=list)
    cancelled: int = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        match request.path.rsplit("/", 1)[1]:
            case "events":
                return await self._events(request)
            case "upload":
                async for chunk in request.content.iter_any():
                    self.received.append(chunk)
                return web.Response(text="taken")
            case "zipped":
                headers = {"Content-Encoding": "gzip", "Set-Cookie": "a=b"}
                return web.Response(body=gzip.compress(b"hello"), headers=headers, status=418)
            case "cut":
                response = web.StreamResponse(headers={"Content-Length": "100"})
                await response.prepare(request)
                await response.write(b"half")
                assert request.transport is not None
                request.transport.abort()
                return response
        body = await request.read()
        self.seen.append((request.method, request.raw_path, dict(request.headers), body))
        return web.Response(text="ok")

    async def _events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            while part := await self.parts.get():
                await response.write(part)
        except (asyncio.CancelledError, ConnectionError):
            self.cancelled += 1
            raise
        return response


@asynccontextmanager
async def running(make: Callable[[], web.Application]) -> AsyncGenerator[str]:
    runner = web.AppRunner(make(), handler_cancellation=True, auto_decompress=False)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture
async def upstream() -> AsyncGenerator[Upstream]:
    seen = Upstream()

    def app() -> web.Application:
        made = web.Application()
        made.router.add_route("*", "/{any:.*}", seen.answer)
        return made

    async with running(app) as url:
        seen.url = url
        yield seen


@asynccontextmanager
async def forwarding(upstream: str, state: Path, **more: float) -> AsyncGenerator[Forward]:
    forward = Forward(upstream=upstream, address="127.0.0.1", state=state, **more)
    async with forward.serving():
        yield forward


@pytest.fixture
async def forward(upstream: Upstream, tmp_path: Path) -> AsyncGenerator[Forward]:
    async with forwarding(upstream.url, tmp_path) as made:
        yield made


@pytest.fixture
async def client(forward: Forward) -> AsyncGenerator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(forward.url, auto_decompress=False) as made:
        yield made


async def test_a_request_arrives_as_it_was_sent(
    client: aiohttp.ClientSession, upstream: Upstream
) -> None:
    headers = {
        **TOKEN,
        "X-Own": "1",
        "Content-Encoding": "gzip",
        "Connection": "X-Hop",
        "X-Hop": "1",
    }
    body = gzip.compress(b"pack")
    async with client.post("/git/a%2Fb.git/x?q=%20", data=body, headers=headers) as answer:
        assert (answer.status, await answer.text()) == (200, "ok")
    [(method, path, seen, content)] = upstream.seen
    assert (method, path, content) == ("POST", "/git/a%2Fb.git/x?q=%20", body)
    assert (seen["X-Own"], seen["Content-Encoding"]) == ("1", "gzip")
    assert seen["Content-Length"] == str(len(body))
    assert seen["Authorization"] == "Bearer workspace"
    assert "X-Hop" not in seen


async def test_an_answer_arrives_as_it_was_given(client: aiohttp.ClientSession) -> None:
    async with client.get("/llm/zipped", headers=TOKEN) as answer:
        assert answer.status == 418
        assert answer.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(await answer.read()) == b"hello"


async def test_both_bodies_are_streamed(client: aiohttp.ClientSession, upstream: Upstream) -> None:
    async with client.get("/llm/events", headers=TOKEN) as answer:
        for part in (b"one", b"two"):
            upstream.parts.put_nowait(part)
            assert await answer.content.readany() == part
        upstream.parts.put_nowait(b"")
        assert await answer.content.readany() == b""
    gate = asyncio.Event()

    async def body() -> AsyncGenerator[bytes]:
        yield b"first"
        await gate.wait()
        yield b"second"

    async def opened() -> None:
        await until(lambda: upstream.received)
        gate.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(opened())
        async with client.post("/git/upload", data=body(), headers=TOKEN) as answer:
            assert await answer.text() == "taken"
    assert b"".join(upstream.received) == b"firstsecond"


async def test_an_abort_is_passed_on(client: aiohttp.ClientSession, upstream: Upstream) -> None:
    answer = await client.get("/llm/events", headers=TOKEN)
    upstream.parts.put_nowait(b"one")
    await answer.content.readany()
    answer.close()
    upstream.parts.put_nowait(b"two")
    await until(lambda: upstream.cancelled or upstream.parts.put_nowait(b"more"))


async def test_half_an_answer_does_not_look_like_a_whole_one(
    client: aiohttp.ClientSession,
) -> None:
    with pytest.raises(aiohttp.ClientError):
        async with client.get("/llm/cut", headers=TOKEN) as answer:
            await answer.read()


async def test_c1_there_are_two_doors_and_they_want_a_token(
    client: aiohttp.ClientSession, upstream: Upstream
) -> None:
    async with client.post("/git/x", data=b"y" * 10**6) as answer:
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Basic")
    for path in ("/", "/api/v1/tasks", "/node/v1/link", "/gitx/y", "/llm"):
        async with client.get(path, headers=TOKEN) as answer:
            assert answer.status == 404, path
    for path in ("/git/../api/v1/tasks", "/git/%2e%2e/api", "/llm/x/..%2f..%2fapi"):
        status = await _raw(client, path)
        assert status in {400, 404}, path
    assert upstream.seen == []


async def _raw(client: aiohttp.ClientSession, path: str) -> int:
    assert client._base_url is not None
    reader, writer = await asyncio.open_connection(client._base_url.host, client._base_url.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t\r\n\r\n".encode())
    status = int((await reader.readline()).split()[1])
    writer.close()
    await writer.wait_closed()
    return status


async def test_w7_a_request_waits_for_a_control_plane_that_starts_again(
    tmp_path: Path, kept_port: int
) -> None:
    seen = Upstream()
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", seen.answer)
    runner = web.AppRunner(app, auto_decompress=False)
    async with (
        forwarding(f"http://127.0.0.1:{kept_port}", tmp_path) as forward,
        aiohttp.ClientSession(forward.url) as client,
        asyncio.TaskGroup() as group,
    ):
        asking = group.create_task(client.post("/llm/x", data=b"words", headers=TOKEN))
        await asyncio.wait({asking}, timeout=0.5)
        assert not asking.done(), "it waits"
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", kept_port).start()
        async with await asking as answer:
            assert answer.status == 200
    await runner.cleanup()
    assert [body for *_, body in seen.seen] == [b"words"]


async def test_a_control_plane_that_stays_away_is_a_502(tmp_path: Path) -> None:
    async with (
        forwarding("http://127.0.0.1:1", tmp_path, away_s_max=0.0) as forward,
        aiohttp.ClientSession(forward.url) as client,
        client.get("/llm/x", headers=TOKEN) as answer,
    ):
        assert answer.status == 502


async def test_w7_the_next_life_has_the_same_address(tmp_path: Path, upstream: Upstream) -> None:
    async with forwarding(upstream.url, tmp_path) as first:
        url = first.url
    async with forwarding(upstream.url, tmp_path) as second:
        assert second.url == url
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(url.rsplit(":", 1)[1])))
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(_url(tmp_path))
            await asyncio.sleep(0.05)
            assert not waiting.done(), "containers know the old port: no other one will do"
            taken.close()
        assert waiting.result() == url


async def _url(state: Path) -> str:
    async with forwarding("http://127.0.0.1:1", state) as forward:
        return forward.url
