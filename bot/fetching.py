"""Which files a node may fetch: the copies that are put back on it right now."""

from core.ids import NodeId
from core.ports.store import Reader, Store
from core.rescue import CopyState, RescueCopy
from core.workspace import Workspace, WorkspaceState


async def may_fetch(store: Store, node: NodeId, sha256: str) -> bool:
    """Whether a workspace that is being made on the node is put back from this file."""

    async def look(reader: Reader) -> bool:
        making = await reader.find(Workspace, node_id=node, state=WorkspaceState.BUILDING)
        wanted = await reader.find(RescueCopy, sha256=sha256, state=CopyState.KEPT)
        return bool({one.id for one in making} & {copy.workspace_id for copy in wanted})

    return await store.snapshot(look)
