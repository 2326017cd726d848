"""The command line's way to a running `samovar serve`: `/api/v1` over the unix socket."""

import json
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import quote

import aiohttp

from core.errors import (
    ForbiddenError,
    NotFoundError,
    OutsideError,
    QuotaError,
    UserError,
)
from core.viewing import FRAME_BYTES_MAX, View, ViewClosedError

TIMEOUT_S = 30.0
"""Longest wait for an answer; streams have none."""
CLOSE_S = 2.0
"""Longest wait for the other side's word when a stream is closed."""
LINE_BYTES_MAX = 32 * 1024 * 1024
"""Longest line of a stream: a coding agent's event, which a node cuts at 16 MiB."""

_KINDS = {403: ForbiddenError, 404: NotFoundError, 429: QuotaError}


class ServerError(OutsideError):
    """The server cannot do it now; its own sentence is the message, its own code the code."""

    code = "no_answer"

    def __init__(self, sentence: str, *, code: str | None = None) -> None:
        super().__init__("Samovar", sentence, code=code)
        self.sentence = sentence

    def __str__(self) -> str:
        return self.sentence


class NotRunningError(ServerError):
    """Nobody listens in the state folder."""

    code = "not_running"

    def __init__(self) -> None:
        super().__init__("Samovar is not running here. Start it with: samovar serve")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One server-sent event."""

    kind: str
    id: str
    data: dict[str, Any]


class Client:
    """A conversation with the server that runs in `state`."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            "http://samovar",
            connector=aiohttp.UnixConnector(str(self._socket), limit=0),
            read_bufsize=LINE_BYTES_MAX,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._opened.close()

    @property
    def _opened(self) -> aiohttp.ClientSession:
        assert self._http is not None, "use `async with`"  # noqa: S101
        return self._http

    async def get(self, *path: str, **query: str | int) -> dict[str, Any]:
        """Read something. Path parts are escaped; the first is `tasks`, `nodes` and so on.

        Raises:
            UserError: The server will not do it; the message is its own.
            NotRunningError: There is no server.
        """
        return await self._ask("GET", path, params={k: str(v) for k, v in query.items()})

    async def post(self, *path: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:
        """Ask for something; see `get`."""
        return await self._ask("POST", path, json=None if body is None else dict(body))

    async def delete(self, *path: str, **query: str) -> None:
        """Remove something; see `get`."""
        await self._ask("DELETE", path, params=query)

    async def patch(self, *path: str, body: Mapping[str, object]) -> None:
        """Change something; see `get`."""
        await self._ask("PATCH", path, json=dict(body))

    async def send(self, *path: str, data: IO[bytes], **query: str) -> None:
        """Send a file, as it is read; see `get`. Nothing is sent that would be refused."""
        await self._ask("PUT", path, params=query, data=data, expect100=True, time_limit_s=None)

    async def receive(self, *path: str) -> AsyncGenerator[bytes, None]:
        """Yield what is in a file; see `get`.

        Raises:
            ServerError: Not all of it came.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_read=TIMEOUT_S)
        with _translated():
            async with self._opened.get(_url(path), timeout=timeout) as answer:
                if answer.status >= 400:
                    raise _error(answer.status, await answer.read())
                async for chunk in answer.content.iter_any():
                    yield chunk

    async def _ask(
        self,
        method: str,
        path: tuple[str, ...],
        *,
        time_limit_s: float | None = TIMEOUT_S,
        **more: Any,
    ) -> dict[str, Any]:
        timeout = aiohttp.ClientTimeout(total=time_limit_s)
        with _translated():
            async with self._opened.request(method, _url(path), timeout=timeout, **more) as answer:
                body = await answer.read()
        if answer.status >= 400:
            raise _error(answer.status, body)
        found: dict[str, Any] = json.loads(body) if body else {}
        return found

    @asynccontextmanager
    async def view(self, terminal: str, *, read_only: bool = False) -> AsyncGenerator[View]:
        """Look at a terminal for the length of a `with` block; see `get` and `core.viewing`."""
        try:
            socket = await self._opened.ws_connect(
                _url(("terminals", terminal, "view")),
                params={"read_only": "true"} if read_only else {},
                max_msg_size=FRAME_BYTES_MAX,
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_S),
            )
        except aiohttp.WSServerHandshakeError as error:
            raise _error(error.status, b"") from error
        except (OSError, aiohttp.ClientError) as error:
            raise NotRunningError from error
        try:
            yield _SocketView(socket)
        finally:
            await socket.close()

    async def read(self, *path: str) -> AsyncGenerator[bytes]:
        """Read a file, piece by piece; see `get`."""
        timeout = aiohttp.ClientTimeout(total=None, sock_read=60)
        try:
            async with self._opened.get(_url(path), timeout=timeout) as answer:
                if answer.status >= 400:
                    raise _error(answer.status, await answer.read())
                async for chunk in answer.content.iter_any():
                    yield chunk
        except (FileNotFoundError, ConnectionError, aiohttp.ClientConnectorError) as error:
            raise NotRunningError from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ServerError(f"The answer was cut ({type(error).__name__}).") from error

    async def events(self, *path: str, after: int) -> AsyncGenerator[Event, None]:
        """Yield what happens from now on and past `after`, until the server ends the stream."""
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
        timeout = aiohttp.ClientTimeout(total=None, sock_read=60)
        try:
            async with self._opened.get(_url(path), headers=headers, timeout=timeout) as answer:
                if answer.status >= 400:
                    raise _error(answer.status, await answer.read())
                kind, number = "", ""
                async for line in answer.content:
                    name, _, value = line.decode().rstrip("\n").partition(": ")
                    if name == "event":
                        kind = value
                    elif name == "id":
                        number = value
                    elif name == "data":
                        yield Event(kind=kind, id=number, data=json.loads(value))
        except (FileNotFoundError, ConnectionError, aiohttp.ClientError, TimeoutError) as error:
            raise NotRunningError from error


class _SocketView:
    """See `core.viewing.View`."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def send(self, message: bytes) -> None:
        """See `View.send`."""
        try:
            await self._socket.send_bytes(message)
        except (aiohttp.ClientError, OSError) as error:
            raise ViewClosedError(self._socket.close_code or 1006) from error

    async def receive(self) -> bytes:
        """See `View.receive`."""
        message = await self._socket.receive()
        if message.type is not aiohttp.WSMsgType.BINARY:
            raise ViewClosedError(self._socket.close_code or 1006, str(message.extra or ""))
        return bytes(message.data)

    async def close(self, code: int, reason: str) -> None:
        """See `View.close`."""
        await self._socket.close(code=code, message=reason.encode())


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, ConnectionError, aiohttp.ClientConnectorError) as error:
        raise NotRunningError from error
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ServerError(f"Samovar does not answer ({type(error).__name__}).") from error


def _url(path: tuple[str, ...]) -> str:
    return "/api/v1/" + "/".join(quote(part, safe="") for part in path)


def _error(status: int, body: bytes) -> UserError | OutsideError:
    """Return the server's refusal as the error that it was there."""
    try:
        problem = json.loads(body)
    except ValueError:
        problem = {}
    detail = str(problem.get("detail") or f"HTTP {status}")
    code = str(problem.get("title") or "not_possible")
    if status >= 500:
        return ServerError(detail, code=code)
    return _KINDS.get(status, UserError)(detail, code=code)
