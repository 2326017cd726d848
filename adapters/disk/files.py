"""The file store in a folder: implements the port `files`.

`{folder}/{sha256}` is a whole file, `{folder}/part/` what is being written. A file gets its name by
a rename after it is on the disk.
"""

import asyncio
import fcntl
import hashlib
import os
import re
from collections.abc import AsyncGenerator, AsyncIterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from io import FileIO
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO

from adapters.disk.sealed import (
    END_SEALED_BYTES,
    FRAME_BYTES,
    HEADER_BYTES,
    WHOLE_BYTES,
    DamagedError,
    Key,
    frames,
    place,
    read_end,
    seal_end,
)
from core.errors import ConflictError, NotFoundError, RefusedError, UnavailableError
from core.ports.files import Stored
from core.ports.vault import Vault

SYSTEM = "File store"
File = BinaryIO | FileIO
SHA256 = re.compile(r"[0-9a-f]{64}")


class DiskFiles:
    """See `Files`."""

    def __init__(self, folder: Path, vault: Vault) -> None:
        self._folder = folder
        self._parts = folder / "part"
        self._vault = vault

    async def put(self, pieces: AsyncIterable[bytes]) -> Stored:
        """See `Files.put`."""
        with _translated():
            part = await asyncio.to_thread(_Part, self._parts / token_hex(16), self._vault)
            try:
                return await self._fill(part, pieces)
            finally:
                await asyncio.to_thread(part.close)
                await asyncio.to_thread(part.path.unlink, missing_ok=True)

    async def kept_bytes(self, sha256: str) -> int:
        """See `Files.kept_bytes`."""
        path = self._parts / _name(sha256)
        with _translated(), suppress(FileNotFoundError):
            return await asyncio.to_thread(_kept_bytes, path, self._vault)
        return 0

    async def resume(
        self, sha256: str, pieces: AsyncIterable[bytes], *, offset_bytes: int
    ) -> Stored:
        """See `Files.resume`."""
        with _translated():
            part = await asyncio.to_thread(_Part, self._parts / _name(sha256), self._vault)
            try:
                if part.size_bytes != offset_bytes:
                    raise ConflictError(f"{part.size_bytes} bytes are kept")
                return await self._fill(part, pieces, wanted=sha256)
            finally:
                await asyncio.to_thread(part.close)

    async def _fill(
        self, part: "_Part", pieces: AsyncIterable[bytes], *, wanted: str = ""
    ) -> Stored:
        waiting = bytearray()
        async for piece in pieces:
            waiting += piece
            while len(waiting) >= FRAME_BYTES:
                frame = bytes(waiting[:FRAME_BYTES])
                del waiting[:FRAME_BYTES]
                await asyncio.to_thread(part.add, frame)
        if waiting:
            await asyncio.to_thread(part.add, bytes(waiting))
        return await asyncio.to_thread(part.finish, self._folder, wanted)

    async def find(self, sha256: str) -> Stored | None:
        """See `Files.find`."""
        with _translated():
            try:
                file = await asyncio.to_thread(_Whole, self._folder / _name(sha256), self._vault)
            except NotFoundError:
                return None
            await asyncio.to_thread(file.close)
            return file.stored

    async def get(self, sha256: str, *, offset_bytes: int = 0) -> AsyncGenerator[bytes]:
        """See `Files.get`."""
        with _translated():
            file = await asyncio.to_thread(_Whole, self._folder / _name(sha256), self._vault)
            try:
                pieces = file.read(offset_bytes)
                while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
                    yield piece
            finally:
                await asyncio.to_thread(file.close)

    async def delete(self, sha256: str) -> None:
        """See `Files.delete`."""
        with _translated():
            path = self._folder / _name(sha256)
            await asyncio.to_thread(path.unlink, missing_ok=True)

    async def forget(self, *, before: datetime) -> None:
        """See `Files.forget`."""
        with _translated():
            await asyncio.to_thread(_forget, self._parts, before.timestamp())


def _name(sha256: str) -> str:
    if not SHA256.fullmatch(sha256):
        raise NotFoundError(f"{sha256!r:.80} is no SHA-256")
    return sha256


def _forget(parts: Path, before: float) -> None:
    for part in parts.glob("*"):
        with suppress(FileNotFoundError, UnavailableError):
            if part.stat().st_mtime < before:
                with part.open("rb") as file:
                    _lock(file, part)
                    part.unlink()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except DamagedError as error:
        raise RefusedError(SYSTEM, f"a file cannot be read: {error}", code="damaged") from error
    except FileNotFoundError as error:
        raise NotFoundError("there is no such file") from error
    except OSError as error:
        raise UnavailableError(SYSTEM, f"{error.strerror}") from error


def _lock(file: File, path: Path) -> None:
    """Have an open part for ourselves. Whoever had it may have given it its name meanwhile."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_still_there = os.path.samestat(os.fstat(file.fileno()), path.stat())
    except (BlockingIOError, FileNotFoundError) as error:
        raise UnavailableError(SYSTEM, "somebody else is sending this file") from error
    if not is_still_there:
        raise UnavailableError(SYSTEM, "somebody else was sending this file")


class _Whole:
    """A finished file, open."""

    def __init__(self, path: Path, vault: Vault) -> None:
        try:
            self._file = path.open("rb")
        except FileNotFoundError as error:
            raise NotFoundError(f"there is no file {path.name}") from error
        try:
            size = os.fstat(self._file.fileno()).st_size
            self._key = Key.read(vault, self._file)
            self.stored = read_end(self._key, self._file, size)
            self._end = size - END_SEALED_BYTES
            self._check(path.name)
        except BaseException:
            self.close()
            raise

    def _check(self, name: str) -> None:
        if self.stored.sha256 != name or self._end != _end_of(self.stored.size_bytes):
            raise DamagedError("it is another file, or was cut")

    def read(self, offset: int) -> Iterator[bytes]:
        """Yield the content from an offset on."""
        skip = offset % FRAME_BYTES
        first = offset // FRAME_BYTES
        for piece in frames(self._key, self._file, first=first, end=self._end):
            if rest := piece[skip:]:
                yield rest
            skip = 0

    def close(self) -> None:
        self._file.close()


def _end_of(size_bytes: int) -> int:
    """Return where the end begins in a file with so much content."""
    whole, rest = divmod(size_bytes, FRAME_BYTES)
    return HEADER_BYTES + whole * WHOLE_BYTES + (rest and WHOLE_BYTES - FRAME_BYTES + rest)


class _Part:
    """A file that is being written by us alone: what an earlier life wrote of it is kept."""

    def __init__(self, path: Path, vault: Vault) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = path
        self._file = FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")
        try:
            _lock(self._file, path)
            self._key, self._number = self._take_up(vault)
            self.size_bytes = self._number * FRAME_BYTES
        except BaseException:
            self.close()
            raise

    def _take_up(self, vault: Vault) -> tuple[Key, int]:
        """Go on after the whole frames that are kept; return the key and their number."""
        try:
            key = Key.read(vault, self._file)
        except DamagedError:
            self._file.seek(0)
            self._file.truncate()
            return Key.made(vault, self._file), 0
        number = _kept_frames(key, self._file)
        self._cut(number)
        return key, number

    def _cut(self, number: int) -> None:
        """Keep so many frames."""
        self._file.seek(HEADER_BYTES + number * WHOLE_BYTES)
        self._file.truncate()

    def add(self, piece: bytes) -> None:
        """Write a frame; all but the last one have the same size."""
        self._write(self._key.seal(piece, place(self._number)))
        self._number += 1
        self.size_bytes += len(piece)

    def finish(self, folder: Path, wanted: str) -> Stored:
        """Read it back and give it its name, that of its content.

        Raises:
            UnavailableError: A crash of the machine had left a frame that was not on the disk; it
                and what came after it are to be sent again.
            ValueError: The content is not the `wanted` one, if any; nothing of it is kept.
        """
        sha256 = self._read_back()
        if wanted not in {"", sha256}:
            self.path.unlink()
            raise ValueError(f"the content has the SHA-256 {sha256}")
        stored = Stored(sha256=sha256, size_bytes=self.size_bytes)
        self._write(seal_end(self._key, stored))
        os.fsync(self._file.fileno())
        self.path.replace(folder / stored.sha256)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return stored

    def _read_back(self) -> str:
        """Return the SHA-256 of what is on the disk, once, however often it was cut."""
        digest, number = hashlib.sha256(), 0
        try:
            for piece in frames(self._key, self._file, first=0, end=self._file.tell()):
                digest.update(piece)
                number += 1
        except DamagedError as error:
            self._cut(number)
            raise UnavailableError(SYSTEM, "what was kept of a file was damaged") from error
        return digest.hexdigest()

    def _write(self, data: bytes) -> None:
        while data:
            data = data[self._file.write(data) :]

    def close(self) -> None:
        """Let others write it."""
        self._file.close()


def _kept_frames(key: Key, file: File) -> int:
    """Return how many whole frames are kept. Only the last one is read: a kill may have cut it."""
    size = os.fstat(file.fileno()).st_size
    number = max(0, size - HEADER_BYTES) // WHOLE_BYTES
    while number > 0:
        with suppress(DamagedError):
            end = HEADER_BYTES + number * WHOLE_BYTES
            next(frames(key, file, first=number - 1, end=end))
            break
        number -= 1
    return number


def _kept_bytes(path: Path, vault: Vault) -> int:
    with path.open("rb") as file, suppress(DamagedError):
        return _kept_frames(Key.read(vault, file), file) * FRAME_BYTES
    return 0
