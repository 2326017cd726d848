"""`GET /node/v1/files/{sha256}`: a node fetches a file of one of its own workspaces."""

import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from core.errors import NotFoundError
from core.ids import NodeId
from core.ports.files import Files

RANGE = re.compile(r"bytes=(\d{1,15})-")
MayFetch = Callable[[NodeId, str], Awaitable[bool]]
"""Whether the file with this SHA-256 belongs to a workspace that is on the node now."""


class NodeFiles:
    """Answers nodes that fetch files.

    `Range: bytes=N-` gives the file from an offset on (RFC 9110, 14.2), so that a fetch which was
    cut goes on; other ranges are not looked at.
    """

    def __init__(self, files: Files, may_fetch: MayFetch) -> None:
        self._files = files
        self._may_fetch = may_fetch

    async def answer(self, request: Request, node: NodeId) -> Response:
        """Answer a request of a node.

        Raises:
            NotFoundError: There is no such file, or it is not for this node.
        """
        sha256 = request.path_params["sha256"]
        stored = await self._files.find(sha256)
        if stored is None or not await self._may_fetch(node, sha256):
            raise NotFoundError(f"no file {sha256:.64} for this node")
        asked = RANGE.fullmatch(request.headers.get("range", ""))
        offset, size = int(asked[1]) if asked else 0, stored.size_bytes
        if asked and offset >= size:
            return Response(status_code=416, headers={"Content-Range": f"bytes */{size}"})
        headers = {"Content-Length": str(size - offset), "Cache-Control": "no-store"}
        if asked:
            headers["Content-Range"] = f"bytes {offset}-{size - 1}/{size}"
        return StreamingResponse(
            self._pieces(sha256, offset),
            206 if asked else 200,
            headers=headers,
            media_type="application/octet-stream",
        )

    async def _pieces(self, sha256: str, offset: int) -> AsyncGenerator[bytes]:
        async with aclosing(self._files.get(sha256, offset_bytes=offset)) as pieces:
            async for piece in pieces:
                yield piece
