"""Where processes of a workspace run, for those who work there and for those who only look."""

from pathlib import Path
from typing import Any

import pytest

from agent import record
from agent.errors import NodeError
from agent.files import Layout
from agent.rescue import MARK
from agent.settings import Settings
from agent.workspaces import Workspaces
from core.ids import WorkspaceId
from core.wire import CreateWorkspace

WORKSPACE = WorkspaceId("wabcdefg")
ORDER = CreateWorkspace(
    workspace=WORKSPACE,
    attempt=1,
    repository="acme/web",
    url="http://127.0.0.1:9",
    base="",
    branch="topic",
    cpus=1.0,
    memory_mb=512,
    devcontainer="",
    image="debian",
)


async def unused(*_: object) -> Any:
    raise AssertionError


@pytest.fixture
def workspaces(tmp_path: Path) -> Workspaces:
    settings = Settings(
        state=tmp_path, docker_host="", node_js="", devcontainer_js="", claude=tmp_path
    )
    return Workspaces(
        settings, credentials=unused, copies=unused, tell=unused, forward_url=lambda: ""
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = Layout(state=tmp_path).workspace(WORKSPACE)
    made.mkdir(parents=True)
    (made / "token").write_text("wst_0123456789")
    return made


async def test_who_only_looks_leaves_a_saved_workspace_saved(
    workspaces: Workspaces, home: Path
) -> None:
    made = record.Record(order=ORDER, env={"API_KEY": "hush-hush"}, is_ready=True)
    record.save(home, made)
    assert workspaces.known(WORKSPACE).env == made.env
    assert not (home / MARK).exists()
    assert await workspaces.place(WORKSPACE) == workspaces.known(WORKSPACE)
    assert (home / MARK).exists()


async def test_a_workspace_that_is_made_anew_is_known_and_nobody_works_in_it(
    workspaces: Workspaces, home: Path
) -> None:
    record.save(home, record.Record(order=ORDER, env={"API_KEY": "hush-hush"}, is_ready=False))
    assert workspaces.known(WORKSPACE).env == {"API_KEY": "hush-hush"}
    with pytest.raises(NodeError):
        await workspaces.place(WORKSPACE)
    record.forget(home)
    with pytest.raises(NodeError):
        workspaces.known(WORKSPACE)
