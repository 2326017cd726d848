"""A screen that was given the picture equals the screen that was given everything."""

import os
import pty
import re
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pyte
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from agent.terminal.log import Log
from agent.terminal.modes import Modes
from agent.terminal.screen import Grid, Picture, paint
from core.viewing import Size
from tests.fakes.lacking import lacking

SIZE = Size(20, 6)
QUERIES = re.compile(
    rb"\x1b\[[>=]?[0-9;]*c|\x1b\[\??[0-9;]*n|\x1b\[\?[0-9;]*\$p|\x1b\][0-9;]*\?|\x1bZ|\x1bP"
    rb"|\x1b\[(?:11|13|14|15|16|18|19|20|21)t|\x1b\[>[0-9]*q|\x05|\x1b\[\?u"
)
CANCEL = b"\x18"
"""Draws nothing, but ends a character whose rest does not come."""
REPEATS = re.compile(rb"\x1b\[[0-9;]*b")

words = st.text(alphabet=st.sampled_from("ab xyz~─é漢字가🙂́‍️\u200b"), min_size=1, max_size=12).map(
    str.encode
)
numbers = st.integers(0, 25)
controls = st.sampled_from([b"\r\n", b"\n", b"\r", b"\b", b"\t", b"\x0e", b"\x0f", b"\x07"])
moves = st.builds(
    lambda end, a, b: b"\x1b[%d;%d%c" % (a, b, end) if end in b"Hfr" else b"\x1b[%d%c" % (a, end),
    st.sampled_from(b"HHHfrABCDEFGLMPX@STdb`aeZg"),
    numbers,
    numbers,
)
erasing = st.builds(lambda end, how: b"\x1b[%d%c" % (how, end), st.sampled_from(b"JK"), numbers)
looks = st.sampled_from(
    [
        b"\x1b[m",
        b"\x1b[1;31m",
        b"\x1b[2m",
        b"\x1b[4:3m",
        b"\x1b[7;44m",
        b"\x1b[22;27m",
        b"\x1b[38;5;200m",
        b"\x1b[48;2;1;2;3m",
        b"\x1b[38:2::9:8:7m",
        b"\x1b[97;107m",
        b"\x1b[39;49m",
        b"\x1b[58;5;3m",
    ]
)
private = st.sampled_from([1, 5, 6, 7, 9, 25, 47, 1000, 1002, 1006, 1047, 1048, 1049, 2004, 2026])
modes = st.builds(lambda n, on: b"\x1b[?%d%s" % (n, on), private, st.sampled_from([b"h", b"l"]))
others = st.sampled_from(
    [
        b"\x1b7",
        b"\x1b8",
        b"\x1bM",
        b"\x1bD",
        b"\x1bE",
        b"\x1bH",
        b"\x1b=",
        b"\x1b>",
        b"\x1bc",
        b"\x1b[!p",
        b"\x1b[4h",
        b"\x1b[4l",
        b"\x1b[20h",
        b"\x1b(0",
        b"\x1b(B",
        b"\x1b)0",
        b"\x1b[4 q",
        b"\x1b]0;a title\x07",
        b"\x1b]2;t\xc3\xa9\x1b\\",
        b"\x1b[c",
        b"\x1b[6n",
        b"\x1b[>4;2m",
        b"\x1b[>c",
        b"\x1bP+q544e\x1b\\",
        b"\x1b]11;?\x07",
        b"\x1b[?1$p",
        b"\xff\xfe",
        b"\x1b[31",
        b"\xe6\xbc",
        b"\x1b]2;half",
        b"\x1b",
        b"\x1b#8",
    ]
)
streams = st.lists(
    st.one_of(words, words, words, controls, controls, moves, erasing, looks, modes, others),
    max_size=60,
)


def picture(data: bytes, size: Size = SIZE, *, cuts: tuple[int, ...] = ()) -> Picture:
    return paint(written(data, size, cuts=cuts).kept())


def written(data: bytes, size: Size = SIZE, *, cuts: tuple[int, ...] = ()) -> Log:
    log = Log(Path(tempfile.mkdtemp(dir=FOLDERS[-1])))
    log.resize(size)
    for first, last in zip((0, *cuts), (*cuts, len(data)), strict=True):
        log.append(first, data[first:last])
    return log


FOLDERS: list[str] = []


@pytest.fixture(autouse=True, scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    FOLDERS.append(str(tmp_path_factory.mktemp("logs")))


def fed(*datas: bytes, size: Size = SIZE) -> Grid:
    grid = Grid(size)
    for data in datas:
        grid.feed(data)
    return grid


def looks_of(grid: Grid) -> dict[str, Any]:
    return {
        "rows": [grid.row(y) for y in range(grid.lines)],
        "usual": grid.usual_rows(),
        "history": list(grid.history),
        "cursor": (grid.cursor.x, grid.cursor.y, grid.cursor.attrs),
        "margins": grid.margins,
        "saved": grid.saved,
        "shown": grid.shown,
        "modes": grid.mode,
        "charsets": (grid._charsets, grid._is_shifted),
        "stops": {stop for stop in grid.tabstops if stop < grid.columns},
        "size": (grid.columns, grid.lines),
    }


def scanned(*datas: bytes) -> Modes:
    modes, at = Modes(), 0
    for data in datas:
        modes.scan(at, data)
        at += len(data)
    return modes


@settings(max_examples=400, deadline=None)
@given(streams, streams, st.data())
def test_a_picture_and_what_follows_show_what_everything_shows(
    before: list[bytes], after: list[bytes], data: st.DataObject
) -> None:
    whole = b"".join(before)
    cuts = tuple(sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=4))))
    shown = picture(whole, cuts=cuts)
    # A picture ends with a control; what repeats the character before it has none to repeat.
    assume(not REPEATS.match(b"".join(after)))
    rest = whole[len(whole) - shown.unfinished :]
    known = whole[: len(whole) - shown.unfinished]
    assert looks_of(fed(shown.data)) == looks_of(fed(known, CANCEL))
    follows = rest + b"".join(after)
    late, early = scanned(shown.data, follows), scanned(whole + b"".join(after))
    late.alternate_at, late.margins = early.alternate_at, early.margins
    assert late == early
    assert looks_of(fed(shown.data, follows)) == looks_of(fed(whole, b"".join(after)))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"\x1b#8", b"\x1b[A\x1b[3b"),
        (b"x\x1b[m\x1b[3b", b""),
        (b"\x1b[20h\x1b[!p", b"one\ntwo"),
        (b"\x0e\x1b]2;half\x0f", b"\x1b[mx"),
        (b"\x0e\x1b]11;half\x0f\x07", b"x"),
        (b"\x1b]8;a\x18\x0eb", b"c"),
        (b"\x1b]0;a\x18\x0eb\x07", b"c"),
        (b"e\xcc\x81\x1b[2b", b""),
        (b"a\x7f\x1b[3b", b""),
        (b"\xe6\xbc\x1b[31", b"mx"),
    ],
    ids=[
        "repeat",
        "after a control",
        "soft reset",
        "cut title",
        "colour",
        "cancelled",
        "cancelled title",
        "cluster",
        "delete",
        "half",
    ],
)
def test_a_picture_of_what_was_once_wrong(before: bytes, after: bytes) -> None:
    shown = picture(before)
    rest = before[len(before) - shown.unfinished :]
    assert looks_of(fed(shown.data, rest, after)) == looks_of(fed(before, after))
    late, early = scanned(shown.data, rest, after), scanned(before, after)
    assert (late.is_shifted, late.is_newline) == (early.is_shifted, early.is_newline)


@settings(max_examples=200, deadline=None)
@given(streams)
def test_a_picture_asks_a_terminal_nothing(stream: list[bytes]) -> None:
    assert not QUERIES.search(picture(b"".join(stream)).data)


@settings(max_examples=200, deadline=None)
@given(streams, st.data())
def test_modes_are_the_same_however_the_output_is_cut(
    stream: list[bytes], data: st.DataObject
) -> None:
    whole = b"".join(stream)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=20)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert scanned(*pieces) == scanned(whole)


plain = st.lists(
    st.one_of(
        st.text(alphabet="abc xyz─é", min_size=1, max_size=9).map(str.encode),
        st.sampled_from([b"\r\n", b"\r", b"\b", b"\x1b[31m", b"\x1b[0m", b"\x1b[38;5;9m"]),
        st.builds(lambda a, b: b"\x1b[%d;%dH" % (a, b), st.integers(1, 6), st.integers(1, 9)),
        st.sampled_from([b"\x1b[2J", b"\x1b[K", b"\x1b[1K", b"\x1b[2L", b"\x1b[M", b"\x1b[2P"]),
    ),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(plain)
def test_another_terminal_shows_the_picture_as_it_shows_everything(stream: list[bytes]) -> None:
    """Plain pyte knows less than we do, but did not learn it from us."""
    wide = Size(60, 6)
    whole = b"".join(stream)
    screens = []
    for data in (whole, picture(whole, wide).data):
        screen = pyte.Screen(wide.columns, wide.rows)
        pyte.ByteStream(screen).feed(data)
        screens.append((screen.display, screen.cursor.y, screen.cursor.x))
    assert screens[0] == screens[1]


def test_modes_set_before_what_is_drawn_again_are_restored(tmp_path: Path) -> None:
    log = Log(tmp_path, bytes_max=4 * 2**20)
    log.resize(SIZE)
    log.append(0, b"\x1b[?2004h\x1b[?1002;1006h\x1b[?1h\x1b=\x1b[?25l\x1b]2;work\x07\x1b[2;5r")
    for _ in range(200):
        log.append(log.end, b"line of output that goes on\r\n" * 1000)
    assert log.start > 0
    shown = paint(log.kept()).data
    for wanted in (b"?2004h", b"?1002h", b"?1006h", b"?1h", b"\x1b=", b"?25l", b"2;work"):
        assert wanted in shown
    assert fed(shown).margins == (1, 4)
    assert paint(Log(tmp_path).kept()) == paint(log.kept()), "and also after a restart"


def test_what_was_on_the_usual_screen_is_there_after_a_long_stay_on_the_other(
    tmp_path: Path,
) -> None:
    log = Log(tmp_path)
    log.resize(SIZE)
    log.append(0, b"$ vim notes\r\n\x1b[?1049h\x1b[H")
    for number in range(4000):
        frame = b"".join(
            b"\x1b[%d;1Hframe %d %s" % (y, number, b"\x1b[31m" * 80) for y in range(1, 4)
        )
        log.append(log.end, b"\x1b[2J" + frame)
    shown = paint(log.kept()).data
    there = fed(shown)
    assert "frame 3999" in "".join(cell.data for cell in there.row(0))
    there.feed(b"\x1b[?1049l")
    assert "".join(cell.data for cell in there.row(0)) == "$ vim notes"


def test_a_thousand_rows_that_left_the_screen_are_kept() -> None:
    shown = picture(b"".join(b"row %d\r\n" % number for number in range(3000)))
    rows = shown.data.split(b"\r\n")
    assert rows[:2] == [b"row 1995", b"row 1996"]
    assert len(rows) == 1006


def session(command: list[str], keys: list[bytes], size: Size) -> bytes:
    """Run a program in a PTY to its end, and return what it wrote.

    A key is pressed whenever the program is quiet after it has answered the one before.
    """
    main, side = pty.openpty()
    os.set_blocking(main, False)
    import fcntl
    import struct
    import termios

    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", size.rows, size.columns, 0, 0))
    env = {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8", "PATH": os.environ["PATH"], "HOME": "/"}
    process = subprocess.Popen(
        command, stdin=side, stdout=side, stderr=side, start_new_session=True, env=env
    )
    os.close(side)
    written, answered, until = b"", 0, time.monotonic() + 60
    try:
        while time.monotonic() < until:
            if select.select([main], [], [], 0.4)[0]:
                try:
                    written += os.read(main, 65536)
                except OSError:
                    break
            elif keys and len(written) > answered:
                answered = len(written)
                os.write(main, keys.pop(0))
    finally:
        process.kill()
        process.wait()
        os.close(main)
    return written


PROGRAMS = {
    "vim": (
        ["vim", "-u", "NONE", "-N", "-n", "+set mouse=a number"],
        [
            b"ihello \xe6\xbc\xa2\xe5\xad\x97\x1b",
            b"yy30p",
            b":sp\r",
            b"\x06",
            b":syntax on\r",
            b":qa!\r",
        ],
    ),
    "less": (["less", "-R", "/etc/services"], [b" ", b"/tcp\r", b"G", b"10k", b"q"]),
    "top": (["top", "-d", "0.3", "-n", "4"], []),
    "sh": (
        ["sh"],
        [b"ls --color=always -l /\n", b"seq 1 200\n", b"printf '\\033[31mred'\n", b"exit\n"],
    ),
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_real_programs_look_the_same_in_a_picture(program: str) -> None:
    if shutil.which(program) is None:
        lacking(program)
    size = Size(80, 24)
    command, keys = PROGRAMS[program]
    whole = session(command, list(keys), size)
    assert len(whole) > 500
    for end in range(len(whole), 0, -max(1, len(whole) // 25)):
        shown = picture(whole[:end], size)
        drawn = whole[: end - shown.unfinished]
        assert looks_of(fed(shown.data, size=size)) == looks_of(fed(drawn, size=size))
        assert not QUERIES.search(shown.data)


@pytest.mark.parametrize(
    "first", [b"\x1b]8;a\x0eb\x1b[", b"\x1b]0;a\x0eb\x1b(", b"\x1b]8;a\x0eb\x1b"]
)
def test_a_shift_in_what_a_cut_left_open_is_none(first: bytes) -> None:
    rest = {b"[": b"0mx", b"(": b"Bx"}.get(first[-1:], b"\\x")
    assert scanned(first, rest) == scanned(first + rest)
    assert not scanned(first, rest).is_shifted
