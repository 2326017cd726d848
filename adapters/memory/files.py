"""The file store without a disk."""

import hashlib
import re
from collections.abc import AsyncGenerator, AsyncIterable
from datetime import UTC, datetime

from core.errors import ConflictError, NotFoundError
from core.ports.files import Stored

SHA256 = re.compile(r"[0-9a-f]{64}")


class MemoryFiles:
    """See `Files`.

    Attributes:
        files: What is stored, by name.
        parts: What came of an unfinished `resume`, by name.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.parts: dict[str, bytes] = {}

    async def put(self, pieces: AsyncIterable[bytes]) -> Stored:
        """See `Files.put`."""
        content = b"".join([piece async for piece in pieces])
        return self._keep(content)

    async def kept_bytes(self, sha256: str) -> int:
        """See `Files.kept_bytes`."""
        return len(self.parts.get(_name(sha256), b""))

    async def resume(
        self, sha256: str, pieces: AsyncIterable[bytes], *, offset_bytes: int
    ) -> Stored:
        """See `Files.resume`."""
        if offset_bytes != await self.kept_bytes(sha256):
            raise ConflictError(f"{await self.kept_bytes(sha256)} bytes are kept")
        async for piece in pieces:
            self.parts[sha256] = self.parts.get(sha256, b"") + piece
        content = self.parts.pop(sha256, b"")
        if hashlib.sha256(content).hexdigest() != sha256:
            raise ValueError("the content has another SHA-256")
        return self._keep(content)

    async def find(self, sha256: str) -> Stored | None:
        """See `Files.find`."""
        content = self.files.get(sha256)
        return None if content is None else Stored(sha256=sha256, size_bytes=len(content))

    async def get(self, sha256: str, *, offset_bytes: int = 0) -> AsyncGenerator[bytes]:
        """See `Files.get`."""
        if sha256 not in self.files:
            raise NotFoundError(f"there is no file {sha256:.64}")
        if rest := self.files[sha256][offset_bytes:]:
            yield rest

    async def delete(self, sha256: str) -> None:
        """See `Files.delete`."""
        self.files.pop(sha256, None)

    async def forget(self, *, before: datetime) -> None:
        """See `Files.forget`. All that is unfinished counts as begun in 1970."""
        if before > datetime.fromtimestamp(0, UTC):
            self.parts.clear()

    def _keep(self, content: bytes) -> Stored:
        sha256 = hashlib.sha256(content).hexdigest()
        self.files[sha256] = content
        return Stored(sha256=sha256, size_bytes=len(content))


def _name(sha256: str) -> str:
    if not SHA256.fullmatch(sha256):
        raise NotFoundError(f"{sha256!r:.80} is no SHA-256")
    return sha256
