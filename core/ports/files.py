"""Port: the file store, for what is too big for a row."""

from collections.abc import AsyncGenerator, AsyncIterable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A file in the store.

    Attributes:
        sha256: Its name: the SHA-256 of its content, in hex.
    """

    sha256: str
    size_bytes: int


class Files(Protocol):
    """Files that are written once and named by their content.

    `UnavailableError` passes; it also says that somebody else is sending the same file now.

    Promises, each held by a test of the same number in `tests/contracts/test_files.py`:

    1. `get` gives exactly the bytes that were stored under that name, from any offset on.
    2. A file is there whole or not at all, whatever ends a `put` or a `resume`, and at any moment.
    3. Storing the same content again is fine and changes nothing.
    4. `NotFoundError` for a name that is unknown, deleted or no SHA-256.
    5. `resume` goes on where an earlier one was cut, also one of an earlier life; its content
       becomes a file only if its SHA-256 is that name. `ValueError` if it is another one, and
       then nothing of it is kept; `ConflictError` for another offset than `kept_bytes`.
    6. At rest nothing of a content can be read without the key; a file that somebody changed,
       cut, or put in the place of another one gives an error and never other bytes.
    7. `delete` of what is gone already is fine; a reader that has begun may end with an error.
    8. `forget` removes what was begun before a time and never finished.
    """

    async def put(self, pieces: AsyncIterable[bytes]) -> Stored:
        """Store what comes."""
        ...

    async def kept_bytes(self, sha256: str) -> int:
        """Return how much of an unfinished `resume` is kept; 0 for nothing."""
        ...

    async def resume(
        self, sha256: str, pieces: AsyncIterable[bytes], *, offset_bytes: int
    ) -> Stored:
        """Store the rest of a file, from `kept_bytes` on. The end of `pieces` is its end."""
        ...

    async def find(self, sha256: str) -> Stored | None:
        """Return what is known of a file, None if it is not there."""
        ...

    def get(self, sha256: str, *, offset_bytes: int = 0) -> AsyncGenerator[bytes]:
        """Give the content of a file from an offset on, piece by piece."""
        ...

    async def delete(self, sha256: str) -> None:
        """Remove a file."""
        ...

    async def forget(self, *, before: datetime) -> None:
        """Remove what nobody finished."""
        ...
