"""The devcontainer CLI as a child process: its answers, its log, its deadline."""

import asyncio
import json
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent import devcontainer
from agent.devcontainer import Devcontainer, Target, UpFailed
from agent.docker import Engine
from agent.files import give_folder
from agent.settings import Settings

UP = {"outcome": "success", "containerId": "c", "remoteUser": "dev", "remoteWorkspaceFolder": "/w"}


class NoEngine(Engine):
    """An engine that never goes away, since it was never there."""

    @asynccontextmanager
    async def steady(self) -> AsyncGenerator[None]:
        yield


class Scripted:
    """A shell script in the CLI's place."""

    def __init__(self, folder: Path, script: str) -> None:
        self.program = folder / "cli"
        self.program.write_text(script)
        self.target = Target(
            checkout=folder / "web",
            config=None,
            override=folder / "o.json",
            labels={"a": "b c"},
            log=folder / "logs/build-1.log",
            project="p",
        )
        settings = Settings(
            state=folder,
            docker_host="unix:///d",
            node_js="/bin/sh",
            devcontainer_js=str(self.program),
            claude=folder,
        )
        self.cli = Devcontainer(settings, folder, NoEngine(settings.docker_host))
        self.lines: list[tuple[str, str]] = []

    async def line(self, kind: str, text: str) -> None:
        self.lines.append((kind, text))

    async def up(self) -> devcontainer.Up:
        return await self.cli.up(self.target, is_rebuild=False, line=self.line)


async def test_the_last_object_is_the_answer_and_the_log_is_text(tmp_path: Path) -> None:
    said = json.dumps({"type": "text", "level": 3, "text": "\x1b[1mhello\x1b[0m\r\n"})
    cli = Scripted(
        tmp_path, f"printf '%s\\n' '{said}' >&2; echo noise; env; echo '{json.dumps(UP)}'"
    )
    up = await cli.up()
    assert (up.container, up.user, up.folder) == ("c", "dev", "/w")
    assert cli.lines == [("text", "hello")]
    assert "hello\n" in cli.target.log.read_text()


async def test_the_environment_knows_nothing_of_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NODE_TOKEN", "canary")
    cli = Scripted(tmp_path, f"env > {tmp_path}/env; echo '{json.dumps(UP)}'")
    await cli.up()
    names = {line.split("=")[0] for line in (tmp_path / "env").read_text().splitlines()}
    expected = {"PATH", "HOME", "TMPDIR", "LC_ALL", "DOCKER_HOST", "COMPOSE_PROJECT_NAME"}
    assert names - {"PWD", "SHLVL", "_"} == expected


@pytest.mark.parametrize("step", ["read", "up", "hooks", "probe"])
async def test_w2_a_step_that_hangs_is_ended_at_its_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr(devcontainer, f"{step.upper()}_S", 0.3)
    cli = Scripted(tmp_path, "sleep 300 & sleep 300")
    steps = {
        "read": lambda: cli.cli.read(cli.target),
        "up": cli.up,
        "hooks": lambda: cli.cli.run_hooks(cli.target, line=cli.line),
        "probe": lambda: cli.cli.probe(cli.target),
    }
    with pytest.raises(UpFailed, match="longer than"):
        await asyncio.wait_for(steps[step](), 30)
    if step != "probe":  # It writes no log.
        assert "stopped after" in cli.target.log.read_text()


async def test_a_failure_tells_the_cli_s_own_reason_and_the_last_error(tmp_path: Path) -> None:
    said = json.dumps({"type": "raw", "text": "E: Unable to locate: not found\n"})
    end = json.dumps({"outcome": "error", "description": "An error occurred building."})
    cli = Scripted(tmp_path, f"printf '%s\\n' '{said}' >&2; echo '{end}'; exit 1")
    with pytest.raises(UpFailed, match=r"An error occurred building\. · E: Unable to locate"):
        await cli.up()


async def test_a_cli_that_dies_without_a_word_is_a_failure(tmp_path: Path) -> None:
    cli = Scripted(tmp_path, "kill -9 $$")
    with pytest.raises(UpFailed, match="ended with code -9"):
        await cli.up()


def test_a_folder_for_the_remote_user_is_never_a_link(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir(mode=0o755)
    link = tmp_path / "s"
    link.symlink_to(precious)
    give_folder(link, uid=os.geteuid(), gid=os.getegid())
    assert not link.is_symlink()
    assert precious.stat().st_mode & 0o777 == 0o755
    assert link.stat().st_mode & 0o777 == 0o700
    give_folder(link, uid=os.geteuid(), gid=os.getegid())
