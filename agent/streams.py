"""What the control plane asks for by ticket: bytes of this node, sent once; views of terminals."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from functools import partial
from pathlib import Path

import aiohttp

from agent import files
from agent.dial import ViewSocket, dial
from agent.errors import NodeError
from agent.rooms import Wanted
from core.link import LinkClosedError
from core.viewing import View
from core.wire import CLOSE_MISSING, STREAM_CHUNK_BYTES, OpenStream, Pipe, ViewTerminal

log = logging.getLogger(__name__)

CLOSE_BUSY = 1013
BUSY = "it does as much of this at once as it can"
REASON_BYTES_MAX = 123
"""A close frame has no room for more (RFC 6455, section 5.5)."""

Source = Callable[[OpenStream], AsyncGenerator[bytes]]
"""Yields what is wanted; `NodeError` before the first chunk says why there is nothing. Names come
from outside."""
Look = Callable[[ViewTerminal | Pipe, View], Awaitable[None]]
"""Serves whoever waits, over a connection, until one side ends it."""


def file_sources(layout: files.Layout) -> Mapping[str, Source]:
    """Return the files of a node that can be asked for, by `OpenStream.what`."""
    places: Mapping[str, Callable[[str], Path | None]] = {
        "build_log": lambda workspace: _newest(layout.workspaces / workspace / "logs"),
        "bundle": lambda name: layout.rescue / name,
        "rescue": layout.copy,
    }
    return {what: partial(_chunks, place) for what, place in places.items()}


def _newest(logs: Path) -> Path | None:
    return max(logs.glob("build-*.log"), key=lambda log: log.stat().st_mtime, default=None)


async def _chunks(place: Callable[[str], Path | None], wanted: OpenStream) -> AsyncGenerator[bytes]:
    try:
        file = place(files.plain(wanted.name))
    except ValueError:
        file = None
    if file is None or not file.is_file():
        raise NodeError("missing", f"no {wanted.what} {wanted.name}"[:100])
    with await asyncio.to_thread(file.open, "rb") as opened:
        opened.seek(max(0, wanted.offset_bytes))
        while chunk := await asyncio.to_thread(opened.read, STREAM_CHUNK_BYTES):
            yield chunk


class Streams:
    """Sends to whoever holds a ticket.

    Args:
        sources: What there is, by `OpenStream.what`.
    """

    def __init__(
        self,
        client: aiohttp.ClientSession,
        url: str,
        token: Callable[[], str],
        sources: Mapping[str, Source],
    ) -> None:
        self._client = client
        self._url = url
        self._token = token
        self._sources = sources

    async def serve(self, wanted: OpenStream) -> None:
        """Dial the ticket's address and send the bytes. A lost stream is the asker's business."""
        path = f"{self._url}/node/v1/stream/{wanted.ticket}"
        try:
            async with dial(self._client, path, self._token()) as socket:
                await self._answer(wanted, socket)
        except* (LinkClosedError, aiohttp.ClientError, OSError) as errors:
            reasons = "; ".join(str(error) for error in errors.exceptions)
            log.warning("stream.lost", extra={"what": wanted.what, "reason": reasons})
        except* Exception:  # Our own bug, in one stream: the link must not end for it.
            log.exception("stream.crashed", extra={"what": wanted.what})

    async def _answer(self, wanted: OpenStream, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Send what is wanted; only after all of it does the connection end as a good one."""
        code, reason = int(aiohttp.WSCloseCode.INTERNAL_ERROR), ""
        try:
            async with aclosing(self._open(wanted)) as chunks:
                try:
                    first = await anext(chunks, b"")
                except NodeError as error:
                    code, reason = CLOSE_MISSING, error.text
                else:
                    await _send(socket, first, chunks)
                    code = aiohttp.WSCloseCode.OK
        finally:
            told = reason.encode()[:REASON_BYTES_MAX].decode(errors="ignore")
            await socket.close(code=code, message=told.encode())

    def _open(self, wanted: OpenStream) -> AsyncGenerator[bytes]:
        nothing = partial(_chunks, lambda _name: None)
        return self._sources.get(wanted.what, nothing)(wanted)


class Views:
    """Serves whoever holds a ticket where both sides speak: a terminal, a port, a new file."""

    def __init__(
        self, client: aiohttp.ClientSession, url: str, token: Callable[[], str], look: Look
    ) -> None:
        self._client = client
        self._url = url
        self._token = token
        self._look = look

    async def serve(self, wanted: ViewTerminal | Pipe) -> None:
        """Dial the ticket's address and serve whoever waits there."""
        path = f"{self._url}/node/v1/stream/{wanted.ticket}"
        try:
            async with dial(self._client, path, self._token()) as socket:
                await self._look(wanted, ViewSocket(socket))
        except LinkClosedError as error:
            log.warning("view.lost", extra={"what": wanted.TYPE, "reason": str(error)})
        except Exception:  # Our own bug, in one view: the link must not end for it.
            log.exception("view.crashed", extra={"what": wanted.TYPE})


async def refuse(
    client: aiohttp.ClientSession, url: str, token: Callable[[], str], wanted: Wanted
) -> None:
    """Tell whoever waits for a ticket that there is no room for it now."""
    try:
        async with dial(client, f"{url}/node/v1/stream/{wanted.ticket}", token()) as socket:
            await socket.close(code=CLOSE_BUSY, message=BUSY.encode())
    except (LinkClosedError, OSError) as error:
        log.warning("stream.lost", extra={"what": wanted.TYPE, "reason": str(error)})


async def _send(
    socket: aiohttp.ClientWebSocketResponse, first: bytes, rest: AsyncGenerator[bytes]
) -> None:
    async with asyncio.TaskGroup() as group:
        listening = group.create_task(socket.receive())  # Notices that nobody wants the rest.
        if first:
            await socket.send_bytes(first)
        async for chunk in rest:
            if listening.done():
                return
            await socket.send_bytes(chunk)
        listening.cancel()
