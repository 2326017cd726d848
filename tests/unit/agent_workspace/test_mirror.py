"""The mirror against a code host on loopback, without Docker."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from agent.errors import NodeError
from agent.files import Layout
from agent.git import Login, git
from agent.mirror import Mirror
from agent.process import Overdue, run
from tests.fakes.clock import LoopClock
from tests.fakes.githost import GitHost, git_host

NAME = "acme/web"


@pytest.fixture
async def forge(tmp_path: Path) -> AsyncIterator[GitHost]:
    (tmp_path / "git").mkdir()
    async with git_host(tmp_path / "git") as host:
        host.add(NAME, {"a.txt": "a"})
        yield host


@pytest.fixture
def mirror(forge: GitHost, tmp_path: Path) -> Mirror:
    return Mirror(Layout(state=tmp_path / "state"), NAME, forge.url(NAME))


def login(forge: GitHost, password: str = "read-secret") -> Login:
    return Login(url=forge.base_url, username="reader", password=password)


async def test_a_mirror_follows_branches_also_where_one_becomes_a_folder(
    mirror: Mirror, forge: GitHost
) -> None:
    forge.commit(NAME, {"b": "b"}, branch="topic")
    await mirror.refresh(login(forge))
    assert set((await mirror.heads()).commits) == {"main", "topic"}
    forge.git(NAME, "update-ref", "-d", "refs/heads/topic")
    deep = forge.commit(NAME, {"c": "c"}, branch="topic/deep")
    await mirror.refresh(login(forge))
    assert (await mirror.heads()).commits["topic/deep"] == deep
    assert await mirror.default_branch(login(forge)) == "main"
    assert await mirror.remote_head("topic/deep", login(forge)) == deep
    assert await mirror.remote_head("deep", login(forge)) == ""


async def test_what_a_killed_git_left_is_no_obstacle(mirror: Mirror, forge: GitHost) -> None:
    await mirror.refresh(login(forge))
    (mirror.path / "refs/heads/main.lock").touch()
    (mirror.path / "packed-refs.lock").touch()
    (mirror.path / "objects/pack/tmp_pack_x").touch()
    commit = forge.commit(NAME, {"b": "b"})
    await mirror.refresh(login(forge))
    assert (await mirror.heads()).commits["main"] == commit


async def test_ten_at_once_wait_for_one_another(mirror: Mirror, forge: GitHost) -> None:
    async with asyncio.TaskGroup() as tasks:
        for _ in range(10):
            tasks.create_task(mirror.refresh(login(forge)))
    assert list((await mirror.heads()).commits) == ["main"]


async def test_c7_a_password_is_in_no_argument_environment_or_file(
    mirror: Mirror, forge: GitHost, tmp_path: Path
) -> None:
    canary = "canary-'\"$(id)\\ü"
    forge.readers["reader"] = canary
    seen: list[str] = []
    handle = forge.handle

    async def look(request: web.Request) -> web.StreamResponse:
        for process in Path("/proc").glob("[0-9]*"):
            for name in ("cmdline", "environ"):
                try:
                    text = (process / name).read_bytes()
                except OSError:
                    continue
                if canary.encode() in text:
                    seen.append(str(process / name))
        return await handle(request)

    forge.route = look
    await mirror.refresh(login(forge, canary))
    assert seen == []
    for path in (tmp_path / "state").rglob("*"):
        assert not path.is_file() or canary.encode() not in path.read_bytes()
    assert canary not in repr(login(forge, canary))


async def test_a_redirect_to_another_host_gets_no_password(
    mirror: Mirror, forge: GitHost, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    async with git_host(tmp_path / "other") as other:
        other.add(NAME, {"stolen": ""})
        asked: list[str] = []

        async def note(request: web.Request) -> web.StreamResponse:
            asked.append(request.headers.get("Authorization", ""))
            return web.Response(status=401, headers={"WWW-Authenticate": "Basic"})

        async def redirect(request: web.Request) -> web.StreamResponse:
            raise web.HTTPFound(f"{other.base_url}{request.path_qs}")

        other.route, forge.route = note, redirect
        with pytest.raises(NodeError) as refused:
            await mirror.refresh(login(forge))
        assert refused.value.code == "clone_refused"
        assert asked
        assert set(asked) == {""}


async def test_w10_progress_renews_the_deadline_and_silence_ends_it() -> None:
    environment, clock = {"PATH": os.environ["PATH"]}, LoopClock()

    async def heard(_: bytes) -> None:
        clock.advance(40)

    talk = "for i in 1 2 3 4 5 6; do echo $i >&2; sleep 0.1; done"
    done = await run(
        ["sh", "-c", talk],
        environment=environment,
        time_limit_s=1000,
        silence_limit_s=60,
        watch=heard,
    )
    assert done.code == 0
    with pytest.raises(Overdue):
        await run(
            ["sh", "-c", "echo 1; sleep 60"],
            environment=environment,
            time_limit_s=60,
            silence_limit_s=0.2,
        )


async def test_w11_a_program_is_killed_with_its_whole_group(tmp_path: Path) -> None:
    environment, clock = {"PATH": os.environ["PATH"]}, LoopClock()

    async def heard(_: bytes) -> None:
        clock.advance(60)

    script = f"sleep 321 & echo $! > {tmp_path}/pid; echo >&2; wait"
    with pytest.raises(Overdue):
        await run(["sh", "-c", script], environment=environment, time_limit_s=60, watch=heard)
    pid = (tmp_path / "pid").read_text().strip()
    async with asyncio.timeout(30):
        while Path(f"/proc/{pid}").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text():
            await asyncio.sleep(0.01)


async def test_git_on_the_host_runs_nothing_that_a_repository_names(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    repository = tmp_path / "r"
    await git("init", "--quiet", str(repository))
    hook = repository / ".git/hooks/post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {mark}\n")
    hook.chmod(0o755)
    (repository / "a").write_text("a")
    tree = {"GIT_WORK_TREE": str(repository)}
    inside = repository / ".git"
    for argv in (
        ("config", "core.fsmonitor", f"touch {mark}"),
        ("config", "credential.helper", f"!touch {mark}"),
        ("add", "--all"),
        ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "c"),
        ("checkout", "--quiet", "-b", "x"),
        ("status",),
    ):
        await git(*argv, repository=inside, extra=tree)
    refused = await git("ls-remote", f"ext::touch {mark}", check=False)
    assert refused.code != 0
    assert not mark.exists()
