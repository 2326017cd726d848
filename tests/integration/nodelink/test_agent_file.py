"""The node agent as one file, under a Python without any package."""

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bot.agent_file import agent_file
from tests.fakes.node_link import NODE, ControlPlane
from tests.fakes.serving import until

BARE = (sys.executable, "-I", "-S")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("agent") / "samovar-agent.pyz"
    path.write_bytes(agent_file().data)
    return path


def test_the_same_bytes_come_out_of_every_build() -> None:
    first = agent_file()
    agent_file.cache_clear()
    assert agent_file().data == first.data
    assert hashlib.sha256(first.data).hexdigest() == first.sha256


def test_there_is_nothing_compiled_and_nothing_of_the_bot_in_it(file: Path) -> None:
    names = zipfile.ZipFile(file).namelist()
    assert all(name.endswith(".py") for name in names)
    assert not [name for name in names if name.split("/")[0] in {"bot", "adapters", "tests"}]


def test_every_module_of_the_agent_can_be_imported_from_it(file: Path) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(file)!r})\n"
        "import agent, pkgutil, importlib\n"
        "for m in pkgutil.walk_packages(agent.__path__, 'agent.'):\n"
        "    m.name.endswith('__main__') or importlib.import_module(m.name)\n"
    )
    done = subprocess.run([*BARE, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_program_that_holds_terminals_can_be_read_from_it(file: Path) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(file)!r})\n"
        "from agent.terminal.lines import source\n"
        "compile(source(), 'holder', 'exec')\n"
    )
    done = subprocess.run([*BARE, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_it_says_what_it_can_do(file: Path) -> None:
    told = subprocess.run([*BARE, file, "--help"], check=True, capture_output=True, text=True)
    assert {"join", "run"} <= set(told.stdout.replace(",", " ").replace("{", " ").split())


async def test_it_joins_with_a_token_from_stdin_and_then_links(
    plane: ControlPlane, file: Path, tmp_path: Path
) -> None:
    token = plane.store.add_enrolment(NODE)
    state = str(tmp_path / "state")
    joining = await asyncio.create_subprocess_exec(
        *BARE,
        str(file),
        *("join", plane.url, "--token-file", "-", "--state", state, "--cpus", "3"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await joining.communicate(token.encode())
    assert (joining.returncode, out.decode().strip()) == (0, NODE)
    assert (tmp_path / "state" / "token").stat().st_mode & 0o077 == 0
    running = await asyncio.create_subprocess_exec(
        *BARE,
        str(file),
        *("run", "--state", state),
        env={"DOCKER_HOST": "unix:///nowhere", "PATH": os.environ["PATH"]},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        await until(lambda: NODE in plane.link.connected())
        assert plane.link.connected()[NODE].cpus == 3
        second = subprocess.run(
            [*BARE, file, "run", "--state", state], capture_output=True, check=False
        )
        assert second.returncode == 75, "one node agent per state folder"
        running.terminate()
        _, err = await running.communicate()
        assert running.returncode == 0, err
        events = [json.loads(line)["event"] for line in err.decode().splitlines()]
        assert events[-1] == "agent.has_let_go"
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()


async def test_c3_a_spent_token_is_refused_with_a_sentence(
    plane: ControlPlane, file: Path, tmp_path: Path
) -> None:
    token = plane.store.add_enrolment(NODE)
    await plane.store.redeem(token, token_hash="ab" * 32, name="x", cpus=1, memory_mb=1)
    joining = await asyncio.create_subprocess_exec(
        *BARE,
        str(file),
        *("join", plane.url, "--state", str(tmp_path / "state")),
        env={"SAMOVAR_JOIN_TOKEN": token},
        stderr=asyncio.subprocess.PIPE,
    )
    _, err = await joining.communicate()
    assert joining.returncode == 2
    assert b"ask for a new one" in err
    assert not (tmp_path / "state" / "node.json").exists()
