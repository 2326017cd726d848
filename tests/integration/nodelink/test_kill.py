"""Both ends killed at random moments while messages flow both ways."""

import asyncio
import os
import random
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from core.ids import OrderId
from core.wire import Order
from tests.fakes.link_process import NODE
from tests.fakes.link_store import SqlLinkStore
from tests.fakes.serving import until

ROOT = Path(__file__).resolve().parents[3]
COUNT = 2000
KILLS = 12


class Program:
    """A child that is killed and started again."""

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-P", "-m", "tests.fakes.link_process", *self._arguments),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"},
        )

    async def kill(self) -> None:
        assert self._process is not None
        assert self._process.returncode is None, "it ended by itself"
        self._process.kill()
        await self._process.wait()


@asynccontextmanager
async def running(*programs: Program) -> AsyncGenerator[None]:
    for program in programs:
        await program.start()
    try:
        yield
    finally:
        for program in programs:
            await program.kill()


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.long)])
async def test_p7_no_message_is_lost_doubled_or_moved_when_both_ends_are_killed(
    tmp_path: Path, kept_port: int, seed: int
) -> None:
    chance = random.Random(seed)
    store = SqlLinkStore(tmp_path / "store.db")
    (tmp_path / "token").write_text(store.add_node(NODE))
    server = Program("server", str(tmp_path / "store.db"), str(kept_port))
    node = Program("node", f"http://127.0.0.1:{kept_port}", str(tmp_path), str(COUNT))

    def done() -> int:
        (rows,) = store.db.execute("SELECT count(*) FROM received").fetchone()
        return int(rows)

    async with running(server, node):
        for kill in range(KILLS):
            for n in range(kill * COUNT // KILLS, (kill + 1) * COUNT // KILLS):
                store.add_order(NODE, an_order(n))
            before = done()
            await until(lambda b=before: done() > b + chance.randrange(100))
            victim = chance.choice([server, node])
            await victim.kill()
            await victim.start()
        for n in range(KILLS * COUNT // KILLS, COUNT):
            store.add_order(NODE, an_order(n))
        await until(lambda: done() >= 2 * COUNT and len(store.answers()) == COUNT)
        offsets = [
            event["offset"]  # type: ignore[index]
            for body in store.bodies("session_events")
            for event in body["events"]  # type: ignore[attr-defined]
        ]
        assert offsets == list(range(COUNT))
        answered = [body["order"] for body in store.bodies("order_answer")]
        assert answered == [an_order(n).id for n in range(COUNT)]
        assert done() == 2 * COUNT
        assert store.dead() == []


def an_order(n: int) -> Order:

    return Order(
        id=OrderId(f"run:T-1.1/x/{n}"), object="run:T-1.1", fence=1, kind="x", body={"n": n}
    )
