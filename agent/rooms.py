"""How much is served by ticket at once: what is slow holds up nothing that is quick."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping

from core.wire import ConnectPort, OpenStream, Pipe, PutFile, ViewTerminal

Wanted = OpenStream | ViewTerminal | Pipe
Serve = Callable[[Wanted], Coroutine[None, None, None]]
"""Dials a ticket's address and does there what was asked for, until it is over."""

WAIT_S_MAX = 5.0
"""A ticket is good for a minute, and somebody waits for it."""
_KEPT = frozenset({"bundle", "rescue", "recording"})
_ROOMS: Mapping[str, int] = {
    "quick": 32,
    "kept": 8,
    "file": 64,
    PutFile.TYPE: 64,
    ViewTerminal.TYPE: 256,
    ConnectPort.TYPE: 512,
}
"""`quick` ends as soon as the node has said all, `kept` goes to the control plane's store; the
others last as long as people like."""


class Rooms:
    """Serves at most so many of each kind; who finds no room in time is told so.

    Args:
        serve: Called for those who found room.
        refuse: Called for the others.
    """

    def __init__(self, serve: Serve, refuse: Serve, *, wait_s_max: float = WAIT_S_MAX) -> None:
        self._serve = serve
        self._refuse = refuse
        self._wait_s_max = wait_s_max
        self._rooms = {kind: asyncio.Semaphore(most) for kind, most in _ROOMS.items()}

    async def serve(self, wanted: Wanted) -> None:
        """See `Serve`."""
        room = self._rooms[_kind(wanted)]
        try:
            async with asyncio.timeout(self._wait_s_max):
                await room.acquire()
        except TimeoutError:
            await self._refuse(wanted)
            return
        try:
            await self._serve(wanted)
        finally:
            room.release()


def _kind(wanted: Wanted) -> str:
    if not isinstance(wanted, OpenStream):
        return wanted.TYPE
    if wanted.what == "file":
        return "file"
    return "kept" if wanted.what in _KEPT else "quick"
