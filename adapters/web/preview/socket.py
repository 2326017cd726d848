"""One WebSocket of an app: messages pass both ways, and how it ended."""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from starlette.types import Message, Receive, Scope, Send
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidState, ProtocolError
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import Event, State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from adapters.web.preview.exchange import Back
from adapters.web.preview.headers import Raw
from adapters.web.preview.lines import CutError
from adapters.web.preview.visits import GoneError
from core.viewing import View, ViewClosedError
from core.wire import STREAM_CHUNK_BYTES

MESSAGE_BYTES_MAX = 1 << 24
"""As much as our own server takes from a browser at once."""
BAD_GATEWAY = 1014
"""https://www.iana.org/assignments/websocket: the app's side broke off."""
GOING = 1001
ANSWER_S_MAX = 60.0
"""How long an app may take to say yes or no to a WebSocket."""
CLOSE_S = 2.0
"""How long an app may take to answer the end of a WebSocket."""
PONGS_MAX = 1000
"""So many pings of an app that reads nothing are answered later; then it is not heard either."""
_NO_STATUS = 1005


class _App:
    """The app's end."""

    def __init__(self, pipe: View, port: int, subprotocols: Sequence[str]) -> None:
        self.protocol = ClientProtocol(
            parse_uri(f"ws://localhost:{port}/"),
            subprotocols=[Subprotocol(name) for name in subprotocols] or None,
            max_size=MESSAGE_BYTES_MAX,
        )
        self._pipe = pipe
        self._heard: deque[Event] = deque()
        self._sending = asyncio.Lock()
        self._owes = asyncio.Event()

    async def ask(self, target: str, headers: Raw) -> Response | None:
        """Say the request and return the answer; None if there is none."""
        request = self.protocol.connect()
        request.path = target
        for name, value in headers:
            key = name.decode("latin-1")
            if key not in request.headers and not key.startswith("sec-websocket-"):
                request.headers[key] = value.decode("latin-1")
        self.protocol.send_request(request)
        with suppress(ViewClosedError):
            await self.flush()
        answer = await self.hear()
        return answer if isinstance(answer, Response) else None

    async def flush(self) -> None:
        """Send what is to be sent."""
        async with self._sending:
            data = b"".join(self.protocol.data_to_send())
            for at in range(0, len(data), STREAM_CHUNK_BYTES):
                await self._pipe.send(data[at : at + STREAM_CHUNK_BYTES])

    async def hear(self) -> Event | None:
        """Return what the app says next; None after the end of its connection.

        Waits for nothing else: an app that reads only when it was heard is heard.
        """
        while not self._heard and not self._is_over():
            try:
                self.protocol.receive_data(await self._pipe.receive())
                if len(self.protocol.writes) > PONGS_MAX:
                    await self.flush()
            except ViewClosedError:
                self.protocol.receive_eof()
            self._heard += self.protocol.events_received()
            if self.protocol.writes:
                self._owes.set()
        return self._heard.popleft() if self._heard else None

    async def answer(self) -> None:
        """Send what the protocol itself answers, such as pongs, until cancelled."""
        with suppress(ViewClosedError):
            while True:
                await self._owes.wait()
                self._owes.clear()
                await self.flush()

    def _is_over(self) -> bool:
        return self.protocol.handshake_exc is not None or self.protocol.state is State.CLOSED


async def pass_socket(
    pipe: View, scope: Scope, receive: Receive, send: Send, *, port: int, headers: Raw, back: Back
) -> None:
    """Ask the app for a WebSocket and pass messages until one side ends it.

    Raises:
        CutError: The app gave no answer; nothing was said to the browser.
        GoneError: The browser did not wait for one.
    """
    app = _App(pipe, port, scope["subprotocols"])
    target = scope["raw_path"].decode("latin-1")
    if scope["query_string"]:
        target += f"?{scope['query_string'].decode('latin-1')}"
    answer = await _answer(app, target, headers, receive)
    told = [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in answer.headers.raw_items()
        if not name.lower().startswith("sec-websocket-")
    ]
    if app.protocol.handshake_exc is not None:
        await _deny(send, answer, [pair for pair in back(told) if pair[0] != b"content-length"])
        return
    cookies = [pair for pair in back(told) if pair[0] == b"set-cookie"]
    subprotocol = app.protocol.subprotocol
    await send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": cookies})
    with _without_gone():
        async with asyncio.TaskGroup() as group:
            upward = [group.create_task(_pass_up(app, receive)), group.create_task(app.answer())]
            await _pass_down(app, send)
            for task in upward:
                task.cancel()


async def _answer(app: _App, target: str, headers: Raw, receive: Receive) -> Response:
    """Return what the app says to a browser that waits for it; see `pass_socket`."""

    async def leaving() -> None:
        await receive()
        raise GoneError

    await receive()  # websocket.connect
    try:
        async with asyncio.timeout(ANSWER_S_MAX), asyncio.TaskGroup() as group:
            gone = group.create_task(leaving())
            answer = await app.ask(target, headers)
            gone.cancel()
    except TimeoutError:
        raise CutError from None
    except BaseExceptionGroup as group:
        raise (group.split(GoneError)[1] or GoneError()) from None
    if answer is None:
        raise CutError
    return answer


@contextmanager
def _without_gone() -> Iterator[None]:
    """Let a browser go that ended its WebSocket, or was lost."""
    try:
        yield
    except BaseExceptionGroup as group:
        if (rest := group.split((GoneError, OSError))[1]) is not None:
            raise rest from None


async def _deny(send: Send, answer: Response, headers: Raw) -> None:
    """Pass the app's no on; an answer that says yes and is none becomes a bad gateway."""
    status = answer.status_code if answer.status_code >= 200 else 502
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    body = bytes(answer.body or b"")
    await send({"type": "websocket.http.response.body", "body": body, "more_body": False})


async def _pass_up(app: _App, receive: Receive) -> None:
    """Pass on what the browser says, and its end.

    Raises:
        GoneError: It has ended, and the app had time to say so too.
    """
    try:
        while (message := await receive())["type"] == "websocket.receive":
            if (text := message.get("text")) is not None:
                app.protocol.send_text(text.encode())
            else:
                app.protocol.send_binary(message["bytes"])
            await app.flush()
        _close(app, message)
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await app.flush()
    except (ViewClosedError, InvalidState):
        return  # The app has ended it: whoever listens to it knows how.
    await asyncio.sleep(CLOSE_S)
    raise GoneError


def _close(app: _App, message: Message) -> None:
    if app.protocol.state is not State.OPEN:
        return
    code = message.get("code") or _NO_STATUS
    if code == _NO_STATUS:
        app.protocol.send_close()
        return
    try:
        app.protocol.send_close(code, message.get("reason") or "")
    except ProtocolError:  # 1006 and the like cannot be said.
        app.protocol.send_close(GOING)


async def _pass_down(app: _App, send: Send) -> None:
    """Pass on what the app says, and its end."""
    parts: list[bytes] = []
    kind = "bytes"
    while (event := await app.hear()) is not None:
        assert isinstance(event, Frame)  # noqa: S101  the answer was heard before
        if event.opcode in {Opcode.TEXT, Opcode.BINARY}:
            kind = "text" if event.opcode is Opcode.TEXT else "bytes"
        elif event.opcode is not Opcode.CONT:
            continue
        parts.append(bytes(event.data))
        if event.fin:
            whole = b"".join(parts)
            said: str | bytes = whole.decode("utf-8", "replace") if kind == "text" else whole
            await send({"type": "websocket.send", kind: said})
            parts = []
    closed = app.protocol.close_rcvd
    code = BAD_GATEWAY if closed is None else int(closed.code)
    code = 1000 if code == _NO_STATUS else code
    reason = "" if closed is None else closed.reason
    await send({"type": "websocket.close", "code": code, "reason": reason})
