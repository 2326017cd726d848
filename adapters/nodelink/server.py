"""The node link's server, `/node/v1`: implements the port `nodes`."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TypedDict

import structlog
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from adapters.nodelink.files import NodeFiles
from adapters.nodelink.links import Links
from adapters.nodelink.socket import Socket, ViewSocket
from adapters.nodelink.streams import Tickets
from core.errors import NotFoundError
from core.ids import NodeId, ReplicaId, TerminalId, WorkspaceId
from core.ports.enrolment import Enrolment
from core.ports.nodes import AgentInfo, LinkStore
from core.viewing import View
from core.wire import OpenStream, Pipe, SessionDelta, ViewTerminal

log = structlog.get_logger(__name__)

HEARTBEAT_S = 15.0
BODY_BYTES_MAX = 4096
NAME = re.compile(r"[\w.-]{1,64}")
SHA256 = re.compile(r"[0-9a-f]{64}")


class NodeLink:
    """All links of this replica, and the routes by which nodes come to us.

    Args:
        agent_files: Files of the node agent by SHA-256, for `GET /agent/{sha256}.pyz`.
        files: What nodes may fetch; None if nothing is kept for them.
        heartbeat_s: Told to the nodes; a link is dropped after two of them in silence.

    Attributes:
        app: To be mounted at `/node/v1`.
    """

    def __init__(
        self,
        store: LinkStore,
        enrolment: Enrolment,
        *,
        replica: ReplicaId,
        agent_files: Mapping[str, bytes],
        files: NodeFiles | None = None,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self._store = store
        self._enrolment = enrolment
        self._agent_files = agent_files
        self._files = files
        self._tickets = Tickets()
        self.links = Links(store, replica=replica, heartbeat_s=heartbeat_s, lost=self._tickets.lost)
        self.app = Starlette(
            routes=[
                WebSocketRoute("/link", self._link),
                WebSocketRoute("/stream/{ticket}", self._stream),
                Route("/enrol", self._enrol, methods=["POST"]),
                Route("/renew", self._renew, methods=["POST"]),
                Route("/agent/{sha256}.pyz", self._agent, methods=["GET"]),
                Route("/files/{sha256}", self._file, methods=["GET"]),
            ]
        )

    async def run(self) -> None:
        """Wait to be cancelled, then end all links so that the nodes dial again at once."""
        try:
            await asyncio.Event().wait()
        finally:
            self.links.stop()

    def connected(self) -> Mapping[NodeId, AgentInfo]:
        """See `Nodes.connected`."""
        return self.links.connected()

    def deltas(self) -> AsyncGenerator[SessionDelta]:
        """See `Nodes.deltas`."""
        return self.links.deltas()

    async def stream(
        self, node: NodeId, what: str, name: str, *, offset_bytes: int = 0
    ) -> AsyncGenerator[bytes]:
        """See `Nodes.stream`."""
        wanted = OpenStream(ticket="", what=what, name=name, offset_bytes=offset_bytes)
        ask = partial(self.links.open_stream, node)
        async with aclosing(self._tickets.read(node, wanted, ask)) as chunks:
            async for chunk in chunks:
                yield chunk

    @asynccontextmanager
    async def view(
        self,
        node: NodeId,
        workspace: WorkspaceId,
        terminal: TerminalId,
        *,
        viewer: str,
        writes: bool,
    ) -> AsyncGenerator[View]:
        """See `Nodes.view`.

        With several replicas only the one that holds the node's link can do it; at the others it
        is an `UnavailableError`. Passing a view on between replicas may come later.
        """

        async def ask(ticket: str) -> None:
            wanted = ViewTerminal(
                ticket=ticket, workspace=workspace, terminal=terminal, viewer=viewer, writes=writes
            )
            await self.links.open_stream(node, wanted)

        async with self._tickets.dialled(node, ask) as socket:
            yield ViewSocket(socket)

    @asynccontextmanager
    async def pipe(self, node: NodeId, wanted: Pipe) -> AsyncGenerator[View]:
        """See `Nodes.pipe`. With several replicas it is as with `view`."""

        async def ask(ticket: str) -> None:
            await self.links.open_stream(node, replace(wanted, ticket=ticket))

        async with self._tickets.dialled(node, ask) as socket:
            yield ViewSocket(socket)

    async def _link(self, socket: WebSocket) -> None:
        if (node := await self._bearer(socket)) is not None:
            await socket.accept()
            await self.links.serve(Socket(socket), node)

    async def _stream(self, socket: WebSocket) -> None:
        if (node := await self._bearer(socket)) is None:
            return
        if not await self._tickets.serve(socket.path_params["ticket"], node, socket):
            await socket.send_denial_response(_problem(404, "ticket", "no such ticket"))

    async def _bearer(self, socket: WebSocket) -> NodeId | None:
        """Return whose token is shown; without a good one the handshake is answered here."""
        token = _token(socket)
        try:
            node = await self._store.node_by_token(token) if token else None
        except Exception:  # The node dials again.
            log.exception("link.store_failed", call="node_by_token")
            await socket.send_denial_response(_problem(503, "unavailable", "try again later"))
            return None
        if node is None:
            await socket.send_denial_response(_refused())
        return node

    async def _enrol(self, request: Request) -> Response:
        token = _token(request)
        wish = await _wish(request)
        if wish is None:
            wanted = "name, cpus, memory_mb and token_hash are wanted as JSON"
            return _problem(400, "enrolment", wanted)
        node = await self._enrolment.redeem(token, **wish) if token else None
        return JSONResponse({"node": node}) if node else _refused()

    async def _renew(self, request: Request) -> Response:
        token = _token(request)
        renewed = await self._enrolment.renew(token) if token else None
        return JSONResponse({"token": renewed}) if renewed else _refused()

    async def _agent(self, request: Request) -> Response:
        found = self._agent_files.get(request.path_params["sha256"])
        if found is None:
            return _problem(404, "agent", "no such file of the node agent")
        headers = {"Cache-Control": "public, max-age=31536000, immutable"}
        return Response(found, media_type="application/octet-stream", headers=headers)

    async def _file(self, request: Request) -> Response:
        token = _token(request)
        node = await self._store.node_by_token(token) if token else None
        if node is None:
            return _refused()
        try:
            if self._files is not None:
                return await self._files.answer(request, node)
        except NotFoundError:
            pass
        return _problem(404, "file", "no such file for this node")


def _token(connection: HTTPConnection) -> str:
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


class _Wish(TypedDict):
    token_hash: str
    name: str
    cpus: float
    memory_mb: int


async def _wish(request: Request) -> _Wish | None:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            return None
    try:
        raw = json.loads(body)
        name, hashed = raw["name"], raw["token_hash"]
        cpus, memory_mb = float(raw["cpus"]), int(raw["memory_mb"])
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None
    is_sane = 0 < cpus <= 4096 and 0 < memory_mb < 2**31
    is_named = isinstance(name, str) and NAME.fullmatch(name)
    is_hashed = isinstance(hashed, str) and SHA256.fullmatch(hashed)
    if not (is_sane and is_named and is_hashed):
        return None
    return _Wish(token_hash=hashed, name=name, cpus=cpus, memory_mb=memory_mb)


def _refused() -> JSONResponse:
    refused = _problem(401, "token", "the token is unknown, spent or over")
    refused.headers["WWW-Authenticate"] = "Bearer"
    return refused


def _problem(status: int, code: str, detail: str) -> JSONResponse:
    return JSONResponse(
        {"title": code, "detail": detail}, status, media_type="application/problem+json"
    )
