"""Bringing rescue copies from nodes into the file store."""

from contextlib import aclosing

from core.ids import NodeId
from core.ports.files import Files, Stored
from core.ports.nodes import Nodes

RESCUE = "rescue"
"""What copies are called in `wire.OpenStream`."""


async def bring_in(files: Files, nodes: Nodes, node: NodeId, sha256: str) -> Stored:
    """Make sure that a copy which is on a node is in the file store; go on where it was cut.

    The node may forget the copy once this has returned, and not before.

    Raises:
        UnavailableError: It was cut again; what came is kept.
        NotFoundError: The node does not have it.
        ValueError: What the node sent was another content; nothing of it is kept.
    """
    if (stored := await files.find(sha256)) is not None:
        return stored
    kept = await files.kept_bytes(sha256)
    async with aclosing(nodes.stream(node, RESCUE, sha256, offset_bytes=kept)) as pieces:
        return await files.resume(sha256, pieces, offset_bytes=kept)
