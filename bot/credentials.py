"""git credentials for nodes: each for the repository of one workspace that is on that node."""

from dataclasses import dataclass

from core.errors import AppError, NotFoundError
from core.ids import NodeId
from core.ports.forge import Forge
from core.ports.store import Store
from core.project import Project
from core.wire import Credential, CredentialRequest
from core.workspace import LIVE as LIVE_WORKSPACES
from core.workspace import Workspace

MEND = (
    "An administrator corrects its name in the configuration or installs our App there; "
    "then reply `try again`."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Asks the code host for tokens on behalf of nodes. None is stored.

    Attributes:
        ttl_s: Longest life of a token.
    """

    store: Store
    forge: Forge
    ttl_s: float

    async def credential(self, node: NodeId, request: CredentialRequest) -> Credential:
        """Return a credential, or why there is none."""
        found = await self.store.find(
            Workspace, id=request.workspace, node_id=node, state=LIVE_WORKSPACES
        )
        if not found:
            text = f"There is no workspace {request.workspace} on this node."
            return Credential(number=request.number, code="unknown_workspace", text=text)
        try:
            project = await self.store.get(Project, found[0].project)
            access = await self.forge.access(project.repo, scope=request.scope, ttl_s=self.ttl_s)
        except NotFoundError as error:
            text = f"The repository of {found[0].project} cannot be read: {error} {MEND}"
            return Credential(number=request.number, code=error.code, text=text)
        except AppError as error:
            return Credential(number=request.number, code=error.code, text=str(error))
        return Credential(
            number=request.number, username=access.username, password=access.token.reveal()
        )
