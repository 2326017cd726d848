import pytest

from adapters.memory.forge import MemoryForge, MemoryRepository
from bot.credentials import Credentials
from core.errors import CredentialError, UnavailableError
from core.ids import NodeId, ProjectId, WorkspaceId
from core.wire import CredentialRequest
from core.workspace import WorkspaceState
from tests.fakes.desk import Desk
from tests.fakes.nouns import a_node, a_task, a_workspace


@pytest.fixture
async def forge(desk: Desk) -> MemoryForge:
    repositories = {name: MemoryRepository() for name in ("acme/web", "acme/till")}
    return MemoryForge(now=desk.clock.now, repositories=repositories)


@pytest.fixture
async def credentials(desk: Desk, forge: MemoryForge) -> Credentials:
    other = {"id": "T-2", "project": ProjectId("till"), "thread": "web:web:2", "branch": "b2"}
    await desk.put(
        a_node(id=NodeId("node-2")),
        a_task(),
        a_task(**other),
        a_workspace(run_id=None),
        a_workspace(
            id=WorkspaceId("wother"),
            node_id=NodeId("node-2"),
            task_id="T-2",
            project=ProjectId("till"),
            run_id=None,
        ),
        a_workspace(id=WorkspaceId("wgone"), run_id=None, state=WorkspaceState.GONE, task_id="T-2"),
    )
    return Credentials(store=desk.store, forge=forge, ttl_s=3600)


def asks(workspace: str, scope: str = "read") -> CredentialRequest:
    return CredentialRequest(number=7, workspace=WorkspaceId(workspace), scope=scope)


@pytest.mark.parametrize("scope", ["read", "write"])
async def test_c6_a_workspace_gets_a_token_of_its_own_repository(
    credentials: Credentials, forge: MemoryForge, scope: str
) -> None:
    given = await credentials.credential(NodeId("node-1"), asks("wabcdefg", scope))
    assert (given.number, given.code, given.username) == (7, "", "x-access-token")
    repo, token_scope = forge.tokens[given.password]
    assert (str(repo), token_scope) == ("acme/web", scope)


@pytest.mark.parametrize("workspace", ["wother", "wgone", "nobody", "", "\x00", "' OR 1=1"])
async def test_c6_a_node_gets_nothing_for_a_workspace_that_is_not_on_it(
    credentials: Credentials, forge: MemoryForge, workspace: str
) -> None:
    given = await credentials.credential(NodeId("node-1"), asks(workspace))
    assert (given.number, given.code, given.password) == (7, "unknown_workspace", "")
    assert given.text.startswith("There is no workspace")
    assert forge.tokens == {}


@pytest.mark.parametrize(
    "error", [UnavailableError("GitHub", "503"), CredentialError("GitHub", "bad key")]
)
async def test_a_code_host_that_refuses_is_quoted(
    credentials: Credentials, forge: MemoryForge, error: UnavailableError | CredentialError
) -> None:
    forge.fail_next["access"] = error
    given = await credentials.credential(NodeId("node-1"), asks("wabcdefg"))
    assert (given.code, given.text, given.password) == (error.code, str(error), "")


async def test_c6_a_project_that_went_away_is_no_crash(
    desk: Desk, credentials: Credentials
) -> None:
    gone = ProjectId("gone")
    await desk.put(a_workspace(id=WorkspaceId("wlost"), run_id=None, project=gone))
    given = await credentials.credential(NodeId("node-1"), asks("wlost"))
    assert given.code == "not_found"
