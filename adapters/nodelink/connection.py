"""One node's connection after its hello: orders out, reports in, one ordered consumer."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import TypeVar

import structlog

from core.ids import NodeId
from core.link import Channel, End
from core.ports.nodes import LinkStore
from core.wire import (
    REPORTS,
    WINDOW,
    Credential,
    CredentialRequest,
    Frame,
    FrameError,
    NodeStatus,
    OpenStream,
    Pipe,
    Report,
    SessionDelta,
    ViewTerminal,
    encode_body,
    from_json,
)

log = structlog.get_logger(__name__)
T = TypeVar("T")

RETRY_S_MIN = 0.05
RETRY_S_MAX = 5.0
CREDENTIALS_MAX = 32
CREDENTIAL_S_MAX = 30.0


class Connection:
    """The control plane's side of one link. `run` ends by `LinkClosedError`.

    Attributes:
        status: The node's newest heartbeat.
        dead_letters: Reports of this connection that could not be taken.
    """

    def __init__(
        self,
        node: NodeId,
        channel: Channel,
        *,
        store: LinkStore,
        publish: Callable[[SessionDelta], None],
        heartbeat_s: float,
        sent: int,
        received: int,
    ) -> None:
        self.node = node
        self.status: NodeStatus | None = None
        self.dead_letters = 0
        self.channel = channel
        self._end = End(
            channel,
            heartbeat_s=heartbeat_s,
            acknowledged=self._delivered,
            unreadable=self._note_unreadable,
        )
        self._store = store
        self._publish = publish
        self._sent = sent
        self._received = received
        self._reports: asyncio.Queue[Frame] = asyncio.Queue(WINDOW)
        self._status_heard = asyncio.Event()
        self._credentials = asyncio.Semaphore(CREDENTIALS_MAX)

    async def run(self) -> None:
        """Serve the link until it is closed."""
        self._end.stored(self._received)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._end.run())
            group.create_task(self._listen(group))
            group.create_task(self._keep_reports())
            group.create_task(self._send_orders())
            group.create_task(self._keep_status())

    async def open_stream(self, wanted: OpenStream | ViewTerminal | Pipe) -> None:
        """Tell the node to dial a ticket's address."""
        await self._end.send(wanted)

    async def _listen(self, group: asyncio.TaskGroup) -> None:
        async with aclosing(self._end.frames()) as frames:
            async for heard in frames:
                try:
                    await self._take(heard, group)
                except FrameError as error:
                    self._note_unreadable(error)

    async def _take(self, heard: Frame, group: asyncio.TaskGroup) -> None:
        if heard.seq:
            await self._reports.put(heard)
        elif heard.type == NodeStatus.TYPE:
            self.status = from_json(NodeStatus, heard.body)
            self._status_heard.set()
        elif heard.type == SessionDelta.TYPE:
            self._publish(from_json(SessionDelta, heard.body))
        elif heard.type == CredentialRequest.TYPE:
            request = from_json(CredentialRequest, heard.body)
            group.create_task(self._credential(request))
        else:
            raise FrameError(f"unknown message {heard.type:.40}")

    async def _keep_reports(self) -> None:
        """Take reports one after the other: the only consumer of this node's reports."""
        while True:
            heard = await self._reports.get()
            if heard.seq <= self._received:
                continue
            await self._patiently("received", partial(self._keep, heard))
            self._received = heard.seq
            self._end.stored(heard.seq)

    async def _keep(self, heard: Frame) -> None:
        try:
            await self._store.received(self.node, heard.seq, _report(heard))
        except ValueError as error:
            await self._bury(heard, str(error))

    async def _bury(self, heard: Frame, reason: str) -> None:
        body = Frame(type=heard.type, body=heard.body).encode()
        await self._store.dead_letter(
            self.node, heard.seq, kind=heard.type[:40], body=body, reason=reason[:500]
        )
        self.dead_letters += 1
        log.error("link.dead_letter", node_id=self.node, seq=heard.seq, reason=reason[:500])

    async def _send_orders(self) -> None:
        while True:
            orders = await self._patiently(
                "pending", lambda: self._store.pending(self.node, after=self._sent)
            )
            for seq, order in orders:
                await self._end.send_stored(seq, order.TYPE, encode_body(order))
                self._sent = seq
            if not orders:
                await self._patiently("wait", lambda: self._store.wait(self.node))

    async def _delivered(self, up_to: int) -> None:
        await self._patiently("delivered", lambda: self._store.delivered(self.node, up_to=up_to))

    async def _keep_status(self) -> None:
        while True:
            await self._status_heard.wait()
            self._status_heard.clear()
            await self._patiently("beat", self._beat)

    async def _beat(self) -> None:
        if self.status is not None:
            await self._store.beat(self.node, self.status)

    async def _credential(self, request: CredentialRequest) -> None:
        try:
            async with asyncio.timeout(CREDENTIAL_S_MAX), self._credentials:
                answer = await self._store.credential(self.node, request)
        except Exception as error:  # noqa: BLE001  the node is told; it asks again if it likes
            reason = f"{type(error).__name__}: {error}"[:300]
            log.warning("link.credential_failed", node_id=self.node, reason=reason)
            answer = Credential(
                number=request.number, code="unavailable", text="no credential could be got now"
            )
        await self._end.send(answer)

    async def _patiently(self, what: str, call: Callable[[], Awaitable[T]]) -> T:
        """Call our store until it works: what is not stored is not acknowledged, never dropped."""
        wait_s, is_told = RETRY_S_MIN, False
        while True:
            try:
                result = await call()
            except Exception:  # A store that is away holds up this node alone.
                if not is_told:
                    log.exception("link.store_failed", node_id=self.node, call=what)
                is_told = True
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, RETRY_S_MAX)
            else:
                if is_told:
                    log.warning("link.store_back", node_id=self.node, call=what)
                return result

    def _note_unreadable(self, error: FrameError) -> None:
        log.error("link.unreadable", node_id=self.node, reason=str(error)[:500])


def _report(heard: Frame) -> Report:
    kind = REPORTS.get(heard.type)
    if kind is None:
        raise FrameError(f"{heard.type:.40} is no report")
    return from_json(kind, heard.body)
