"""G5: where each secret may be found after a run, and nowhere else."""

import json
import re
from contextlib import suppress
from pathlib import Path

import pytest

from bot.demo.script import step, use
from tests.fakes.served import REPOSITORY, Served, served
from tests.fakes.world import HOLD, writing

pytestmark = [pytest.mark.docker, pytest.mark.claude, pytest.mark.timeout(300)]

NODE = "state/nodes/node-*"
MAY_HOLD = {
    "model key": set[str](),
    "key of the App": {"app.pem"},
    "node token": {f"{NODE}/token"},
    "workspace token": {f"{NODE}/ws/*/token"},
    "git token": set[str](),
    "sign-in token": set[str](),
}
"""Secret, and the only files that may hold it. The processes of `serve` and of the coding agent
have the model key and the workspace token in their environment, which is not a file."""
GIT_TOKEN = re.compile(rb"ghs_[0-9a-f]{36}")


async def test_g5_no_secret_is_where_it_does_not_belong(tmp_path: Path) -> None:
    async with served(tmp_path) as samovar:
        look = "git fetch -q origin; git push -q origin HEAD; env | cut -d= -f1; " + HOLD
        task = await samovar.ask("Write it down", writing("it", step(use("Bash", command=look))))
        link = await samovar.post("sign-in-links")
        await samovar.reached()
        secrets = _secrets(samovar, link["path"])
        during = _command_lines()
        environments = await _environments(samovar)
        await samovar.go_on()
        card = await samovar.ended(task)
        assert card["result"]["outcome"] == "pull_request"
        told = await _told(samovar, task)
        await samovar.stop()
        for name, secret in secrets.items():
            assert _holders(tmp_path, secret) == MAY_HOLD[name], name
            for where, text in {
                "command lines": during + _command_lines(),
                "environment of containers": environments,
                "what people and the code host see": told,
            }.items():
                assert secret not in text, f"{name}: {where}"
        assert _holders(tmp_path, GIT_TOKEN) == MAY_HOLD["git token"]
        assert not GIT_TOKEN.search(during + environments + told)


def _secrets(samovar: Served, sign_in: str) -> dict[str, bytes]:
    known = samovar.stage
    [node] = known.nodes
    [workspace] = (node / "ws").iterdir()
    return {
        "model key": known.model_key.encode(),
        "key of the App": known.app_key.splitlines()[1].encode(),
        "node token": (node / "token").read_bytes().strip(),
        "workspace token": (workspace / "token").read_bytes().strip(),
        "sign-in token": sign_in.partition("token=")[2].encode(),
    }


def _holders(folder: Path, secret: bytes | re.Pattern[bytes]) -> set[str]:
    """Return the files below `folder` that hold the secret, with names made by chance as `*`."""
    wanted = secret if isinstance(secret, re.Pattern) else re.compile(re.escape(secret))
    found = set()
    for path in folder.rglob("*"):
        with suppress(OSError):
            if path.is_file() and not path.is_symlink() and wanted.search(path.read_bytes()):
                name = str(path.relative_to(folder))
                found.add(re.sub(r"/ws/[^/]+", "/ws/*", re.sub(r"node-\w+", "node-*", name)))
    return found


def _command_lines() -> bytes:
    lines = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            lines.append((process / "cmdline").read_bytes())
    return b"\n".join(lines)


async def _environments(samovar: Served) -> bytes:
    known = samovar.stage
    seen = [await known.engine.inspect(one) for one in await known.containers()]
    assert len(seen) == 1
    return json.dumps(seen).encode()


async def _told(samovar: Served, task: str) -> bytes:
    """Return the page of the task, all events, the pull request and its diff."""
    view = await samovar.get("tasks", task)
    events = await samovar.get("tasks", task, "events")
    [pull] = await samovar.stage.forge.pulls(REPOSITORY)
    diff = await samovar.stage.forge.git(REPOSITORY, "log", "-p", "--all")
    return f"{json.dumps([view, events])}{pull.title}{pull.body}{diff}".encode()
