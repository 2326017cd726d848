"""Port: the node agents that have dialled in, and what their link needs of our records."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from core.ids import NodeId, ReplicaId, TerminalId, WorkspaceId
from core.viewing import View
from core.wire import (
    Credential,
    CredentialRequest,
    Hello,
    NodeStatus,
    Order,
    Pipe,
    Report,
    SessionDelta,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentInfo:
    """A node agent that answers now.

    Attributes:
        status: Its newest heartbeat; None until the first.
    """

    version: str
    cpus: float
    memory_mb: int
    status: NodeStatus | None = None


class Nodes(Protocol):
    """Node agents that have dialled in to this replica.

    Promises, each held by a test of the same number in `tests/contracts/test_nodes.py`:

    1. `connected` names exactly the nodes whose agent was heard within two heartbeats.
    2. Orders that `LinkStore.pending` returns reach the node in order, without being asked for.
    3. Reports of a node reach `LinkStore.received` in order and at least once; an answer to a
       repeated order is the same answer.
    4. `stream` gives the bytes of the named thing from an offset on, or raises `NotFoundError` or
       `UnavailableError`; closing it early stops the sender.
    5. `deltas` shows what is said while somebody listens; a slow listener misses some and slows
       nobody down.
    6. `view` gives a connection to a terminal of the node whose frames pass both ways unchanged, in
       order and at the slower side's pace; whichever side ends it, the other one learns it with
       code and reason. `UnavailableError` if the node cannot be reached.
    7. `pipe` does the same for a port or a file of a workspace; what is said is in `wire`.
    """

    def connected(self) -> Mapping[NodeId, AgentInfo]:
        """Return the node agents that answer now."""
        ...

    def stream(
        self, node: NodeId, what: str, name: str, *, offset_bytes: int = 0
    ) -> AsyncGenerator[bytes]:
        """Fetch a `build_log`, a `bundle` or a `rescue` copy; see `wire.OpenStream`."""
        ...

    def view(
        self,
        node: NodeId,
        workspace: WorkspaceId,
        terminal: TerminalId,
        *,
        viewer: str,
        writes: bool,
    ) -> AbstractAsyncContextManager[View]:
        """Look at a terminal of a node, for the length of a `with` block; see `core.viewing`."""
        ...

    def pipe(self, node: NodeId, wanted: Pipe) -> AbstractAsyncContextManager[View]:
        """Connect to what is wanted, for the length of a `with` block. Its ticket is ours to set.

        A message is `wire.STREAM_CHUNK_BYTES` at most.
        """
        ...

    def deltas(self) -> AsyncGenerator[SessionDelta]:
        """Listen to the text that coding agents write, from now on."""
        ...


class LinkStore(Protocol):
    """What the link needs of our records. Every method is one transaction.

    Promises:

    1. `node_by_token` finds a node by the SHA-256 of its token; None for one that is unknown,
       revoked, or of a node that is gone.
    2. `connected` marks the link as this replica's and returns the highest `seq` received from
       this spool, 0 for a spool not seen before.
    3. `beat` writes the time of the heartbeat and the status; never an activity column.
    4. `disconnected` changes nothing when the link is another replica's by now.
    5. `pending` returns unanswered orders above `after`, oldest first. Numbers count from 1 per
       node and become visible in their order: what is committed later has a higher one.
    6. `received` stores the effect of a report and its `seq` together; a `seq` not above the
       stored one changes nothing. `ValueError` means that this report can never be taken; it
       then goes to `dead_letter`. Any other error passes: the same report comes again.
    7. `dead_letter` keeps a report that cannot be read and its `seq` together.
    8. `wait` returns at the latest when there is an order that `pending` had not returned yet;
       it may return for nothing.
    """

    async def node_by_token(self, token: str) -> NodeId | None:
        """Return whose node token this is."""
        ...

    async def connected(self, node: NodeId, hello: Hello, *, replica: ReplicaId) -> int:
        """Note that the node's link is ours; return how far we have heard."""
        ...

    async def beat(self, node: NodeId, status: NodeStatus) -> None:
        """Note a heartbeat."""
        ...

    async def disconnected(self, node: NodeId, *, replica: ReplicaId) -> None:
        """Note that the link is gone."""
        ...

    async def pending(self, node: NodeId, *, after: int) -> Sequence[tuple[int, Order]]:
        """Return the orders to send, with their numbers."""
        ...

    async def delivered(self, node: NodeId, *, up_to: int) -> None:
        """Note that the node has stored the orders up to this number."""
        ...

    async def received(self, node: NodeId, seq: int, message: Report) -> None:
        """Take a report."""
        ...

    async def dead_letter(
        self, node: NodeId, seq: int, *, kind: str, body: str, reason: str
    ) -> None:
        """Keep the JSON text of a report that cannot be taken, for people to look at."""
        ...

    async def credential(self, node: NodeId, request: CredentialRequest) -> Credential:
        """Return a git credential for a workspace of this node, or why there is none."""
        ...

    async def wait(self, node: NodeId) -> None:
        """Wait until there may be something new to send."""
        ...
