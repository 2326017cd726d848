"""What a viewer of a terminal has drawn, and has yet to say."""

import asyncio

from core.viewing import SEEN_BYTES, SEEN_S, Seen, View, encode


class Drawn:
    """Says `Seen` for a viewer: soon, and not for every key.

    Args:
        seen: What the viewer said in `Look`.
    """

    def __init__(self, view: View, seen: int | None) -> None:
        self._view = view
        self._offset = self._told = seen or 0
        self._has_more = asyncio.Event()

    async def up_to(self, offset: int) -> None:
        """Take note of what was drawn, and tell of much at once. Raises `ViewClosedError`."""
        self._offset = offset
        if offset - self._told >= SEEN_BYTES:
            await self._tell()
        else:
            self._has_more.set()

    async def tell(self) -> None:
        """Tell of the rest, until this is cancelled. Raises `ViewClosedError`."""
        while True:
            await self._has_more.wait()
            await asyncio.sleep(SEEN_S)
            await self._tell()

    async def _tell(self) -> None:
        self._has_more.clear()
        if self._offset != self._told:
            self._told = self._offset
            await self._view.send(encode(Seen(self._offset)))
