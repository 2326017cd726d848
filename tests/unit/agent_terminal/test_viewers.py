"""Viewers at their own pace, over a shell that the test plays."""

import asyncio
import tracemalloc
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from agent.terminal import terminal as terminal_module
from agent.terminal import watcher as watcher_module
from agent.terminal.log import BYTES_MAX
from agent.terminal.watcher import BEHIND_BYTES_MAX, WINDOW_BYTES, WINDOW_BYTES_MAX, _cut
from core.ids import TerminalId
from core.viewing import CLOSE_SILENT, Beat, Exited, Input, Seen, Size
from tests.fakes.clock import LoopClock
from tests.fakes.local_lines import LocalLines, PlayedLine, PlayedLines
from tests.fakes.serving import until
from tests.fakes.terminal_node import Life, an_order, living
from tests.fakes.viewer import Watching, watching

HUNDRED_MB = 100 * 10**6


@asynccontextmanager
async def showing(tmp_path: Path, line: PlayedLine) -> AsyncGenerator[Life]:
    """Open a terminal; its shell writes once the test lets it."""
    line.going.clear()
    async with living(tmp_path / "node", PlayedLines(line), tmp_path) as life:
        await life.terminals.open(an_order())
        yield life


async def test_w9_a_hundred_megabytes_stall_a_viewer_but_not_the_shell(tmp_path: Path) -> None:
    line = PlayedLine(HUNDRED_MB)
    async with showing(tmp_path, line) as life, watching(life.view()) as viewer:
        await until(lambda: viewer.paints)
        viewer.draws = viewer.keeps = False
        tracemalloc.start()
        line.going.set()
        await until(lambda: line.wrote == HUNDRED_MB)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 8 * 2**20
        assert viewer.received <= WINDOW_BYTES_MAX
        assert viewer.exit is None
        kept = sum(path.stat().st_size for path in life.folder().glob("*"))
        assert kept < BYTES_MAX + 2**21
        viewer.draws = True
        assert viewer.at is not None
        await viewer.say(Seen(viewer.at))
        await until(lambda: viewer.exit)
        assert viewer.order[-2:] == ["Paint", "Exited"]
        assert viewer.at == HUNDRED_MB


@pytest.fixture
def _nobody_stalls(monkeypatch: pytest.MonkeyPatch) -> None:
    """A viewer may be slow without being taken for one that has stopped."""
    monkeypatch.setattr(terminal_module, "STALL_S", 60)


@pytest.mark.usefixtures("_nobody_stalls")
async def test_a_shell_does_not_run_ahead_of_the_only_viewer(tmp_path: Path) -> None:
    line = PlayedLine(HUNDRED_MB)
    async with showing(tmp_path, line) as life, watching(life.view()) as viewer:
        await until(lambda: viewer.paints)
        viewer.pause_s = 0.05
        ahead: list[int] = []
        line.going.set()
        while len(ahead) < 40:
            await asyncio.sleep(0.02)
            ahead.append(line.wrote - (viewer.at or 0))
        assert max(ahead) <= WINDOW_BYTES_MAX + 2**16
        assert len(viewer.paints) == 1


@pytest.mark.usefixtures("_nobody_stalls")
async def test_a_viewer_that_keeps_up_is_not_slowed_by_one_that_does_not(tmp_path: Path) -> None:
    line = PlayedLine(30 * 10**6)
    async with (
        showing(tmp_path, line) as life,
        watching(life.view("Ada")) as quick,
        watching(life.view("Bo")) as slow,
    ):
        await until(lambda: quick.paints and slow.paints)
        quick.keeps = slow.keeps = False
        slow.pause_s = 0.3
        line.going.set()
        await until(lambda: quick.exit)
        assert quick.received == 30 * 10**6
        assert len(quick.paints) == 1
        slow.pause_s = 0
        await until(lambda: slow.exit)
        assert len(slow.paints) > 1, "it was cut to a picture"
        assert slow.received < 30 * 10**6


async def test_a_character_is_never_cut_in_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher_module, "HOLD_S", 60)
    line = PlayedLine()
    text = "漢字🙂é" * 20
    async with showing(tmp_path, line) as life, watching(life.view()) as viewer:
        await until(lambda: viewer.paints)
        line.going.set()
        for byte in text.encode():
            line.say(bytes([byte]))
        await until(lambda: viewer.text.endswith(text))
        for piece in viewer.pieces:
            piece.decode()


async def test_who_comes_in_the_middle_of_a_sequence_gets_all_of_it(tmp_path: Path) -> None:
    line = PlayedLine()
    async with showing(tmp_path, line) as life:
        line.going.set()
        line.say(b"plain\x1b[3")
        await until(lambda: line.wrote == 8)
        async with watching(life.view()) as viewer:
            await until(lambda: viewer.output == b"\x1b[3")
            line.say(b"1mred")
            await until(lambda: viewer.output == b"\x1b[31mred")


async def test_half_a_character_is_not_held_back_for_ever(tmp_path: Path) -> None:
    line = PlayedLine()
    async with showing(tmp_path, line) as life, watching(life.view()) as viewer:
        line.going.set()
        await until(lambda: viewer.paints)
        line.say(b"\xe6\xbc")
        await until(lambda: bytes(viewer.output) == b"\xe6\xbc")
        line.say(b"\xa2")
        await until(lambda: viewer.output.decode(errors="replace") == "漢")


@pytest.mark.parametrize(
    ("data", "held"),
    [
        (b"", 0),
        (b"abc", 0),
        ("é".encode(), 0),
        (b"a\xc3", 1),
        (b"a\xe6\xbc", 2),
        (b"a\xf0\x9f\x99", 3),
        ("🙂".encode(), 0),
        (b"\x80\x80\x80\x80", 0),
        (b"\xff", 0),
        (b"\xe6a", 0),
    ],
)
def test_how_much_of_a_piece_waits_for_the_rest_of_its_character(data: bytes, held: int) -> None:
    assert _cut(data) == held


async def test_a_lost_shell_is_said_in_a_sentence(tmp_path: Path) -> None:
    line = PlayedLine()
    async with showing(tmp_path, line) as life, watching(life.view()) as viewer:
        await until(lambda: viewer.paints)
        line.going.set()
        line.say(b"last words")
        line.leave(None)
        await until(lambda: viewer.exit == Exited(None))
        assert viewer.output == b"last words"
        await until(life.reports)
        (report,) = await life.reports()
        assert "Open another one" in report
        await viewer.say(Input(b"to nobody"))
        await viewer.say(Beat())
        await until(lambda: viewer.beats)
        assert line.typed == b""


async def test_what_is_typed_while_the_shell_is_being_found_reaches_it(tmp_path: Path) -> None:
    line = PlayedLine()
    async with (
        living(tmp_path / "node", PlayedLines(line), tmp_path) as life,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(life.terminals.open(an_order()))
        await asyncio.sleep(0)
        async with watching(life.view(), size=Size(70, 20)) as viewer:
            await viewer.say(Input(b"ls\n"))
            await until(lambda: line.typed == b"ls\n")
            await until(lambda: line.sizes[-1] == Size(70, 20))


async def test_a_silent_viewer_is_dropped(tmp_path: Path) -> None:
    line, clock = PlayedLine(), LoopClock()
    async with showing(tmp_path, line) as life:
        line.going.set()
        async with watching(life.view("Ada")) as silent, watching(life.view("Bo")) as lively:
            await _beat(silent)
            for _ in range(2):
                assert silent.closed is None
                await _beat(lively)
                clock.advance(1.5 * watcher_module.BEAT_S)
            await until(lambda: silent.closed)
            assert silent.closed
            assert silent.closed[0] == CLOSE_SILENT
            assert lively.closed is None


async def _beat(viewer: Watching) -> None:
    """Give a sign of life, and have it heard."""
    beats = viewer.beats
    await viewer.say(Beat())
    await until(lambda: viewer.beats > beats)


async def test_who_was_away_for_long_gets_a_picture_and_who_was_not_goes_on(
    tmp_path: Path,
) -> None:
    line = PlayedLine()
    async with showing(tmp_path, line) as life:
        line.going.set()
        for _ in range(4):
            line.say(b"x" * (BEHIND_BYTES_MAX // 2))
        await until(lambda: line.wrote == 2 * BEHIND_BYTES_MAX)
        async with watching(life.view(), seen=BEHIND_BYTES_MAX + 5) as near:
            await until(lambda: near.at == line.wrote)
            assert near.paints == []
        for seen in (0, 10**9):
            async with watching(life.view(), seen=seen) as far:
                await until(lambda viewer=far: viewer.paints)
                assert far.at == line.wrote


async def test_the_window_grows_with_the_way_there_and_back(tmp_path: Path) -> None:
    line = PlayedLine(20 * 10**6)
    async with showing(tmp_path, line) as life, watching(life.view()) as far:
        await until(lambda: far.paints)
        far.draws = far.keeps = False
        line.going.set()
        await until(lambda: far.received >= WINDOW_BYTES)
        await asyncio.sleep(0.2)
        assert far.received == WINDOW_BYTES
        assert far.at is not None
        await far.say(Seen(far.at))
        await until(lambda: far.received >= 2 * WINDOW_BYTES + 2**16)
        await asyncio.sleep(0.2)
        assert far.received <= WINDOW_BYTES + WINDOW_BYTES_MAX


async def test_two_hundred_terminals_at_once(tmp_path: Path) -> None:
    terminals = [TerminalId(f"t-{number:08x}") for number in range(200)]
    lines = PlayedLines(*(PlayedLine() for _ in terminals))
    async with living(tmp_path, lines, tmp_path) as life, AsyncExitStack() as views:
        viewers = []
        for terminal in terminals:
            await life.terminals.open(an_order(terminal=terminal))
            view = life.view(terminal=terminal)
            viewers.append(await views.enter_async_context(watching(view)))
        for number, (terminal, viewer) in enumerate(zip(terminals, viewers, strict=True)):
            lines.there[terminal].say(b"I am %d." % number)
            await viewer.say(Input(b"you are %d" % number))
        for number, (terminal, viewer) in enumerate(zip(terminals, viewers, strict=True)):
            await viewer.sees(f"I am {number}.")
            typed = b"you are %d" % number
            await until(lambda name=terminal, want=typed: lines.there[name].typed == want)


@pytest.mark.usefixtures("_nobody_stalls")
async def test_real_shells_slow_down_for_their_viewers_and_run_free_without(
    tmp_path: Path, lines: LocalLines
) -> None:
    async with living(tmp_path, lines, lines.run_dir) as life:
        done = tmp_path / "done"
        shell = f"head -c 20000000 /dev/zero | tr '\\0' 'x'; echo > {done}"
        await life.terminals.open(an_order("sh", "-c", shell))
        async with watching(life.view()) as viewer:
            viewer.pause_s = 0.2
            await until(lambda: viewer.received)
            await asyncio.sleep(1)
            assert not done.exists()
        await until(done.exists)
