"""Clock, chance and the secret box of this machine."""

import asyncio
import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from core.ports.vault import Sealed, SealError

_NONCE_BYTES = 12
"""NIST SP 800-38D, 5.2.1.1: 96 bits are recommended."""


class SystemClock:
    """See `Clock`."""

    def now(self) -> datetime:
        """See `Clock.now`."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """See `Clock.sleep`."""
        await asyncio.sleep(seconds)


def boottime() -> float:
    """Return seconds that never step and go on while the process or the machine is frozen."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class SecretBox:
    """See `Vault`. AES-256-GCM; the owner is part of what is sealed.

    Args:
        keys: 32 bytes each by key id, the newest last. An id is at most used for 2**32 seals.

    Raises:
        ValueError: If there is no key or one is not 32 bytes long.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        if not keys or any(len(key) != 32 for key in keys.values()):
            raise ValueError("a secret box needs keys of 32 bytes")
        self._keys = {name: AESGCM(key) for name, key in keys.items()}
        self._newest = list(keys)[-1]

    def seal(self, secret: bytes, *, owner: str) -> Sealed:
        """See `Vault.seal`."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        box = self._keys[self._newest].encrypt(nonce, secret, owner.encode())
        return Sealed(key_id=self._newest, nonce=nonce, box=box)

    def open(self, sealed: Sealed, *, owner: str) -> bytes:
        """See `Vault.open`."""
        key = self._keys.get(sealed.key_id)
        if key is None:
            raise SealError(f"there is no key {sealed.key_id}")
        try:
            return key.decrypt(sealed.nonce, sealed.box, owner.encode())
        except (InvalidTag, ValueError) as error:
            raise SealError("sealed for somebody else, or changed") from error
