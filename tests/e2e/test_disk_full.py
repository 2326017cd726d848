"""A node whose disk is full: what people are told, and that nothing is lost."""

import json
import os
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from adapters.store.schema import AGENT_EVENT
from bot.demo.script import say, step, use
from core.ids import TaskId
from tests.fakes.lacking import lacking
from tests.fakes.serving import until
from tests.fakes.world import HOLD, TASK_S_MAX, World, world, writing

pytestmark = [pytest.mark.docker, pytest.mark.claude, pytest.mark.timeout(300)]

DISK_MB = 48
FILL = "dd if=/dev/zero of=fill.bin bs=64k 2>&1"


@asynccontextmanager
async def small_disk(folder: Path) -> AsyncGenerator[World]:
    """Run Samovar with its nodes on a small file system of their own."""
    nodes = folder / "state/nodes"
    nodes.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=0700", "tmpfs", str(nodes)]
    mounted = subprocess.run(mount, check=False, capture_output=True)
    if mounted.returncode:
        lacking("a small file system, which this host may not mount")
    try:
        async with world(folder) as running:
            yield running
    finally:
        subprocess.run(["umount", "--lazy", str(nodes)], check=False, capture_output=True)


@pytest.mark.parametrize("step", ["tree", pytest.param("fetch", marks=pytest.mark.long)])
async def test_g2_a_repository_that_does_not_fit_on_the_disk_fails_with_what_to_do(
    tmp_path: Path, step: str
) -> None:
    size = 2 * DISK_MB << 20
    text = os.urandom(size // 2).hex() if step == "fetch" else "0" * size
    async with small_disk(tmp_path) as samovar:
        await samovar.project("big", {"big.txt": text})
        result = await samovar.result(await samovar.ask("big", "Write it down", writing("done")))
        assert result.outcome == "failed"
        assert "The disk of the node is full" in result.advice
        assert "`samovar workspace delete ID --without-copy`" in result.advice
        await samovar.project("small", {"a.txt": "a\n"})
        result = await samovar.result(await samovar.ask("small", "Write it down", writing("done")))
        assert result.outcome == "pull_request", f"no room left for the next: {result}"


async def test_g4_a_disk_that_fills_up_in_mid_turn_loses_no_event_and_no_work(
    tmp_path: Path,
) -> None:
    async with small_disk(tmp_path) as samovar:
        await samovar.project("filling", {"a.txt": "a\n"})
        steps = [*writing("before")[:1], step(use("Bash", command=f"{FILL}; {HOLD}"))]
        steps += [*writing("during")[:1], step(say("The disk is full."))]
        task = await samovar.ask("filling", "Write it down", steps)
        await samovar.reached(task)
        await until(lambda: _shows_full_disk(samovar), within_s=TASK_S_MAX)
        await samovar.go_on(task)
        result = await samovar.result(task)
        assert result.outcome == "failed"
        assert "The disk of the node is full (0 MB free)" in result.advice
        assert "then reply `try again`" in result.advice
        said = await events(samovar, task)
        assert [kind for kind, _ in said].count("tool.end") == 3
        assert ("message.text", "The disk is full.") in said, "also what came after it was full"
        await samovar.inside(task, "rm fill.bin")
        await samovar.reply(task, "try again", writing("after"))
        view = await samovar.ended(task, runs=2)
        assert view.card.result is not None
        assert view.card.result.outcome == "pull_request", view.card.result
        [pull] = await samovar.forge.pulls("acme/filling")
        commits = await samovar.forge.commits("acme/filling", f"main..{pull.head}")
        assert {one.message.strip() for one in commits} >= {"Add before", "Add after"}


async def _shows_full_disk(samovar: World) -> bool:
    [node] = await samovar.samovar.commands.nodes(samovar.samovar.local)
    return node.disk_free_mb == 0


async def events(samovar: World, task: TaskId) -> list[tuple[str, str]]:
    """Return kind and text of the coding agent's events, as they are stored."""
    runs = [run.id for run in (await samovar.view(task)).runs]
    found = sa.select(AGENT_EVENT).where(AGENT_EVENT.c.run == runs[0])
    rows = await samovar.samovar.parts.store.database.read(found.order_by(AGENT_EVENT.c.offset))
    return [(str(row["kind"]), json.loads(row["data"]).get("text", "")) for row in rows]
