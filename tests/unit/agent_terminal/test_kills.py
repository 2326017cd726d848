"""The node agent is killed in the middle; its shells are not."""

import asyncio
import json
import random
import shutil
import sys
from pathlib import Path

import pytest

from core.viewing import Exited
from core.wire import CloseTerminal
from tests.fakes.local_lines import LocalLines, PlayedLine, PlayedLines
from tests.fakes.serving import until
from tests.fakes.terminal_node import TERMINAL, WORKSPACE, an_order, living
from tests.fakes.viewer import watching

COUNT = 'i=0; while [ $i -lt 40000 ]; do echo "漢 $i"; i=$((i+1)); done; exit 5'


async def test_w9_killed_lives_lose_nothing_repeat_nothing_and_report_the_end_once(
    tmp_path: Path, lines: LocalLines
) -> None:
    state, chance = tmp_path / "node", random.Random(7)
    for _ in range(5):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.fakes.terminal_life", state, lines.run_dir, "sh", "-c", COUNT),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        if chance.random() < 0.7:
            await process.stdout.readline()
        await asyncio.sleep(chance.random() * 0.1)
        process.kill()
        await process.wait()
    for _ in range(2):
        async with living(state, lines, lines.run_dir) as life:
            await life.terminals.open(an_order("sh", "-c", COUNT))
            async with watching(life.view()) as viewer:
                await until(lambda: viewer.exit)
                assert viewer.exit == Exited(5)
            await until(life.reports)
            files = sorted(life.folder().glob("*.out"))
            text = b"".join(path.read_bytes() for path in files).decode()
            assert [int(line.split()[1]) for line in text.splitlines()] == list(range(40000))
            (report,) = [json.loads(body) for body in await life.reports()]
            assert report["code"] == 5


class _Killed(BaseException):
    """The node agent ends here."""


@pytest.mark.parametrize("at", ["before the shell", "after the shell"])
async def test_an_order_that_was_cut_short_opens_one_shell(tmp_path: Path, at: str) -> None:
    line = PlayedLine()
    there = PlayedLines(line)

    class Cut(PlayedLines):
        async def open(self, shell):
            if at == "after the shell":
                await there.open(shell)
            raise _Killed

    with pytest.raises(BaseExceptionGroup):
        async with living(tmp_path, Cut(), tmp_path) as life:
            await life.terminals.open(an_order())
    async with living(tmp_path, there, tmp_path) as life:
        await life.terminals.open(an_order())
        line.say(b"here")
        async with watching(life.view()) as viewer:
            await viewer.sees("here")
    assert there.lines == []
    assert there.there[TERMINAL] is line


async def test_a_close_that_was_cut_short_is_done_the_next_time(tmp_path: Path) -> None:
    line = PlayedLine()
    lines = PlayedLines(line)
    order = CloseTerminal(workspace=WORKSPACE, terminal=TERMINAL)
    async with living(tmp_path, lines, tmp_path) as life:
        await life.terminals.open(an_order())
    async with living(tmp_path, lines, tmp_path) as life:
        await life.terminals.close(order)
        assert line.is_hung_up
        assert not life.folder().exists()
    async with living(tmp_path, lines, tmp_path) as life:
        await life.terminals.close(order)
        assert await life.reports() == []


async def test_an_end_that_was_written_but_not_reported_is_reported_by_the_next_life(
    tmp_path: Path,
) -> None:
    line = PlayedLine()
    lines = PlayedLines(line)
    async with living(tmp_path, lines, tmp_path) as life:
        await life.terminals.open(an_order())

        async def killed(name: str, report: object) -> None:
            await asyncio.Event().wait()

        life.spool.put_once = killed  # type: ignore[method-assign]
        line.leave(3)
        await until(lambda: '"code": 3' in (life.folder() / "terminal.json").read_text())
    async with living(tmp_path, lines, tmp_path) as life:
        await until(life.reports)
    async with living(tmp_path, lines, tmp_path) as life:
        (report,) = [json.loads(body) for body in await life.reports()]
        assert report["code"] == 3


async def test_a_workspace_that_is_gone_leaves_no_files_behind(tmp_path: Path) -> None:
    line = PlayedLine()
    async with living(tmp_path, PlayedLines(line), tmp_path) as life:
        await life.terminals.open(an_order())
        home = life.layout.workspace(WORKSPACE)
        shutil.rmtree(home)
        line.say(b"more")
        line.leave(None)
        await until(life.reports)
        assert not home.exists()
