"""Dial the control plane; say again what it has not acknowledged."""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from itertools import count
from typing import Literal

from agent.errors import NodeError
from agent.rooms import Serve, Wanted
from agent.spool import Spool
from core.ids import WorkspaceId
from core.link import Channel, End, LinkClosedError, as_closed
from core.wire import (
    CLOSE_REPLACED,
    CLOSE_SILENT,
    CLOSE_UNREADABLE,
    CLOSE_VERSION,
    WINDOW,
    WINDOW_BYTES,
    ConnectPort,
    Credential,
    CredentialRequest,
    Frame,
    FrameError,
    Hello,
    NodeStatus,
    OpenStream,
    Order,
    PutFile,
    SessionDelta,
    ViewTerminal,
    Welcome,
    frame,
    from_json,
    read_as,
)

log = logging.getLogger(__name__)

Dial = Callable[[], AbstractAsyncContextManager[Channel]]
"""Opens a channel to the control plane. Raises `LinkClosedError` when that fails."""

WELCOME_S_MAX = 30.0
CREDENTIAL_S_MAX = 30.0
CREDENTIAL_WAIT_S_MAX = 5.0
PASSING = frozenset({"unavailable", "rate_limited"})
"""Answers to a request for a credential after which asking again may help."""
BACK_OFF_S_MIN = 0.1
BACK_OFF_S_MAX = 15.0
REFUSED_BACK_OFF_S = 60.0
"""Between two tries when trying again will not help until a person has done something."""
REFUSED = frozenset({401, 403, CLOSE_VERSION, CLOSE_REPLACED})
"""Replaced means that another process has our identity: two must not take turns in a hurry."""
DELTAS_MAX = 256

_WANTED: Mapping[str, type[Wanted]] = {
    kind.TYPE: kind for kind in (OpenStream, ViewTerminal, ConnectPort, PutFile)
}
"""What can be asked for by ticket."""


class Link:
    """The node's connection to the control plane, for as long as the node agent lives.

    Args:
        hello: What to say first; asked at every connection.
        status: The node's state now, sent with every heartbeat.
        serve: Called for each at once; see `agent.rooms`.
        refused_back_off_s: See `REFUSED_BACK_OFF_S`.
    """

    def __init__(
        self,
        *,
        dial: Dial,
        spool: Spool,
        hello: Callable[[], Hello],
        status: Callable[[], NodeStatus],
        serve: Serve,
        refused_back_off_s: float = REFUSED_BACK_OFF_S,
    ) -> None:
        self._dial = dial
        self._spool = spool
        self._hello = hello
        self._status = status
        self._serve = serve
        self._refused_back_off_s = refused_back_off_s
        self._numbers = count(1)
        self._connection: _Connection | None = None
        self._is_up = asyncio.Event()
        self._is_over = False

    async def run(self) -> None:
        """Stay connected until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._stay())
            try:
                await asyncio.Event().wait()
            finally:  # A task group that fails forgets that it was cancelled, so it is noted here.
                self._is_over = True

    async def _stay(self) -> None:
        failures = 0
        while True:
            try:
                async with self._dial() as channel:
                    await self._talk(channel)
            except LinkClosedError as closed:
                if self._is_over:
                    return
                failures = 0 if self._is_up.is_set() else failures + 1
                log.warning("link.lost", extra={"code": closed.code, "reason": closed.reason})
                wait_s = BACK_OFF_S_MIN * 2 ** min(failures, 10)
                wait_s = min(BACK_OFF_S_MAX, wait_s) * random.uniform(0.5, 1.0)  # noqa: S311
                if closed.code in REFUSED:
                    wait_s = self._refused_back_off_s
            finally:
                self._is_up.clear()
                self._connection = None
            await asyncio.sleep(wait_s)

    def delta(self, delta: SessionDelta) -> None:
        """Show text as it is written; nobody gets it when there is no link or it is slow."""
        if self._connection is not None:
            self._connection.delta(delta)

    async def credential(
        self, workspace: WorkspaceId, scope: Literal["read", "write"]
    ) -> Credential:
        """Ask the control plane for a git credential, again after a reconnect or an outage.

        Raises:
            NodeError: `control_plane_away`: no answer within half a minute.
        """
        request = CredentialRequest(number=next(self._numbers), workspace=workspace, scope=scope)
        answer: Credential | None = None
        wait_s = BACK_OFF_S_MIN
        try:
            async with asyncio.timeout(CREDENTIAL_S_MAX):
                while True:
                    await self._is_up.wait()
                    with suppress(LinkClosedError):
                        if self._connection is not None:
                            answer = await self._connection.credential(request)
                            if answer.code not in PASSING:
                                return answer
                    await asyncio.sleep(wait_s)
                    wait_s = min(2 * wait_s, CREDENTIAL_WAIT_S_MAX)
        except TimeoutError:
            if answer is not None:
                return answer
            raise NodeError(
                "control_plane_away",
                "The control plane did not answer within 30 seconds; it is asked again.",
            ) from None

    async def _talk(self, channel: Channel) -> None:
        await self._spool.settle()
        hello = self._hello()
        await channel.send(frame(hello).encode())
        welcome = await _welcome(channel)
        if welcome.received > await self._spool.highest():
            await self._spool.rename()
            raise LinkClosedError(CLOSE_UNREADABLE, "our spool is older than what was heard of it")
        await self._spool.acknowledged(welcome.received)
        self._connection = _Connection(
            channel, welcome, spool=self._spool, status=self._status, serve=self._serve
        )
        self._is_up.set()
        log.info("link.connected", extra={"received": welcome.received})
        try:
            await self._connection.run()
        except BaseExceptionGroup as group:
            raise as_closed(group) from None


async def _welcome(channel: Channel) -> Welcome:
    try:
        async with asyncio.timeout(WELCOME_S_MAX):
            heard = Frame.decode(await channel.receive())
        return read_as(Welcome, heard)
    except TimeoutError:
        raise LinkClosedError(CLOSE_SILENT, "no welcome") from None
    except FrameError as error:
        raise LinkClosedError(CLOSE_UNREADABLE, str(error)) from error


class _Connection:
    """One connection after the greeting; ends by `LinkClosedError`."""

    def __init__(
        self,
        channel: Channel,
        welcome: Welcome,
        *,
        spool: Spool,
        status: Callable[[], NodeStatus],
        serve: Serve,
    ) -> None:
        self._end = End(
            channel,
            heartbeat_s=welcome.heartbeat_s,
            acknowledged=spool.acknowledged,
            unreadable=_note_unreadable,
        )
        self._sent = welcome.received
        self._spool = spool
        self._status = status
        self._serve = serve
        self._orders: asyncio.Queue[tuple[int, Order | None]] = asyncio.Queue(WINDOW)
        self._deltas: asyncio.Queue[SessionDelta] = asyncio.Queue(DELTAS_MAX)
        self._asked: dict[int, asyncio.Future[Credential]] = {}

    async def run(self) -> None:
        self._end.stored(self._spool.received)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._end.run())
                group.create_task(self._listen(group))
                group.create_task(self._keep_orders())
                group.create_task(self._send_reports())
                group.create_task(self._send_deltas())
                group.create_task(self._send_status())
        finally:
            for waiting in self._asked.values():
                if not waiting.done():
                    waiting.set_exception(LinkClosedError(1006, "the link was lost"))
                    waiting.exception()  # Whoever asked may have given up already.

    def delta(self, delta: SessionDelta) -> None:
        if not self._deltas.full():
            self._deltas.put_nowait(delta)

    async def credential(self, request: CredentialRequest) -> Credential:
        answer: asyncio.Future[Credential] = asyncio.get_running_loop().create_future()
        self._asked[request.number] = answer
        try:
            await self._end.send(request)
            return await answer
        finally:
            del self._asked[request.number]

    async def _listen(self, group: asyncio.TaskGroup) -> None:
        async with aclosing(self._end.frames()) as frames:
            async for heard in frames:
                try:
                    await self._take(heard, group)
                except FrameError as error:
                    _note_unreadable(error)

    async def _take(self, heard: Frame, group: asyncio.TaskGroup) -> None:
        if heard.seq:
            await self._orders.put((heard.seq, _read_order(heard)))
        elif heard.type == Credential.TYPE:
            answer = from_json(Credential, heard.body)
            waiting = self._asked.get(answer.number)
            if waiting is not None and not waiting.done():
                waiting.set_result(answer)
        elif heard.type in _WANTED:
            group.create_task(self._serve(from_json(_WANTED[heard.type], heard.body)))
        else:
            log.warning("link.unknown_message", extra={"type": heard.type[:40]})

    async def _keep_orders(self) -> None:
        while True:
            batch = [await self._orders.get()]
            while not self._orders.empty():
                batch.append(self._orders.get_nowait())
            await self._spool.accept(batch)
            self._end.stored(self._spool.received)

    async def _send_reports(self) -> None:
        while True:
            self._spool.reports_added.clear()
            reports = await self._spool.reports(after=self._sent, bytes_max=WINDOW_BYTES)
            for seq, kind, body in reports:
                await self._end.send_stored(seq, kind, body)
                self._sent = seq
            if not reports:
                await self._spool.reports_added.wait()

    async def _send_deltas(self) -> None:
        while True:
            await self._end.send(await self._deltas.get())

    async def _send_status(self) -> None:
        while True:
            await self._end.send(self._status())
            await asyncio.sleep(self._end.heartbeat_s)


def _read_order(heard: Frame) -> Order | None:
    """Return the order, or None: an unreadable one is acknowledged, or it would come for ever."""
    try:
        return read_as(Order, heard)
    except FrameError as error:
        _note_unreadable(error)
        return None


def _note_unreadable(error: FrameError) -> None:
    log.error("link.unreadable", extra={"reason": str(error)[:500]})
