"""Requests and answers of ASGI, as the model proxy reads and writes them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
from starlette.types import Message, Receive, Scope, Send

from adapters.anthropic import answers
from adapters.anthropic.answers import Refusal

HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer"}
    | {"transfer-encoding", "upgrade", "host", "content-length", "expect"}
)
OURS = frozenset({"authorization", "x-api-key", "accept-encoding"})
Headers = list[tuple[str, str]]
RawHeaders = list[tuple[bytes, bytes]]


class ClientGone(Exception):  # noqa: N818 - what happened; it never leaves the proxy
    """The workspace hung up."""


@dataclass(slots=True, kw_only=True)
class Heard:
    """A workspace that listens to an answer until it hangs up or has heard all of it."""

    receive: Receive
    send: Send
    has_all: bool = False

    async def say(self, event: Message) -> None:
        """Send an ASGI event."""
        is_body = event["type"] == "http.response.body"
        self.has_all = is_body and not event.get("more_body", False)
        await self.send(event)

    async def until_gone(self) -> None:
        """Wait for the hang-up.

        Raises:
            ClientGone: If the answer was not complete.
        """
        while (await self.receive())["type"] != "http.disconnect":
            pass
        if not self.has_all:
            raise ClientGone


async def read_body(receive: Receive, bytes_max: int) -> bytes | Refusal:
    """Return the whole body.

    Raises:
        ClientGone: If the workspace hung up before its end.
    """
    parts, size = [], 0
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise ClientGone
        parts.append(event.get("body", b""))
        size += len(parts[-1])
        if size > bytes_max:
            return answers.too_large(bytes_max)
        if not event.get("more_body", False):
            return b"".join(parts)


def parsed(body: bytes) -> Mapping[str, object] | Refusal:
    """Return the JSON object that `body` is, if every reader would read the same one."""
    try:
        asked = json.loads(body, object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError):
        return answers.NOT_READABLE
    return asked if isinstance(asked, dict) else answers.NOT_READABLE


def _without_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def token(headers: Headers) -> str:
    """Return the workspace token of a request, empty if there is none."""
    found = dict(headers)
    bearer = found.get("authorization", "")
    return bearer.removeprefix("Bearer ").strip() or found.get("x-api-key", "")


def request_headers(scope: Scope) -> Headers:
    """Return the headers of a request, names in lower case."""
    return [
        (name.decode("latin-1").lower(), value.decode("latin-1"))
        for name, value in scope["headers"]
    ]


def passed_on(headers: Headers) -> Headers:
    """Return what goes on to the upstream: not what is for this hop, and no credential."""
    named = ",".join(value for name, value in headers if name == "connection").lower()
    dropped = HOP_BY_HOP | OURS | {name.strip() for name in named.split(",")}
    return [(name, value) for name, value in headers if name not in dropped]


def answer_headers(answer: aiohttp.ClientResponse) -> RawHeaders:
    """Return the upstream's headers as they are to be passed on."""
    return [
        (name.lower(), value)
        for name, value in answer.raw_headers
        if name.lower().decode("latin-1") not in HOP_BY_HOP
    ]


def start(status: int, headers: RawHeaders) -> Message:
    """Return the event that begins an answer."""
    return {"type": "http.response.start", "status": status, "headers": headers}


async def send_whole(send: Send, status: int, headers: RawHeaders, body: bytes) -> None:
    """Answer in one piece."""
    length = (b"content-length", str(len(body)).encode())
    await send(start(status, [*headers, length]))
    await send({"type": "http.response.body", "body": body})


async def refuse(send: Send, refusal: Refusal) -> None:
    """Answer with an error."""
    headers = [(name.encode(), value.encode()) for name, value in refusal.headers.items()]
    headers.append((b"content-type", b"application/json"))
    await send_whole(send, refusal.status, headers, refusal.body())
