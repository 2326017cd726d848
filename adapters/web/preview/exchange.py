"""One request and its answer, streamed both ways at the slower side's pace; nothing is kept."""

import asyncio
from collections.abc import Callable

import h11
from starlette.types import Message, Receive, Send

from adapters.web.preview.headers import Raw
from adapters.web.preview.lines import CutError, Line
from adapters.web.preview.visits import GoneError

Back = Callable[[Raw], list[tuple[bytes, bytes]]]


class Answer:
    """What was sent to a browser so far."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_begun = False

    async def send(self, message: Message) -> None:
        """Send an ASGI event."""
        self.has_begun = True
        await self._send(message)


async def exchange(
    line: Line,
    request: h11.Request,
    receive: Receive,
    answer: Answer,
    *,
    back: Back,
    has_body: bool,
) -> None:
    """Pass a request on and its answer back.

    Raises:
        GoneError: The browser hung up.
        CutError: The app did, or said what is no HTTP.
    """
    try:
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(_pass_body(line, request, receive, has_body=has_body))
            await _pass_answer(line, answer, back)
            listening.cancel()
    except BaseExceptionGroup as group:
        if group.subgroup(GoneError) is not None:
            raise GoneError from None
        if group.subgroup((CutError, h11.RemoteProtocolError)) is not None:
            raise CutError from None
        raise


async def _pass_body(line: Line, request: h11.Request, receive: Receive, *, has_body: bool) -> None:
    """Say the request, then its body as it comes, and listen for the browser's end."""
    await line.say(request)
    is_whole = not has_body
    if is_whole:
        await line.say(h11.EndOfMessage())
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise GoneError
        if is_whole:
            continue
        if body := message.get("body", b""):
            await line.say(h11.Data(data=body))
        if not message.get("more_body", False):
            is_whole = True
            await line.say(h11.EndOfMessage())


async def _pass_answer(line: Line, answer: Answer, back: Back) -> None:
    while isinstance(event := await line.hear(), h11.InformationalResponse):
        pass
    assert isinstance(event, h11.Response)  # noqa: S101  h11 has no other order
    headers = back(event.headers)
    start = {"type": "http.response.start", "status": event.status_code, "headers": headers}
    await answer.send(start)
    while isinstance(event := await line.hear(), h11.Data):
        body = bytes(event.data)
        await answer.send({"type": "http.response.body", "body": body, "more_body": True})
    await answer.send({"type": "http.response.body", "body": b"", "more_body": False})
