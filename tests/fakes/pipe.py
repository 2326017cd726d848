"""A pair of channels in memory that can be cut or go silent."""

import asyncio

from core.link import LinkClosedError


class PipeEnd:
    """A `core.link.Channel`. `is_black_hole`: what is sent vanishes, nothing is said about it."""

    def __init__(self) -> None:
        self.other: PipeEnd
        self.is_black_hole = False
        self._heard: asyncio.Queue[str | LinkClosedError] = asyncio.Queue(64)
        self._closed: LinkClosedError | None = None

    async def send(self, text: str) -> None:
        if self._closed is not None:
            raise self._closed
        if not self.is_black_hole:
            await self.other._heard.put(text)

    async def receive(self) -> str:
        if self._closed is not None and self._heard.empty():
            raise self._closed
        heard = await self._heard.get()
        if isinstance(heard, LinkClosedError):
            self._closed = heard
            raise heard
        return heard

    async def close(self, code: int, reason: str) -> None:
        closed = LinkClosedError(code, reason)
        self._closed = self._closed or closed
        if not self.is_black_hole and self.other._closed is None:
            if self.other._heard.full():
                self.other._heard.get_nowait()
            self.other._heard.put_nowait(closed)


def pipe() -> tuple[PipeEnd, PipeEnd]:
    one, two = PipeEnd(), PipeEnd()
    one.other, two.other = two, one
    return one, two
