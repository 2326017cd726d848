"""Who this node is: made once by joining, kept in the state folder."""

import json
import os
import secrets
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from agent import files
from core.ids import NodeId

TOKEN = "token"  # noqa: S105  the name of a file
NODE = "node.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What joining left behind.

    Attributes:
        url: The control plane's address, `https://host`, without a path.
        cpus: Processors that workspaces may use in all.
        memory_mb: Mebibytes that workspaces may use in all.
    """

    url: str
    node: NodeId
    cpus: float
    memory_mb: int


def load(state: Path) -> Identity | None:
    """Return who we are, None before joining."""
    raw = files.read_json(state / NODE)
    if raw is None or not (state / TOKEN).exists():
        return None
    return Identity(url=raw["url"], node=raw["node"], cpus=raw["cpus"], memory_mb=raw["memory_mb"])


def save(state: Path, identity: Identity) -> None:
    """Keep who we are; the token is there already."""
    files.write(state / NODE, json.dumps(asdict(identity)), mode=0o600)


def own_token(state: Path) -> str:
    """Return the node token; a new one survives even a power cut before this returns."""
    if not (state / TOKEN).exists():
        save_token(state, secrets.token_urlsafe(32))
        files.settle(state)
    return token(state)


def token(state: Path) -> str:
    """Return the node token."""
    return (state / TOKEN).read_text().strip()


def save_token(state: Path, token: str) -> None:
    """Replace the node token."""
    files.write(state / TOKEN, token, mode=0o600)


def token_age_s(state: Path) -> float:
    """Return the seconds since the token was written."""
    return time.time() - (state / TOKEN).stat().st_mtime


def machine() -> tuple[float, int]:
    """Return the processors and the mebibytes of memory of this machine."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return float(os.cpu_count() or 1), pages // 2**20
