"""A holder and its host side on this machine: what can go wrong between them."""

import ast
import asyncio
import os
import signal
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import NodeError
from agent.terminal.held_line import STEPS_MAX, AwayError, Door, HeldLine
from agent.terminal.holder import EXITED_MAX, FRAME_BYTES, HEAD, TERMINALS_MAX
from agent.terminal.line import Line, Shell
from core.viewing import Size
from tests.fakes.serving import until
from tests.fakes.terminals import (
    PROGRAM,
    Bench,
    holders,
    host_bench,
    read_rest,
    read_until,
    start_holder,
)

TAGS = st.sampled_from([b"A", b"N", b"O", b"X", b"?"])
NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.integers(-2, 40)
FRAMES = st.builds(
    lambda tag, number, body: HEAD.pack(tag, number, len(body)) + body,
    TAGS,
    NUMBERS,
    st.binary(max_size=30),
)
SAID = st.lists(FRAMES | st.binary(max_size=40), max_size=8).map(b"".join)
ACCEPTED = HEAD.pack(b"A", 0, 0)


@pytest.fixture
async def bench() -> AsyncGenerator[Bench]:
    async with host_bench() as bench:
        yield bench


# The holder


def test_the_holder_is_written_for_old_pythons_and_imports_nothing_that_is_not_theirs() -> None:
    tree = ast.parse(PROGRAM.read_text(), feature_version=(3, 7))
    imported = {
        name.name
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    }
    assert imported - {"annotations"} <= {
        *(
            "fcntl",
            "mmap",
            "os",
            "pwd",
            "select",
            "signal",
            "socket",
            "struct",
            "sys",
            "termios",
            "time",
        )
    }


async def test_of_holders_started_at_once_one_stays(bench: Bench) -> None:
    shell = bench.script("echo so")
    assert await asyncio.gather(*[start_holder(shell) for _ in range(5)]) == [0] * 5
    await until(lambda: len(holders(bench.run_dir)) == 1)
    assert await read_rest(await bench.open(shell)) == b"so\r\n"


async def test_a_killed_holder_takes_its_shells_along_and_another_one_follows(
    bench: Bench,
) -> None:
    shell = bench.script(f"sleep {bench.mark}")
    line = await bench.open(shell)
    await until(lambda: bench.processes(f"sleep {bench.mark}"))
    for pid in holders(bench.run_dir):
        os.kill(pid, signal.SIGKILL)
    assert await read_rest(line) == b""
    assert await line.exit_code() is None
    await line.write(b"x")
    await line.resize(Size(9, 9))
    await line.hang_up()
    await until(lambda: _none(bench, bench.mark))
    assert await bench.find(shell, after=0) is None
    assert await read_rest(await bench.open(bench.script("echo so"))) == b"so\r\n"


async def _none(bench: Bench, word: str) -> bool:
    return not await bench.processes(word)


async def test_a_holder_ignores_the_end_of_those_who_started_it(bench: Bench) -> None:
    line = await bench.open(bench.script("echo ready; read x; echo got $x"))
    await read_until(line, b"ready")
    await until(lambda: len(holders(bench.run_dir)) == 1)
    (pid,) = holders(bench.run_dir)
    assert os.getsid(pid) not in {pid, os.getsid(0)}
    os.kill(pid, signal.SIGHUP)
    await line.write(b"it\n")
    assert b"got it" in await read_rest(line)


async def test_a_holder_does_nothing_while_nothing_happens(bench: Bench) -> None:
    lines = [await bench.open(bench.shell("cat")) for _ in range(3)]
    await lines[1].close()
    await until(lambda: len(holders(bench.run_dir)) == 1)  # A shell to be is one at first.
    (pid,) = holders(bench.run_dir)

    async def is_still() -> bool:
        before = _switches(pid)
        await asyncio.sleep(1)
        return _switches(pid) == before

    await until(is_still)


def _switches(pid: int) -> list[str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return [line for line in lines if line.startswith("voluntary_ctxt_switches")]


async def test_of_the_shells_that_have_exited_the_latest_are_remembered(bench: Bench) -> None:
    shells = [bench.script(f"exit {number}") for number in range(EXITED_MAX + 4)]
    for shell in shells:
        line = await bench.open(shell)
        await read_rest(line)
        _drop(line)
    assert await bench.find(shells[3], after=0) is None
    for number, shell in list(enumerate(shells))[4:]:
        found = await bench.find(shell, after=0)
        assert found is not None
        assert await read_rest(found) == b""
        assert await found.exit_code() == number


def _drop(line: Line) -> None:
    """Lose a connection as one does who is killed."""
    assert isinstance(line, HeldLine)
    line._connection.close()


async def test_too_many_shells_are_refused_with_a_sentence(bench: Bench) -> None:
    for _ in range(TERMINALS_MAX):
        await bench.open(bench.shell("cat"))
    with pytest.raises(NodeError, match="too many terminals are open"):
        await bench.open(bench.shell("cat"))
    await bench.opened[0].hang_up()
    await bench.open(bench.shell("cat"))
    for line in bench.opened:
        await line.write(b"\x04")


async def test_an_open_that_is_said_twice_opens_one_shell(bench: Bench) -> None:
    shell = bench.script('echo x >>"$1/count"; read x')
    await bench.open(shell)
    again = await bench.open(shell)
    await again.write(b"\n")
    await read_rest(again)
    assert bench.file("count").read_text() == "x\n"


@pytest.mark.parametrize("where", ["command", "folder", "env"])
async def test_a_nul_in_what_to_open_is_refused(bench: Bench, where: str) -> None:
    values = {"command": ("a\0b",), "folder": "/\0", "env": {"A": "b\0C=d"}}
    with pytest.raises(NodeError, match="NUL"):
        await bench.open(bench.shell(**{where: values[where]}))


@settings(max_examples=30)
@given(st.lists(SAID | st.just(HEAD.pack(b"O", 0, 1 << 30)), min_size=1, max_size=4))
def test_whatever_is_said_to_a_holder_its_shells_go_on(said: list[bytes]) -> None:
    async def run() -> None:
        async with host_bench() as bench:
            shell = bench.script("echo ready; read x; echo got $x")
            line = await bench.open(shell)
            for data in said:
                with Door.of(shell).knock() as knocking:
                    knocking.sendall(data)
            await line.write(b"it\n")
            assert b"got it" in await read_rest(line)

    asyncio.run(run())


# A holder that lies


@asynccontextmanager
async def liar(bench: Bench, *said: bytes, is_endless: bool = False) -> AsyncGenerator[Shell]:
    """Say these bytes to whoever connects to the door of a shell, the last ones for ever."""
    shell = bench.shell()

    async def attend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.writelines(said)
            while is_endless:
                writer.write(said[-1] * 100)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_unix_server(attend, bench.file(Door.of(shell).name))
    async with server:
        yield shell


@settings(max_examples=100)
@given(SAID, st.booleans())
def test_a_line_to_a_liar_ends_and_its_offsets_never_go_back(said: bytes, is_let_in: bool) -> None:
    async def run() -> None:
        async with host_bench() as bench, liar(bench, ACCEPTED * is_let_in, said) as shell:
            line = await bench.find(shell, after=0)
            end = 0
            while line is not None:
                offset, data = await line.read()
                assert offset >= end
                end = offset + len(data)
                if not data:
                    break

    asyncio.run(run())


@pytest.mark.parametrize(
    "frame",
    [
        HEAD.pack(b"O", 0, FRAME_BYTES + 1),
        HEAD.pack(b"O", 0, 2**32 - 1),
        HEAD.pack(b"O", 0, 0),
        HEAD.pack(b"O", -1, 1) + b"x",
        HEAD.pack(b"O", 2**63 - 1, 1) + b"x",
        HEAD.pack(b"X", 256, 0),
        HEAD.pack(b"A", 0, 0),
    ],
)
async def test_a_lie_ends_the_line_and_nothing_else(bench: Bench, frame: bytes) -> None:
    async with liar(bench, ACCEPTED, frame, is_endless=True) as shell:
        line = await bench.find(shell, after=0)
        assert line is not None
        assert (await line.read())[1] == b""
        assert await line.exit_code() is None


async def test_a_liar_that_never_stops_lets_others_have_their_turn(bench: Bench) -> None:
    async with liar(bench, ACCEPTED, HEAD.pack(b"O", 0, 1) + b"x", is_endless=True) as shell:
        line = await bench.find(shell, after=0)
        assert line is not None
        assert await line.read() == (0, b"x")
        assert (await line.read())[1] == b""


async def test_many_small_frames_leave_others_their_turn(bench: Bench) -> None:
    count, turns = 1000, 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    said = b"".join(HEAD.pack(b"O", at, 1) + b"x" for at in range(count))
    async with liar(bench, ACCEPTED, said) as shell, asyncio.TaskGroup() as group:
        line = await bench.find(shell, after=0)
        assert line is not None
        await line.read()  # The others are there now.
        other = group.create_task(take_turns())
        for at in range(1, count):
            assert await line.read() == (at, b"x")
        other.cancel()
    assert turns >= count // STEPS_MAX - 1


async def test_one_that_says_nothing_does_not_hold_an_opening_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.terminal.held_line.ANSWER_S_MAX", 0.1)
    with socket.socket(socket.AF_UNIX) as silent:
        shell = bench.shell()
        silent.bind(str(bench.file(Door.of(shell).name)))
        silent.listen()
        with pytest.raises(NodeError, match="no answer within"):
            await HeldLine.open(shell)
        assert await HeldLine.find(shell, after=0) is None


@pytest.mark.parametrize("what", ["nothing", "file", "pipe", "folder", "link", "folder link"])
async def test_what_is_no_socket_in_its_place_is_not_touched(bench: Bench, what: str) -> None:
    shell = bench.shell()
    door = Door.of(shell)
    place = bench.file(door.name)
    elsewhere = bench.run_dir / "elsewhere"
    elsewhere.mkdir()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(elsewhere / door.name))
        other.listen()
        make = {
            "nothing": lambda: None,
            "file": place.touch,
            "pipe": partial(os.mkfifo, place),
            "folder": place.mkdir,
            "link": partial(place.symlink_to, elsewhere / door.name),
            "folder link": partial(_swap, place.parent, elsewhere),
        }
        make[what]()
        with pytest.raises(AwayError):
            door.knock()
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.accept()


def _swap(folder: Path, elsewhere: Path) -> None:
    folder.rmdir()
    folder.symlink_to(elsewhere)


# Our side


async def test_a_cancelled_read_loses_nothing(bench: Bench) -> None:
    line = await bench.open(bench.script("stty -opost; for i in $(seq 1 9999); do echo $i; done"))
    seen = b""
    async with asyncio.timeout(60):
        while True:
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(line.read())
                await asyncio.sleep(0)
                reading.cancel()
            if not reading.cancelled():
                seen += reading.result()[1]
            offset, data = await line.read()
            assert offset == len(seen)
            seen += data
            if not data:
                break
    assert seen == b"".join(b"%d\n" % i for i in range(1, 10_000))


async def test_closing_wakes_who_reads_and_who_types(bench: Bench) -> None:
    line = await bench.open(bench.script("stty raw -echo; echo ready; sleep 1000"))
    await read_until(line, b"ready")
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(line.read())
        typing = group.create_task(line.write(b"x" * (8 << 20)))
        await asyncio.wait([reading, typing], timeout=0.2)
        await line.close()
    assert reading.result()[1] == b""
    await line.hang_up()
