"""`samovar attach` in a real PTY, against a server on a unix socket and a real shell behind it."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from core.ids import TaskId, TerminalId, WorkspaceId
from core.viewing import Size
from tests.fakes.commands import FakeCommands, a_person
from tests.fakes.screen import Screen, a_screen
from tests.fakes.serving import until
from tests.fakes.story import tell
from tests.fakes.terminal import FakeTerminal
from tests.fakes.web import a_socket

PROGRAM = str(Path(sys.executable).parent / "samovar")
WORKSPACE = WorkspaceId("k3v9x204")
FIRST = TerminalId(f"{WORKSPACE}.t1")
LET_GO = b"\x1d\x1d"


class Desk:
    """A served Samovar and a person's own terminal before it."""

    def __init__(self, folder: Path, screen: Screen) -> None:
        self.folder, self.screen = folder, screen
        self.commands, self.person = FakeCommands(), a_person()
        self._serving = AsyncExitStack()

    @property
    def terminal(self) -> FakeTerminal:
        return self.commands.terminals_of[FIRST]

    async def serve(self) -> None:
        await self._serving.enter_async_context(a_socket(self.folder, self.commands, self.person))

    async def stop(self) -> None:
        await self._serving.aclose()

    async def attach(self, *words: str) -> None:
        """Start the program, and wait until the shell's prompt is there."""
        await self.screen.start(
            *(PROGRAM, "attach", *(words or (WORKSPACE,))),
            env={"SAMOVAR_STATE": str(self.folder)},
        )

    def is_as_before(self) -> bool:
        return self.screen.modes() == self.screen.before


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with a_screen() as screen:
        desk = Desk(tmp_path, screen)
        await tell(desk.commands, desk.person)
        await desk.serve()
        try:
            yield desk
        finally:
            await desk.commands.end_terminals()
            await desk.stop()


async def test_a_shell_is_opened_and_its_exit_code_is_the_exit_status(desk: Desk) -> None:
    await desk.attach()
    await desk.screen.shows("$ ")
    assert b"Ctrl-] twice lets go" in desk.screen.shown
    assert not desk.is_as_before()
    desk.screen.type(b"echo $((40 + 2))\r")
    await desk.screen.shows("42")
    desk.screen.type(b"exit 7\r")
    assert await desk.screen.ended() == 7
    assert desk.is_as_before()


async def test_a_shell_that_a_signal_ended_is_told_as_shells_do(desk: Desk) -> None:
    await desk.attach()
    await desk.screen.shows("$ ")
    desk.screen.type(b"kill -KILL $$\r")
    assert await desk.screen.ended() == 128 + signal.SIGKILL
    assert desk.is_as_before()


async def test_two_keys_let_go_and_the_next_time_it_is_the_same_shell(desk: Desk) -> None:
    await desk.attach()
    await desk.screen.shows("$ ")
    desk.screen.type(b"here=$((40 + 2))\r" + LET_GO)
    assert await desk.screen.ended() == 0
    assert desk.is_as_before()
    assert desk.terminal.exit_code is None
    desk.screen.shown.clear()
    await desk.attach()
    await desk.screen.shows("here=$((40 + 2))")
    desk.screen.type(b"echo it is $here\r")
    await desk.screen.shows("it is 42")
    assert list(desk.commands.terminals_of) == [FIRST]


async def test_one_of_the_two_keys_is_a_key_like_others(desk: Desk) -> None:
    await desk.attach()
    await desk.screen.shows("$ ")
    desk.screen.type(b"\x1dx")
    await until(lambda: bytes(desk.terminal.typed) == b"\x1dx")


async def test_control_keys_go_to_the_shell(desk: Desk) -> None:
    await desk.attach()
    await desk.screen.shows("$ ")
    # A child that has not begun yet still has the handlers of its shell.
    desk.screen.type(b"(trap - INT; echo list''ens; exec sleep 1000)\r")
    await desk.screen.shows("listens")
    desk.screen.type(b"\x03")
    desk.screen.type(b"echo status $?\r")
    await desk.screen.shows("status 130")


async def test_the_shell_has_the_size_of_the_window_and_learns_of_another_one(desk: Desk) -> None:
    await desk.attach()
    await until(lambda: FIRST in desk.commands.terminals_of and desk.terminal.size.columns == 100)
    assert desk.terminal.size == Size(100, 30)
    await desk.screen.shows("$ ")
    desk.screen.resize(40, 120)
    await until(lambda: desk.terminal.size == Size(120, 40))


async def test_who_only_looks_types_nothing(desk: Desk) -> None:
    await desk.commands.open_terminal(desk.person, WORKSPACE)
    await desk.attach(WORKSPACE, "--read-only")
    await desk.screen.shows("$ ")
    desk.screen.type(b"echo no\r" + LET_GO)
    assert await desk.screen.ended() == 0
    assert bytes(desk.terminal.typed) == b""
    assert desk.terminal.size == Size(80, 24), "whoever only looks decides no size"


async def test_much_output_arrives_whole(desk: Desk) -> None:
    await desk.attach()
    await desk.screen.shows("$ ")
    desk.screen.type(b"seq -f 'line %06.0f' 100000; echo do''ne\r")
    await desk.screen.shows("done")
    lines = re.findall(rb"line (\d{6})\r\n", desk.screen.shown)
    assert lines == [b"%06d" % n for n in range(1, 100_001)]


async def test_it_goes_on_by_offset_when_samovar_restarts(desk: Desk) -> None:
    await desk.attach()
    await desk.screen.shows("$ ")
    desk.screen.type(b"n=0; while sleep 0.02; do echo tick-$((n += 1)).; done\r")
    await desk.screen.shows("tick-3.")
    await desk.stop()
    await desk.screen.shows("what you type goes nowhere")
    typed = bytes(desk.terminal.typed)
    desk.screen.type(b"\x03")
    await desk.serve()
    await desk.screen.shows("It is back.")
    assert bytes(desk.terminal.typed) == typed, "what was typed meanwhile went somewhere"
    count = len(ticks(desk))
    await until(lambda: len(ticks(desk)) > count + 3)
    desk.screen.type(b"\x03")
    await desk.screen.shows("^C")
    assert ticks(desk) == list(range(1, len(ticks(desk)) + 1)), "a gap, or a repeat"


def ticks(desk: Desk) -> list[int]:
    return [int(n) for n in re.findall(rb"tick-(\d+)\.", desk.screen.shown)]


async def test_one_can_let_go_while_samovar_is_away(desk: Desk) -> None:
    await desk.attach()
    await desk.screen.shows("$ ")
    await desk.stop()
    await desk.screen.shows("what you type goes nowhere")
    desk.screen.type(LET_GO)
    assert await desk.screen.ended() == 0
    assert desk.is_as_before()


async def test_a_terminal_that_is_closed_elsewhere_ends_it_with_a_sentence(desk: Desk) -> None:
    await desk.attach()
    await desk.screen.shows("$ ")
    await desk.commands.close_terminal(desk.person, FIRST)
    assert await desk.screen.ended() == 1
    await desk.screen.shows("samovar: This terminal was closed.")
    assert desk.is_as_before()


async def test_a_signal_ends_it_and_leaves_the_terminal_as_it_was(desk: Desk) -> None:
    await desk.attach("T-4")
    await desk.screen.shows("$ ")
    assert desk.screen.process is not None
    os.kill(desk.screen.process.pid, signal.SIGTERM)
    assert await desk.screen.ended() == 128 + signal.SIGTERM
    assert desk.is_as_before()


async def test_the_tab_is_chosen_by_its_title_or_is_a_new_one(desk: Desk) -> None:
    for title in ("Tests", "Logs"):
        await desk.commands.open_terminal(desk.person, WORKSPACE, title=title)
    await desk.attach(WORKSPACE, "--terminal", "Logs")
    await desk.screen.shows(f"Logs ({WORKSPACE}.t2)")
    await desk.screen.shows("$ ")
    desk.screen.type(LET_GO)
    assert await desk.screen.ended() == 0
    await desk.attach(WORKSPACE, "--new")
    await desk.screen.shows(f"Shell 3 ({WORKSPACE}.t3)")


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("k3v9x204", "--terminal", "Nowhere"), 1, "There is no terminal Nowhere. There is: none"),
        (("T-99",), 1, "There is no task T-99."),
        (("k3v9x204", "--terminal", "x", "--new"), 2, "Give one."),
    ],
)
async def test_what_cannot_be_shown_is_said(
    desk: Desk, words: tuple[str, ...], status: int, said: str
) -> None:
    await desk.attach(*words)
    assert await desk.screen.ended() == status
    await desk.screen.shows(said)
    assert desk.is_as_before()


async def test_a_task_without_a_workspace_says_so(desk: Desk) -> None:
    desk.commands.change(TaskId("T-4"), workspace_id=None)
    await desk.attach("t-4")
    assert await desk.screen.ended() == 1
    await desk.screen.shows("T-4 has no workspace.")


async def test_a_machine_that_is_away_is_an_outage(desk: Desk) -> None:
    desk.commands.opens = False
    await desk.attach()
    assert await desk.screen.ended() == 3
    await desk.screen.shows("The terminal is being opened.")
    assert desk.is_as_before()


async def test_without_a_terminal_it_says_so(desk: Desk) -> None:
    process = await asyncio.create_subprocess_exec(
        *(PROGRAM, "attach", WORKSPACE),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "SAMOVAR_STATE": str(desk.folder)},
    )
    _, said = await process.communicate()
    assert process.returncode == 1
    assert b"needs a terminal" in said
