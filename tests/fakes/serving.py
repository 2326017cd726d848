"""A real uvicorn on a free port for the length of a `with` block, and a wait with a deadline."""

import asyncio
import random
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave the signals to the test."""
        yield


@asynccontextmanager
async def serving(app: ASGIApp, *, at: str = "/node/v1") -> AsyncGenerator[str]:
    """Serve `app` below `at`; give the address without the path."""
    whole = Starlette(routes=[Mount(at, app=app)])
    config = uvicorn.Config(
        whole,
        port=0,
        log_level="error",
        lifespan="off",
        ws="websockets-sansio",
        ws_ping_interval=None,
        timeout_graceful_shutdown=1,
    )
    server = _Server(config)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(server.serve())
        await until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            await task


def free_port() -> int:
    """Return a port to serve on later: below those that outgoing connections are given."""
    while True:
        port = random.randrange(16_384, 32_768)
        with suppress(OSError), socket.socket() as free:
            free.bind(("127.0.0.1", port))
            return port


async def until(
    condition: Callable[[], object | Awaitable[object]], *, within_s: float = 60
) -> None:
    """Wait until `condition()` is true; fail after `within_s`."""
    try:
        async with asyncio.timeout(within_s):
            while True:
                found = condition()
                if isinstance(found, Awaitable):
                    found = await found
                if found:
                    return
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"not within {within_s} s") from None
