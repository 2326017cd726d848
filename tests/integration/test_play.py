"""`samovar recording play` in a real PTY that answers what the recorded programs asked."""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from core.ids import RecordingId
from tests.fakes.commands import FakeCommands, a_person
from tests.fakes.screen import Screen, a_screen
from tests.fakes.web import a_socket

PROGRAM = str(Path(sys.executable).parent / "samovar")
PATIENT = "from bot import cli, play; play.ANSWER_S_MAX = 60; cli.cli()"
"""The program, which waits for an answer however slow its terminal is."""
RECORDING = RecordingId("t-0000aaaa")
WHERE, HERE = "\x1b[6n", b"\x1b[12;40R"
"""A program asks where the cursor is; a terminal says so."""


@asynccontextmanager
async def playing(
    folder: Path, screen: Screen, *events: tuple[float, str], program: tuple[str, ...] = (PROGRAM,)
) -> AsyncIterator[None]:
    head = {"version": 2, "width": 80, "height": 24, "timestamp": 1}
    lines = [head, *([second, "o", text] for second, text in events)]
    commands = FakeCommands()
    commands.casts[RECORDING] = "".join(f"{json.dumps(line)}\n" for line in lines)
    async with a_socket(folder, commands, a_person()):
        env = {"SAMOVAR_STATE": str(folder)}
        await screen.start(*program, "recording", "play", RECORDING, env=env)
        yield


@pytest.fixture
async def screen() -> AsyncIterator[Screen]:
    async with a_screen() as made:
        yield made


async def test_what_the_terminal_answers_is_not_typed_at_the_prompt(
    tmp_path: Path, screen: Screen
) -> None:
    program = (sys.executable, "-c", PATIENT)
    events = (0, WHERE), (0.1, "the end" + WHERE)
    async with playing(tmp_path, screen, *events, program=program):
        await screen.shows(WHERE)
        screen.type(HERE)
        await screen.shows("\x1b[5n")
        screen.type(HERE + b"\x1b[0n")
        assert await screen.ended() == 0
    assert screen.modes() == screen.before
    assert b"the end" in screen.shown
    assert b"12;40" not in screen.shown
    assert screen.unread() == b""


async def test_a_terminal_that_answers_nothing_is_not_waited_for(
    tmp_path: Path, screen: Screen
) -> None:
    async with playing(tmp_path, screen, (0, "hello")):
        await screen.shows("hello")
        assert await screen.ended() == 0
    assert screen.modes() == screen.before


async def test_ctrl_c_ends_it_and_leaves_the_terminal_as_it_was(
    tmp_path: Path, screen: Screen
) -> None:
    async with playing(tmp_path, screen, (0, "hello" + WHERE), (1000, "never")):
        await screen.shows(WHERE)
        screen.type(b"\x03" + HERE)
        assert await screen.ended() != 0
    assert screen.modes() == screen.before
    assert screen.unread() == b""
