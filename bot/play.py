"""Recordings on the command line: saved to a file, or played in one's own terminal."""

import asyncio
import json
import os
import sys
import termios
import tty
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import BinaryIO

import click

from bot.attach import PLAIN
from bot.client import Client
from core.errors import NotFoundError, UserError

ANSWER_S_MAX = 2.0
"""How long the last answer of a terminal is waited for, which may come over a slow line."""
ASK, ANSWER = b"\x1b[5n", b"\x1b[0n"
"""Is all well? Yes. Terminals answer in the order in which they were asked."""


async def chosen(client: Client, what: str) -> str:
    """Return the recording that was named; of a task, that of its last coding agent.

    Raises:
        NotFoundError: There is none.
    """
    if not what.startswith("T-"):
        return what
    found = (await client.get("tasks", what, "recordings"))["recordings"]
    agents = [one["id"] for one in found if one["kind"] == "session"]
    if not agents:
        raise NotFoundError(f"No coding agent has worked on {what} yet.", code="recording_lost")
    return str(agents[-1])


async def save(client: Client, recording: str, output: Path | None) -> None:
    """Write a recording to a file, or to stdout."""
    async with aclosing(client.read("recordings", recording, "cast")) as chunks:
        first = await anext(chunks, b"")  # What is missing is said before a file is begun.
        with _opened(output) as file:
            file.write(first)
            async for chunk in chunks:
                file.write(chunk)


@contextmanager
def _opened(output: Path | None) -> Iterator[BinaryIO]:
    """Give the file to write, or stdout.

    Raises:
        FileError: It cannot be written.
    """
    try:
        with nullcontext(sys.stdout.buffer) if output is None else output.open("wb") as file:
            yield file
            file.flush()
    except OSError as error:
        raise click.FileError(str(output or "stdout"), hint=error.strerror) from error


async def play(client: Client, recording: str, *, at_s: float, speed: float) -> None:
    """Show a recording from a second on, in its own time or faster; what was before comes at once.

    Raises:
        UserError: It cannot be read.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with _unheard():
        try:
            async for second, kind, text in _events(client, recording):
                if kind == "o":
                    await asyncio.sleep(max(0.0, began + (second - at_s) / speed - loop.time()))
                    _write(text.encode("utf-8", "replace"))
        finally:
            _write(PLAIN + b"\r\n")


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


@asynccontextmanager
async def _unheard() -> AsyncGenerator[None]:
    """Drop what is typed, and what the terminal answers to programs that asked when recorded.

    Nobody would read those answers but the person's own shell, as if they were typed.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        yield
        return
    fd, loop, heard, is_over = sys.stdin.fileno(), asyncio.get_running_loop(), b"", asyncio.Event()

    def drop() -> None:
        nonlocal heard
        heard = heard[1 - len(ANSWER) :] + os.read(fd, 4096)
        if ANSWER in heard:
            is_over.set()

    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        loop.add_reader(fd, drop)
        try:
            yield
        finally:
            is_over.clear()
            _write(ASK)
            with suppress(TimeoutError):
                async with asyncio.timeout(ANSWER_S_MAX):
                    await is_over.wait()
    finally:
        loop.remove_reader(fd)
        termios.tcsetattr(fd, termios.TCSAFLUSH, before)


async def _events(client: Client, recording: str) -> AsyncGenerator[tuple[float, str, str]]:
    rest, is_head = b"", True
    async with aclosing(client.read("recordings", recording, "cast")) as chunks:
        async for chunk in chunks:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if not is_head:
                    yield _event(line)
                is_head = False


def _event(line: bytes) -> tuple[float, str, str]:
    try:
        second, kind, text = json.loads(line)
        return float(second), str(kind), str(text)
    except (ValueError, TypeError) as error:
        raise UserError("This is no recording.", code="no_recording") from error
