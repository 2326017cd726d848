"""The form of an encrypted file: a header, frames, an end.

A file has a key of its own, sealed by the vault. Each frame is AES-256-GCM over up to a mebibyte
with a random nonce; its place in the file and its kind are authenticated with it, so that frames
cannot be moved, dropped or taken from another file. The end names size and SHA-256 of the content.
"""

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import FileIO
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from core.ports.files import Stored
from core.ports.vault import Sealed, SealError, Vault

File = BinaryIO | FileIO
MAGIC = b"samovar-file-1\n"
HEADER_BYTES = 512
FRAME_BYTES = 1 << 20
NONCE_BYTES = 12
"""NIST SP 800-38D, 5.2.1.1: 96 bits; a key is used for far less than 2**32 frames."""
TAG_BYTES = 16
WHOLE_BYTES = NONCE_BYTES + FRAME_BYTES + TAG_BYTES
END_BYTES = 256
"""The end is padded to this, so that it is found from the end of the file."""
END_SEALED_BYTES = NONCE_BYTES + END_BYTES + TAG_BYTES


class DamagedError(Exception):
    """The file is not what was written."""


@dataclass(frozen=True, slots=True)
class Key:
    """What seals and opens the frames of one file."""

    id: str
    _cipher: AESGCM = field(repr=False)

    @classmethod
    def made(cls, vault: Vault, file: File) -> "Key":
        """Make a key and write the header of a new file."""
        id_, secret = secrets.token_hex(16), secrets.token_bytes(32)
        sealed = vault.seal(secret, owner=f"file:{id_}")
        about = {
            "id": id_,
            "key": sealed.key_id,
            "nonce": sealed.nonce.hex(),
            "box": sealed.box.hex(),
        }
        header = MAGIC + json.dumps(about).encode()
        if len(header) > HEADER_BYTES:
            raise ValueError(f"the id of the key is too long: {sealed.key_id!r:.80}")
        file.write(header.ljust(HEADER_BYTES))
        return cls(id_, AESGCM(secret))

    @classmethod
    def read(cls, vault: Vault, file: File) -> "Key":
        """Open the key in the header of a file.

        Raises:
            DamagedError: There is none, or the vault does not open it.
        """
        file.seek(0)
        header = file.read(HEADER_BYTES)
        if len(header) < HEADER_BYTES or not header.startswith(MAGIC):
            raise DamagedError("the header is missing")
        try:
            raw = json.loads(header.removeprefix(MAGIC))
            box, nonce = bytes.fromhex(raw["box"]), bytes.fromhex(raw["nonce"])
            sealed = Sealed(key_id=str(raw["key"]), nonce=nonce, box=box)
            secret = vault.open(sealed, owner=f"file:{raw['id']}")
            return cls(str(raw["id"]), AESGCM(secret))
        except (ValueError, KeyError, TypeError, SealError) as error:
            raise DamagedError(f"the header cannot be opened: {error}") from error

    def seal(self, plain: bytes, place: str) -> bytes:
        """Return a frame."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, place.encode())

    def open(self, frame: bytes, place: str) -> bytes:
        """Return what is in a frame.

        Raises:
            DamagedError: It was changed, or is of another place.
        """
        try:
            nonce, box = frame[:NONCE_BYTES], frame[NONCE_BYTES:]
            return self._cipher.decrypt(nonce, box, place.encode())
        except (InvalidTag, ValueError) as error:
            raise DamagedError(f"{place} was changed") from error


def seal_end(key: Key, stored: Stored) -> bytes:
    """Return the end of a file."""
    about = json.dumps({"sha256": stored.sha256, "size": stored.size_bytes}).encode()
    return key.seal(about.ljust(END_BYTES), "end")


def read_end(key: Key, file: File, size_bytes: int) -> Stored:
    """Return what the end of a file of this size says.

    Raises:
        DamagedError: It has none, or is cut or longer than it should be.
    """
    if size_bytes < HEADER_BYTES + END_SEALED_BYTES:
        raise DamagedError("the end is missing")
    file.seek(size_bytes - END_SEALED_BYTES)
    about = json.loads(key.open(file.read(END_SEALED_BYTES), "end"))
    return Stored(sha256=about["sha256"], size_bytes=about["size"])


def frames(key: Key, file: File, *, first: int, end: int) -> Iterator[bytes]:
    """Yield what is in the frames from number `first` on, up to the byte `end` of the file.

    Raises:
        DamagedError: One was changed.
    """
    file.seek(HEADER_BYTES + first * WHOLE_BYTES)
    number = first
    while (size := min(WHOLE_BYTES, end - file.tell())) > 0:
        yield key.open(file.read(size), place(number))
        number += 1


def place(number: int) -> str:
    """Return what is authenticated with a frame of this number."""
    return f"frame {number}"
