"""B16: what the programs take of memory once they are up and idle.

The control plane is the real one on SQLite, with APScheduler, engine and both servers running and
its chat page asked for once. It finds its database migrated, as on every start but an
installation's first and those after an upgrade, which also hold Alembic, 12 MB. The peer is a
Python that has imported every SDK that the program may use. The node agent is the real process,
linked to a control plane on loopback.
"""

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import psutil
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from adapters.local import process
from adapters.local.compute import LocalCompute
from adapters.store.migrate import migrate
from bot.config import Config
from core.ids import NodeId
from core.secret import Secret
from tests.bench.row import ROUNDS, Row, told
from tests.fakes.node_link import control_plane
from tests.fakes.serving import until

GOAL, SETTLE_S, NODE = 0.75, 2.0, NodeId("node-0000aaaa")
SDKS = (
    *("aiodocker", "aiohttp", "alembic.command", "anthropic", "asyncpg", "click"),
    *("apscheduler.schedulers.asyncio", "cryptography.fernet", "fastapi", "github", "jinja2"),
    *("jwt", "markdown_it", "python_multipart", "rich.console", "sqlalchemy.ext.asyncio"),
    *("structlog", "tomlkit", "uvicorn", "uvloop", "websockets.asyncio.server"),
)
SERVE = """
import sys
from pathlib import Path
from bot import service
from bot.config import Config, GithubConfig, LocalConfig, ServerConfig, WorkspaceConfig
from bot.setup import Outfit
import uvloop
state, key, port = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
config = Config(
    state=state,
    server=ServerConfig(port=port),
    github=GithubConfig(app_id="1", private_key_file=key),
    local=LocalConfig(enabled=False),
    workspace=WorkspaceConfig(image="base"),
)
uvloop.run(service._serve(config, Outfit(parts={})))
"""


def _mb(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss) / 2**20


def _sdks() -> float:
    """Return what an interpreter takes that has imported all SDKs."""
    words = [sys.executable, "-c", f"import {', '.join(SDKS)}; print(flush=True); input()"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        if not child.stdout.readline():
            raise RuntimeError("not all SDKs could be imported")
        try:
            return _mb(child.pid)
        finally:
            child.kill()


async def _served(folder: Path, number: int, key: Path) -> float:
    port, state = _free_port(), folder / f"state{number}"
    state.mkdir()
    await migrate(Config(state=state).database_url)
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SERVE, str(state), str(key), str(port)),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=(folder / f"log{number}").open("wb"),
    )
    try:
        async with aiohttp.ClientSession() as client:
            await until(lambda: _answers(client, f"http://127.0.0.1:{port}/"), within_s=60)
        await asyncio.sleep(SETTLE_S)
        return _mb(child.pid)
    finally:
        child.terminate()
        await child.wait()


async def _answers(client: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with client.get(url) as answer:
            await answer.read()
            return answer.status < 500
    except aiohttp.ClientError:
        return False


async def _agent(folder: Path) -> float:
    async with control_plane() as plane:
        compute = LocalCompute(
            state=folder / "nodes",
            url=plane.url,
            command=[sys.executable, "-P", "-m", "agent"],
            settings={
                "docker_host": os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock"),
                "cpus": 1,
                "memory_mb": 512,
            },
            installation="bench",
            env={"PATH": os.environ["PATH"]},
        )
        await compute.create(NODE, size="small", enrolment=Secret(plane.store.add_enrolment(NODE)))
        try:
            await until(lambda: NODE in plane.link.connected())
            await asyncio.sleep(SETTLE_S)
            found = process.find(folder / "nodes" / NODE)
            assert found is not None
            return _mb(found)
        finally:
            await compute.destroy(NODE)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _key(path: Path) -> Path:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    path.write_bytes(pem)
    return path


async def _run(folder: Path) -> Sequence[Row]:
    key = _key(folder / "app.pem")
    ours: list[float] = []
    peer: list[float] = []
    agent: list[float] = []
    for number in range(ROUNDS):
        ours.append(await _served(folder, number, key))
        peer.append(await asyncio.to_thread(_sdks))
        agent.append(await _agent(folder / f"agent{number}"))
    return [
        Row(
            name="B16 memory of the control plane / all SDKs imported",
            ours=ours,
            peer=peer,
            goal=GOAL,
            unit="MB",
        ),
        told("memory of a node agent", agent, unit="MB"),
    ]


def main() -> Sequence[Row]:
    """Start each in turn."""
    with tempfile.TemporaryDirectory(prefix="samovar-bench-") as folder:
        return asyncio.run(_run(Path(folder)))
