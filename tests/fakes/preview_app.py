"""An app as people develop one: pages, streams, WebSockets, and answers that break off."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import WSMsgType, web

PIECE = b"0123456789abcdef" * 4096


@dataclass
class App:
    """What it saw. `go` lets an answer go on that waits."""

    port: int = 0
    heads: list[dict[str, str]] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    closed: list[tuple[int | None, str]] = field(default_factory=list)
    gone: int = 0
    taken: int = 0
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def page(self, request: web.Request) -> web.Response:
        self.targets.append(request.raw_path)
        self.heads.append({name.lower(): text for name, text in request.headers.items()})
        body = await request.read()
        answer = web.json_response(
            {
                "method": request.method,
                "target": request.raw_path,
                "sha256": hashlib.sha256(body).hexdigest(),
                "size": len(body),
            }
        )
        answer.headers["Set-Cookie"] = "theirs=1; Domain=localhost; Path=/"
        answer.headers["Connection"] = "X-Hop"
        answer.headers["X-Hop"] = "no"
        return answer

    async def html(self, _: web.Request) -> web.Response:
        text = "<!doctype html><title>Shop</title><h1>The shop</h1>"
        return web.Response(text=text, content_type="text/html")

    async def take(self, request: web.Request) -> web.Response:
        digest = hashlib.sha256()
        async for piece in request.content.iter_any():
            digest.update(piece)
            self.taken += len(piece)
        return web.Response(text=f"{self.taken} {digest.hexdigest()}")

    async def take_late(self, request: web.Request) -> web.Response:
        await self.go.wait()
        return await self.take(request)

    async def give(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        for _ in range(int(request.query["pieces"])):
            await answer.write(PIECE)
            self.taken += len(PIECE)
        return answer

    async def events(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        try:
            for number in range(1000):
                await answer.write(f"data: {number}\n\n".encode())
                await self.go.wait()
                self.go.clear()
        except (ConnectionError, asyncio.CancelledError):
            self.gone += 1
            raise
        return answer

    async def break_off(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": "100"})
        await answer.prepare(request)
        await answer.write(b"half")
        assert request.transport is not None
        request.transport.abort()
        return answer

    async def close_after(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": "2"})
        await answer.prepare(request)
        await answer.write(b"ok")
        await answer.write_eof()
        assert request.transport is not None
        request.transport.close()  # Without a word: the next request finds out.
        return answer

    async def hang_up(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def refuse_early(self, request: web.Request) -> web.Response:
        return web.Response(status=413, text="too much", headers={"Connection": "close"})

    async def socket(self, request: web.Request) -> web.StreamResponse:
        if request.query.get("no"):
            return web.Response(status=418, text="no tea")
        socket = web.WebSocketResponse(protocols=("tea", "coffee"), max_msg_size=0)
        await socket.prepare(request)
        self.heads.append({name.lower(): text for name, text in request.headers.items()})
        async for message in socket:
            if message.type is WSMsgType.BINARY:
                await socket.send_bytes(message.data)
            elif message.data == "bye":
                await socket.close(code=4001, message=b"as you said")
            elif message.data == "drop":
                assert request.transport is not None
                request.transport.abort()
            else:
                await socket.send_str(message.data)
        reason = getattr(socket, "_close_reason", "")
        self.closed.append((socket.close_code, reason))
        return socket


@asynccontextmanager
async def an_app() -> AsyncIterator[App]:
    """Serve an app on a free port of loopback."""
    app = App()
    server = web.Application(client_max_size=1 << 30)
    router = server.router
    router.add_get("/html", app.html)
    router.add_post("/take", app.take)
    router.add_post("/take-late", app.take_late)
    router.add_get("/give", app.give)
    router.add_get("/events", app.events)
    router.add_get("/break", app.break_off)
    router.add_get("/close", app.close_after)
    router.add_get("/hang-up", app.hang_up)
    router.add_post("/refuse", app.refuse_early)
    router.add_get("/socket", app.socket)
    router.add_route("*", "/{rest:.*}", app.page)
    runner = web.AppRunner(server, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    app.port = runner.addresses[0][1]
    try:
        yield app
    finally:
        await runner.cleanup()
