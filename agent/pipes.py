"""Streams by ticket on which both sides speak, besides terminals: ports, files to be written."""

from agent.errors import NodeError
from agent.ports import pass_on
from agent.workspaces import Workspaces
from core.viewing import View
from core.wire import CLOSE_MISSING, ConnectPort, Pipe


async def serve(workspaces: Workspaces, wanted: Pipe, pipe: View) -> None:
    """Serve whoever waits at the other end; what is refused closes the pipe with its code."""
    try:
        if isinstance(wanted, ConnectPort):
            await pass_on(pipe, await workspaces.connect(wanted.workspace, wanted.port))
        else:
            await workspaces.put(wanted, pipe)
    except NodeError as error:
        await pipe.close(CLOSE_MISSING, error.code)
