"""The keys that seal what is kept on this machine, in a file that only its owner can read."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from adapters.system import SecretBox
from core.errors import ConfigError

FILE = "vault.keys"
"""In the state folder: a line for each key, its name and 64 hex digits; the last one seals."""


def vault(state: Path) -> SecretBox:
    """Return the vault of an installation; its first key is made where there is none.

    Raises:
        ConfigError: The file cannot be read.
    """
    path = state / FILE
    if not path.exists():
        _make(path)
    try:
        lines = path.read_text().splitlines()
        return SecretBox({name: bytes.fromhex(key) for name, key in map(str.split, lines)})
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} cannot be read ({error}). Put it back from a backup: what it sealed cannot "
            "be opened without it."
        ) from error


def _make(path: Path) -> None:
    """Write a key of our own, unless somebody is faster; it is there whole or not at all."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(f"k1 {secrets.token_hex(32)}\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            path.hardlink_to(part)
    finally:
        part.unlink()
