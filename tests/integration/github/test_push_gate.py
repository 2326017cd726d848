"""Pushes from a workspace: real git, the gate behind a real server, the stand-in behind it."""

import asyncio
import gzip
import os
import time as system_time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import aiohttp
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
from uvicorn.server import ServerState

from adapters.github.push_gate import PushGate
from bot.demo.forge.server import StandInForge
from core.ids import RunId, TaskId, WorkspaceId
from core.ports.forge import GitAccess
from core.ports.grants import Grant, ModelCall
from core.project import RepoRef
from core.secret import Secret
from tests.fakes.code_host import Done, Time, code_host, commit_file, git, github

WEB = RepoRef(owner="acme", name="web")
TOKEN = "workspace-token-3f9c"
BRANCH = "samovar/T-142-fix"
SENTENCE = "this task may push only branches that begin with samovar/T-142-"


@dataclass
class FakeGrants:
    """One workspace. `by_token` is the lever."""

    by_token: dict[str, Grant] = field(default_factory=dict)

    async def grant(self, token: str, *, session: str = "") -> Grant | None:
        return self.by_token.get(token)

    async def book(self, grant: Grant, call: ModelCall) -> None:
        raise AssertionError("a push costs no model")

    async def exhausted(self, grant: Grant) -> None:
        raise AssertionError("a push has no budget")


def a_grant() -> Grant:
    return Grant(
        workspace_id=WorkspaceId("abcd1234"),
        task_id=TaskId("T-142"),
        run_id=RunId("T-142.1"),
        repository=WEB,
        branches="samovar/T-142-",
        models=None,
        budget_usd=Decimal(3),
        spent_usd=Decimal(0),
    )


@dataclass
class Workspace:
    """A clone whose push URL is the gate, as the node agent sets it up."""

    work: Path
    gate_url: str
    host: StandInForge
    grants: FakeGrants

    async def push(self, *arguments: str, token: str = TOKEN, url: str = "") -> Done:
        access = GitAccess(
            url=self.gate_url,
            username="samovar",
            token=Secret(token),
            expires_at=datetime.now(UTC),
        )
        target = url or self.gate_url
        return await git("push", target, *arguments, cwd=self.work, access=access, check=False)

    async def refs(self) -> dict[str, str]:
        return await self.host.refs("acme/web")

    async def head(self) -> str:
        return (await git("rev-parse", "HEAD", cwd=self.work)).said


@asynccontextmanager
async def served(app: Starlette) -> AsyncIterator[str]:
    """Run uvicorn's protocol on a free port, without the main loop that makes its end slow."""
    config = uvicorn.Config(app, log_config=None, lifespan="off", http="h11")
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: config.http_protocol_class(config=config, server_state=state, app_state={}),
        "127.0.0.1",
        0,
    )
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    for connection in list(state.connections):
        connection.shutdown()
    if state.tasks:
        await asyncio.wait(state.tasks, timeout=5)


@pytest.fixture
async def workspace(tmp_path: Path) -> AsyncIterator[Workspace]:
    time = Time(at=system_time.time())
    grants = FakeGrants({TOKEN: a_grant()})
    async with code_host(tmp_path / "host", time) as host:
        await host.create_repository("acme/web", files={"a.txt": "1\n"})
        await host.create_repository("acme/api", files={"a.txt": "1\n"})
        forge = github(host, time)
        read = await forge.access(WEB, scope="read", ttl_s=3600)
        work = tmp_path / "work"
        await git("clone", "--quiet", read.url, str(work), cwd=tmp_path, access=read)
        await git("checkout", "--quiet", "-b", BRANCH, cwd=work)
        await commit_file(work, "b.txt", "2\n", message="Work")
        async with PushGate(grants, forge) as gate:
            app = Starlette(routes=[Mount("/git", app=gate.app)])
            async with served(app) as url:
                yield Workspace(work, f"{url}/git/acme/web.git", host, grants)
        forge.close()


async def test_t5_a_branch_of_the_task_is_pushed(workspace: Workspace) -> None:
    pushed = await workspace.push("HEAD")
    assert pushed.status == 0, pushed.said
    assert (await workspace.refs())[f"refs/heads/{BRANCH}"] == await workspace.head()


async def test_t5_the_default_branch_is_refused_with_a_sentence_and_nothing_changes(
    workspace: Workspace,
) -> None:
    before = await workspace.refs()
    pushed = await workspace.push("HEAD:main")
    assert pushed.status == 1
    assert f"! [remote rejected] HEAD -> main ({SENTENCE})" in pushed.said
    assert "remote: Samovar: nothing was pushed." in pushed.said
    assert await workspace.refs() == before


async def test_one_refused_ref_refuses_the_whole_push(workspace: Workspace) -> None:
    before = await workspace.refs()
    pushed = await workspace.push("HEAD", "HEAD:main")
    assert "not pushed, because another ref of this push is refused" in pushed.said
    assert SENTENCE in pushed.said
    assert await workspace.refs() == before


async def test_c6_no_other_ref_is_pushed(workspace: Workspace) -> None:
    before = await workspace.refs()
    for target in (
        "refs/tags/v1",
        "refs/heads/samovar/T-1421-neighbour",
        "refs/heads/samovar/T-142-",
        "refs/heads/other",
        "refs/notes/commits",
        "refs/pull/1/head",
        "refs/heads/refs/heads/samovar/T-142-fix",
    ):
        assert (await workspace.push(f"HEAD:{target}")).status != 0, target
    assert await workspace.refs() == before


async def test_a_branch_is_not_deleted(workspace: Workspace) -> None:
    await workspace.push("HEAD")
    pushed = await workspace.push("--delete", BRANCH)
    assert "branches are not deleted from a workspace" in pushed.said
    assert f"refs/heads/{BRANCH}" in await workspace.refs()


async def test_an_own_branch_may_be_rewritten(workspace: Workspace) -> None:
    await workspace.push("HEAD")
    await git("commit", "--quiet", "--amend", "-m", "Work, better", cwd=workspace.work)
    assert (await workspace.push("HEAD")).status == 1, "git asks for --force itself"
    pushed = await workspace.push("--force", "HEAD")
    assert pushed.status == 0, pushed.said
    assert (await workspace.refs())[f"refs/heads/{BRANCH}"] == await workspace.head()


async def test_c6_another_repository_is_not_found(workspace: Workspace) -> None:
    url = workspace.gate_url.replace("acme/web", "acme/api")
    pushed = await workspace.push("HEAD", url=url)
    assert pushed.status == 128
    assert "This workspace works on acme/web and no other repository." in pushed.said
    assert set(await workspace.host.refs("acme/api")) == {"refs/heads/main"}


async def test_c6_an_unknown_token_is_refused(workspace: Workspace) -> None:
    pushed = await workspace.push("HEAD", token="guessed")
    assert pushed.status == 128
    assert "no run works in this workspace" in pushed.said
    workspace.grants.by_token.clear()
    assert (await workspace.push("HEAD")).status == 128


async def test_a_fetch_is_sent_elsewhere(workspace: Workspace) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with aiohttp.ClientSession(headers=headers) as http:
        for method, path in (
            ("GET", "info/refs?service=git-upload-pack"),
            ("GET", "info/refs"),
            ("POST", "git-upload-pack"),
        ):
            async with http.request(method, f"{workspace.gate_url}/{path}") as answer:
                assert answer.status == 403
                assert "takes pushes only" in await answer.text()


async def test_without_a_token_git_is_asked_for_one(workspace: Workspace) -> None:
    url = f"{workspace.gate_url}/info/refs?service=git-receive-pack"
    async with aiohttp.ClientSession() as http, http.get(url) as answer:
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Basic")


async def test_a_push_of_30_megabytes_is_streamed(workspace: Workspace) -> None:
    (workspace.work / "big.bin").write_bytes(os.urandom(30 << 20))
    await git("add", "big.bin", cwd=workspace.work)
    await git("commit", "--quiet", "-m", "Big", cwd=workspace.work)
    pushed = await workspace.push("HEAD")
    assert pushed.status == 0, pushed.said
    assert (await workspace.refs())[f"refs/heads/{BRANCH}"] == await workspace.head()


async def test_a_refused_big_push_still_hears_why(workspace: Workspace) -> None:
    (workspace.work / "big.bin").write_bytes(os.urandom(4 << 20))
    await git("add", "big.bin", cwd=workspace.work)
    await git("commit", "--quiet", "-m", "Big", cwd=workspace.work)
    assert SENTENCE in (await workspace.push("HEAD:main")).said


async def test_a_push_with_options_and_atomic_passes(workspace: Workspace) -> None:
    config = await workspace.host.git("acme/web", "config", "receive.advertisePushOptions", "true")
    assert config == ""
    pushed = await workspace.push("--atomic", "--push-option=ci.skip", "HEAD")
    assert pushed.status == 0, pushed.said


async def test_a_push_from_a_shallow_clone_passes(workspace: Workspace, tmp_path: Path) -> None:
    shallow = tmp_path / "shallow"
    source = f"file://{workspace.work}"
    await git("clone", "--quiet", "--depth=1", "-b", BRANCH, source, str(shallow), cwd=tmp_path)
    await git("remote", "add", "gate", workspace.gate_url, cwd=shallow)
    sha = await commit_file(shallow, "c.txt", "3\n", message="More")
    await workspace.push("HEAD")
    workspace.work = shallow
    pushed = await workspace.push("HEAD")
    assert pushed.status == 0, pushed.said
    assert (await workspace.refs())[f"refs/heads/{BRANCH}"] == sha


async def test_a_code_host_that_refuses_is_said_in_words(workspace: Workspace) -> None:
    for status in (401, 403, 404, 429, 500):
        workspace.host.fail("GET", "/acme/web.git/info/refs", status)
        pushed = await workspace.push("HEAD")
        assert pushed.status == 128
        assert "remote: The code host" in pushed.said
    assert (await workspace.push("HEAD")).status == 0, "the next push gets a fresh token"


async def test_a_gzipped_push_is_read_too(workspace: Workspace) -> None:
    zero, sha = "0" * 40, await workspace.head()
    command = f"{zero} {sha} refs/heads/main\0report-status".encode()
    body = b"%04x" % (len(command) + 4) + command + b"0000"
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Encoding": "gzip"}
    url = f"{workspace.gate_url}/git-receive-pack"
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.post(url, data=gzip.compress(body)) as answer,
    ):
        assert answer.status == 200
        assert SENTENCE.encode() in await answer.read()


async def test_nonsense_changes_nothing(workspace: Workspace) -> None:
    before = await workspace.refs()
    url = f"{workspace.gate_url}/git-receive-pack"
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as http:
        for body in (b"", b"zzzz", b"0001", b"00", b"0008junk0000"):
            async with http.post(url, data=body) as answer:
                assert answer.status == 400, body
        async with http.post(url, data=b"0000") as answer:
            assert answer.status == 200, "git asks so whether a big push may come in"
    assert await workspace.refs() == before


async def test_a_workspace_that_dies_in_mid_push_changes_nothing(workspace: Workspace) -> None:
    before = await workspace.refs()
    command = f"{'0' * 40} {await workspace.head()} refs/heads/{BRANCH}\0report-status".encode()

    async def half() -> AsyncIterator[bytes]:
        yield b"%04x" % (len(command) + 4) + command + b"0000PACK\0\0\0\2\0\0\0\3"
        yield os.urandom(1 << 20)
        raise ConnectionAbortedError

    url = f"{workspace.gate_url}/git-receive-pack"
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as http:
        with pytest.raises(aiohttp.ClientError):
            async with http.post(url, data=half()) as answer:
                await answer.read()
    assert await workspace.refs() == before
    assert (await workspace.push("HEAD")).status == 0


async def test_c7_the_write_token_never_reaches_the_workspace(workspace: Workspace) -> None:
    pushed = await workspace.push("-v", "HEAD")
    assert "ghs_" not in pushed.said
