"""A TCP forward on loopback that can swallow everything without closing anything."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit


class BlackHole:
    def __init__(self, host: str, port: int) -> None:
        self.url = ""
        self._to = (host, port)
        self._is_open = asyncio.Event()
        self._is_open.set()
        self._lost: set[asyncio.Task[object]] = set()

    def swallow(self) -> None:
        """From now on nothing passes, on old and new connections; no end hears of it."""
        self._is_open.clear()

    def heal(self) -> None:
        """New connections pass; what was swallowed stays lost."""
        for task in self._lost:
            task.cancel()
        self._is_open.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._lost.add(task)
        with suppress(asyncio.CancelledError, OSError):
            there, back = await asyncio.open_connection(*self._to)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pump(reader, back))
                    group.create_task(self._pump(there, writer))
            finally:
                writer.transport.abort()
                back.transport.abort()
                self._lost.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if not self._is_open.is_set():
                await asyncio.Event().wait()
            writer.write(data)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def black_hole(url: str) -> AsyncGenerator[BlackHole]:
    """Stand before `url`."""
    parts = urlsplit(url)
    hole = BlackHole(parts.hostname or "", parts.port or 0)
    server = await asyncio.start_server(hole.serve, "127.0.0.1", 0)
    hole.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield hole
    finally:
        server.close()
        hole.heal()
