"""Which workspace is meant: its own name, or that of its task."""

import re
from typing import TYPE_CHECKING

from core.errors import UserError

if TYPE_CHECKING:
    from bot.client import Client

_TASK = re.compile(r"[Tt]-\d+")


async def workspace_meant(client: "Client", what: str) -> str:
    """Return the workspace `what`, or that of the task `what`.

    Raises:
        UserError: The task has none.
    """
    if not _TASK.fullmatch(what):
        return what
    found = (await client.get("tasks", what.upper()))["card"]["workspace_id"]
    if not found:
        raise UserError(f"{what.upper()} has no workspace. Reply in its thread to give it one.")
    return str(found)
