"""Port: secrets at rest."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A secret as it is stored.

    Attributes:
        key_id: Which key opens it.
        nonce: Chosen at random for each sealing.
        box: The encrypted secret with its seal.
    """

    key_id: str
    nonce: bytes
    box: bytes


class SealError(ValueError):
    """It was sealed for another owner or by an unknown key, or somebody changed it."""


class Vault(Protocol):
    """Seals and opens secrets.

    Promises, each held by a test of the same number in `tests/contracts/test_vault.py`:

    1. What was sealed is opened unchanged, whatever bytes it has.
    2. `open` raises `SealError` for another owner than it was sealed for.
    3. `open` raises `SealError` when a bit was changed, or when the key is unknown.
    4. The newest key seals; every key that is still there opens, so keys can be rotated.
    5. The same secret sealed twice looks different.
    """

    def seal(self, secret: bytes, *, owner: str) -> Sealed:
        """Seal a secret for the row that owns it, such as `project:web/token`."""
        ...

    def open(self, sealed: Sealed, *, owner: str) -> bytes:
        """Return the secret."""
        ...
