"""Recordings of terminals: times, sizes, and no secrets."""

import json
import random
import tempfile
from contextlib import aclosing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import NodeError
from agent.terminal.log import Log
from agent.terminal.recording import cast, recording
from core.viewing import Input, Size
from core.wire import OpenStream
from tests.fakes.asciicast import read as checked
from tests.fakes.local_lines import PlayedLine, PlayedLines
from tests.fakes.serving import until
from tests.fakes.terminal_node import TERMINAL, WORKSPACE, Life, an_order, living
from tests.fakes.viewer import watching


def read(log: Log, *secrets: str) -> tuple[dict[str, object], list[list[object]]]:
    head, *events = [json.loads(line) for line in cast(log.kept(), secrets)]
    return head, events


def test_output_comes_at_its_time_and_sizes_between(tmp_path: Path) -> None:
    now = [1000.0]
    log = Log(tmp_path, now=lambda: now[0])
    log.resize(Size(100, 30))
    for at, data in ((1000.0, b"$ "), (1001.5, b"ls\r\n"), (1001.502, b"file")):
        now[0] = at
        log.append(log.end, data)
    log.resize(Size(50, 10))
    now[0] = 1004.0
    log.append(log.end, "é".encode()[:1])
    log.append(log.end, "é".encode()[1:])
    head, events = read(Log(tmp_path, now=lambda: now[0]))
    assert head == {"version": 2, "width": 100, "height": 30, "timestamp": 1000}
    assert events[0] == [0, "o", "$ "]
    assert "".join(str(text) for at, kind, text in events if kind == "o") == "$ ls\r\nfileé"
    assert [event for event in events if event[1] == "r"] == [[1.5, "r", "50x10"]]


def test_a_secret_is_hidden_wherever_a_block_ends(tmp_path: Path) -> None:
    secret = "s3cret-of-the-workspace"
    chance = random.Random(3)
    log = Log(tmp_path)
    for _ in range(4000):
        fill = b"." * chance.randrange(1, 50)
        whole = fill + secret.encode() + b" ghp_" + b"a1" * 18 + b"\r\n"
        cut = chance.randrange(len(whole))
        log.append(log.end, whole[:cut])
        log.append(log.end, whole[cut:])
    _, events = read(log, secret)
    text = "".join(str(event[2]) for event in events)
    assert len(text) == log.end
    assert secret not in text
    assert "ghp_" not in text
    assert text.count(f".{'*' * len(secret)} ***") == 4000


def test_a_private_key_is_hidden_as_a_whole(tmp_path: Path) -> None:
    log = Log(tmp_path)
    key = "-----BEGIN OPENSSH PRIVATE KEY-----\r\nb3BlbnNza\r\n-----END OPENSSH PRIVATE KEY-----"
    log.append(0, f"$ cat id\r\n{key}\r\n$ ".encode())
    _, events = read(log)
    text = "".join(str(event[2]) for event in events)
    assert "b3Bl" not in text
    assert text.endswith("\r\n$ ")


def test_what_the_log_drops_while_it_is_read_is_in_the_recording_all_the_same(
    tmp_path: Path,
) -> None:
    log = Log(tmp_path, bytes_max=4 * 2**20)
    written = b"".join(b"line %06d\r\n" % n for n in range(300_000))
    log.append(0, written)
    kept = log.kept()
    with kept.held_open() as held:
        lines = cast(held, ())
        begun = next(lines) + next(lines)
        log.append(log.end, b"x" * 4 * 2**20)
        assert log.start > kept.end
        seen = checked([begun, *lines])
    assert seen.text == written[kept.start :].decode()


def test_a_recording_of_which_a_part_is_gone_is_none(tmp_path: Path) -> None:
    log = Log(tmp_path, bytes_max=4 * 2**20)
    log.append(0, b"." * 4 * 2**20)
    kept = log.kept()
    log.append(log.end, b"." * 2**20)
    with kept.held_open() as held, pytest.raises(OSError, match="cannot be read"):
        list(cast(held, ()))


def test_a_secret_of_several_lines_is_hidden_as_a_terminal_shows_it(tmp_path: Path) -> None:
    secret = "first-half-of-it\nsecond-half-of-it"
    log = Log(tmp_path)
    log.append(0, secret.replace("\n", "\r\n").encode() + b"\r\n$ " + secret.encode())
    _, events = read(log, secret)
    text = "".join(str(event[2]) for event in events)
    assert "half" not in text
    assert "\r\n$ " in text


CANARY = "hush-hush-hush"
STEPS = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from([CANARY.encode(), "漢字🙂".encode(), b"\x1b[31m"]),
        st.tuples(st.integers(1, 1000), st.integers(1, 500)),
        st.floats(-100, 100),
    ),
    max_size=30,
)


@given(STEPS, st.integers(1, 7))
def test_any_bytes_are_a_recording_in_order_and_without_the_secret(
    steps: list[bytes | float | tuple[int, int]], cut: int
) -> None:
    now = [1000.0]
    with tempfile.TemporaryDirectory() as folder:
        log = Log(Path(folder), segment_bytes=64, now=lambda: now[0])
        written = bytearray()
        for step in steps:
            if isinstance(step, bytes):
                written += step
                for at in range(0, len(step), cut):
                    log.append(log.end, step[at : at + cut])
            elif isinstance(step, float):
                now[0] += step
            else:
                log.resize(Size(*step))
        seen = checked(cast(log.kept(), [CANARY]))
    hidden = bytes(written).replace(CANARY.encode(), b"*" * len(CANARY))
    assert seen.text == hidden.decode("utf-8", "replace")


def asking(name: str) -> OpenStream:
    return OpenStream(ticket="", what="recording", name=name)


async def _recorded(life: Life) -> str:
    wanted = asking(f"{WORKSPACE}/{TERMINAL}")
    async with aclosing(recording(life.terminals, life.known, wanted)) as pieces:
        return b"".join([piece async for piece in pieces]).decode()


async def test_the_workspaces_own_secrets_are_hidden(tmp_path: Path) -> None:
    line = PlayedLine()
    async with living(tmp_path, PlayedLines(line), tmp_path) as life:
        await life.terminals.open(an_order())
        async with watching(life.view()) as viewer:
            await viewer.say(Input(b"env\n"))
            line.say(b"SECRET_TOKEN=hush-hush-hush PATH=/usr/bin wst_0123456789 done")
            await viewer.sees("done")
        text = await _recorded(life)
        assert "PATH=/usr/bin" in text
        assert "hush" not in text
        assert "wst_" not in text
        for name in ("", "/", "ws-1/", "ws-1/t-ffffffff", "ws-2/t-00000001", "../../etc/passwd"):
            with pytest.raises(NodeError, match="no terminal"):
                await anext(recording(life.terminals, life.known, asking(name)))
        line.leave()
        await until(life.reports)
        assert await _recorded(life)
