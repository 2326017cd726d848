"""All links of this replica: one per node, the newest."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping

import structlog

from adapters.nodelink.connection import Connection
from core.errors import UnavailableError
from core.ids import NodeId, ReplicaId
from core.link import Channel, LinkClosedError, as_closed
from core.ports.nodes import AgentInfo, LinkStore
from core.wire import (
    CLOSE_REPLACED,
    CLOSE_SILENT,
    CLOSE_UNREADABLE,
    CLOSE_VERSION,
    PROTOCOL,
    Frame,
    FrameError,
    Hello,
    OpenStream,
    Pipe,
    SessionDelta,
    ViewTerminal,
    Welcome,
    frame,
    read_as,
)

log = structlog.get_logger(__name__)

HELLO_S_MAX = 10.0
DELTAS_MAX = 1000
DISCONNECTED_S_MAX = 5.0
CLOSE_GOING = 1012
CLOSE_LATER = 1013


class _Link:
    """The place of one node: taken by its newest connection."""

    def __init__(self, hello: Hello) -> None:
        self.hello = hello
        self.connection: Connection | None = None
        self.has_ended = asyncio.Event()
        self._stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def stop(self, code: int, reason: str) -> None:
        if not self._stopped.done():
            self._stopped.set_exception(LinkClosedError(code, reason))
            self._stopped.exception()  # It may have ended by itself already.

    async def until_stopped(self) -> None:
        await asyncio.shield(self._stopped)


class Links:
    """Serves channels of nodes whose token was checked already.

    Args:
        lost: Called when a node's link has ended.
    """

    def __init__(
        self,
        store: LinkStore,
        *,
        replica: ReplicaId,
        heartbeat_s: float,
        lost: Callable[[NodeId], None],
    ) -> None:
        self._store = store
        self._lost = lost
        self._replica = replica
        self._heartbeat_s = heartbeat_s
        self._links: dict[NodeId, _Link] = {}
        self._listeners: set[asyncio.Queue[SessionDelta]] = set()

    def connected(self) -> Mapping[NodeId, AgentInfo]:
        """See `Nodes.connected`."""
        return {
            node: AgentInfo(
                version=link.hello.version,
                cpus=link.hello.cpus,
                memory_mb=link.hello.memory_mb,
                status=link.connection.status,
            )
            for node, link in self._links.items()
            if link.connection is not None
        }

    async def deltas(self) -> AsyncGenerator[SessionDelta]:
        """See `Nodes.deltas`."""
        queue: asyncio.Queue[SessionDelta] = asyncio.Queue(DELTAS_MAX)
        self._listeners.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._listeners.discard(queue)

    async def open_stream(self, node: NodeId, wanted: OpenStream | ViewTerminal | Pipe) -> None:
        """Tell a node to dial a ticket's address.

        Raises:
            UnavailableError: It is not connected here; another replica may hold its link.
        """
        link = self._links.get(node)
        if link is None or link.connection is None:
            raise UnavailableError("Node", f"{node} is not connected")
        try:
            await link.connection.open_stream(wanted)
        except LinkClosedError as error:
            raise UnavailableError("Node", f"{node} was lost") from error

    def stop(self) -> None:
        """End all links; the nodes dial again, here or elsewhere."""
        for link in self._links.values():
            link.stop(CLOSE_GOING, "the control plane restarts")

    async def serve(self, channel: Channel, node: NodeId) -> None:
        """Serve a node's channel until it ends. An older link of the same node ends now."""
        try:
            hello = await _hello(channel, node)
            await self._replace(channel, node, hello)
        except LinkClosedError as error:
            closed = error
        except BaseExceptionGroup as group:
            closed = as_closed(group)
        log.info("link.closed", node_id=node, code=closed.code, reason=closed.reason)
        await channel.close(closed.code, closed.reason)

    async def _replace(self, channel: Channel, node: NodeId, hello: Hello) -> None:
        older = self._links.get(node)
        link = self._links[node] = _Link(hello)
        try:
            if older is not None:
                older.stop(CLOSE_REPLACED, "the node dialled again")
                await older.has_ended.wait()
            async with asyncio.TaskGroup() as group:
                group.create_task(link.until_stopped())
                group.create_task(self._talk(channel, node, link))
        finally:
            if self._links.get(node) is link:
                del self._links[node]
            link.has_ended.set()

    async def _talk(self, channel: Channel, node: NodeId, link: _Link) -> None:
        try:
            received = await self._store.connected(node, link.hello, replica=self._replica)
        except Exception as error:  # The node dials again; until then nothing is lost.
            log.exception("link.store_failed", node_id=node, call="connected")
            raise LinkClosedError(CLOSE_LATER, "try again later") from error
        try:
            welcome = Welcome(received=received, heartbeat_s=self._heartbeat_s)
            await channel.send(frame(welcome, ack=received).encode())
            link.connection = Connection(
                node,
                channel,
                store=self._store,
                publish=self._publish,
                heartbeat_s=self._heartbeat_s,
                sent=link.hello.received,
                received=received,
            )
            log.info("link.connected", node_id=node, version=link.hello.version)
            await link.connection.run()
        finally:
            link.connection = None
            self._lost(node)
            await self._note_disconnected(node)

    async def _note_disconnected(self, node: NodeId) -> None:
        try:
            async with asyncio.timeout(DISCONNECTED_S_MAX):
                await self._store.disconnected(node, replica=self._replica)
        except Exception:  # Its heartbeat grows old, which says the same a little later.
            log.exception("link.store_failed", node_id=node, call="disconnected")

    def _publish(self, delta: SessionDelta) -> None:
        for queue in self._listeners:
            if not queue.full():
                queue.put_nowait(delta)


async def _hello(channel: Channel, node: NodeId) -> Hello:
    try:
        async with asyncio.timeout(HELLO_S_MAX):
            heard = Frame.decode(await channel.receive())
        spoken = heard.body.get("protocol")
        if heard.type == Hello.TYPE and spoken != PROTOCOL:
            reason = f"protocol {spoken!r:.20} instead of {PROTOCOL}"
            raise LinkClosedError(CLOSE_VERSION, reason)
        hello = read_as(Hello, heard)
    except TimeoutError:
        raise LinkClosedError(CLOSE_SILENT, "no hello") from None
    except FrameError as error:
        raise LinkClosedError(CLOSE_UNREADABLE, str(error)[:100]) from error
    if hello.node != node:
        raise LinkClosedError(CLOSE_UNREADABLE, "the token is another node's")
    return hello
