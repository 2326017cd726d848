"""The keys that seal what is kept on this machine, in a file that only its owner can read."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from adapters.system import SecretBox
from core.errors import ConfigError

FILE = "vault.keys"
"""In the state folder: a line for each key, its name and 64 hex digits; the last one seals."""
FILES = "files"
"""In the state folder: the file store, which they seal."""


def vault(state: Path) -> SecretBox:
    """Return the vault of an installation; its first key is made where nothing is sealed yet.

    Raises:
        ConfigError: The file cannot be read, or is missing beside what it sealed.
    """
    path, sealed = state / FILE, state / FILES
    if not path.exists():
        if any(one.is_file() for one in sealed.glob("**/*")):
            raise ConfigError(
                f"{path} is missing, and nothing in {sealed} can be opened without it. Put it back "
                f"from a backup. If there is none, move {sealed} away: what is in it is lost."
            )
        _make(path)
    try:
        return SecretBox(_read(path))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} cannot be read ({error}). Put it back from a backup: what it sealed cannot "
            "be opened without it."
        ) from error


def _read(path: Path) -> dict[str, bytes]:
    lines = [line.split() for line in path.read_text().splitlines()]
    keys = {name: bytes.fromhex(key) for name, key in lines}
    if len(keys) < len(lines):
        raise ValueError("two keys have the same name")
    return keys


def _make(path: Path) -> None:
    """Write a key of our own, unless somebody is faster; it is there whole or not at all."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(f"k-{secrets.token_hex(4)} {secrets.token_hex(32)}\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            path.hardlink_to(part)
    finally:
        part.unlink()
