"""Names that are derived, so that the same intent has the same name on every attempt."""

import base64
import hashlib
import uuid

from core.ids import OrderId, RunId

_SPACE = uuid.UUID("6f1d2c0e-5b43-4f0a-9d4e-2a1c6b7f8e90")


def workspace_name(run_id: RunId, installation: str) -> str:
    """Return eight letters and digits that stand for the workspace a run asks for.

    Two installations may share a Docker Engine, so their names differ.
    """
    digest = hashlib.sha256(f"workspace:{installation}:{run_id}".encode()).digest()
    return "w" + base64.b32encode(digest).decode().lower()[:7]


def session_name(run_id: RunId, installation: str) -> str:
    """Return the UUID of a run's agent session."""
    return _uuid4(f"session:{installation}:{run_id}")


def prompt_name(key: str) -> str:
    """Return the UUID of the prompt that a message's delivery key stands for."""
    return _uuid4(f"prompt:{key}")


def stop_name(run_id: RunId) -> OrderId:
    """Return the name of the order that ends a run's coding agent."""
    return OrderId(f"{run_id}/stop")


def _uuid4(name: str) -> str:
    return str(uuid.UUID(bytes=uuid.uuid5(_SPACE, name).bytes, version=4))
