"""A reader of server-sent events that can break off and come back."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import aiohttp


@dataclass(frozen=True)
class Sent:
    """One event as a browser would see it."""

    kind: str
    id: str
    data: str


async def events(
    http: aiohttp.ClientSession, url: str, *, last: str = "", **more: Any
) -> AsyncGenerator[Sent, None]:
    """Yield the events of `url`, from `last` on."""
    headers = {"Accept": "text/event-stream", **more.pop("headers", {})}
    if last:
        headers["Last-Event-ID"] = last
    timeout = aiohttp.ClientTimeout(total=60)
    async with http.get(url, headers=headers, timeout=timeout, **more) as answer:
        assert answer.status == 200, await answer.text()
        kind, number, lines = "message", "", list[str]()
        async for raw in answer.content:
            line = raw.decode().rstrip("\n")
            name, _, value = line.partition(": ")
            if not line and lines:
                yield Sent(kind, number, "\n".join(lines))
                kind, number, lines = "message", "", []
            elif name == "data":
                lines.append(value)
            elif name == "event":
                kind = value
            elif name == "id":
                number = value


async def until(stream: AsyncGenerator[Sent, None], wanted: str) -> list[Sent]:
    """Read until an event whose data has `wanted` in it; return all that were read."""
    seen: list[Sent] = []
    async with asyncio.timeout(60):
        async for sent in stream:
            seen.append(sent)
            if wanted in sent.data:
                return seen
    raise AssertionError(f"the stream ended without {wanted!r}")
