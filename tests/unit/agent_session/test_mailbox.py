"""The mailbox: lines in, lines out, whoever dies."""

import asyncio
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import NodeError
from agent.mailbox import (
    JOURNAL,
    JOURNAL_BYTES_MAX,
    LINE_BYTES_MAX,
    READ_BYTES,
    RESERVE_BYTES,
    GoneError,
    Mailbox,
)


@pytest.fixture
def box(tmp_path: Path) -> Mailbox:
    box = Mailbox(tmp_path, "s1", uid=os.getuid(), gid=os.getgid())
    box.prepare()
    return box


class Reader:
    """A process's end of the FIFO, read in a thread of its own."""

    def __init__(self, folder: Path) -> None:
        self._fifo = os.open(folder / "in.fifo", os.O_RDWR)
        self.data = b""

    def read(self, size: int) -> None:
        while len(self.data) < size:
            self.data += os.read(self._fifo, 1 << 16)

    def close(self) -> None:
        os.close(self._fifo)


def test_its_folder_is_the_users_alone(box: Mailbox, tmp_path: Path) -> None:
    assert (tmp_path / "s/s1").stat().st_mode & 0o777 == 0o700
    box.prepare()


def test_room_is_kept_ahead_of_the_journal_and_its_length_stays(
    box: Mailbox, tmp_path: Path
) -> None:
    journal = tmp_path / "s/s1" / JOURNAL
    journal.write_bytes(b"x" * RESERVE_BYTES)
    box.keep_room(RESERVE_BYTES)
    assert journal.stat().st_size == RESERVE_BYTES
    assert journal.stat().st_blocks * 512 >= 2 * RESERVE_BYTES
    box.rotate(0)
    assert journal.stat().st_size == 0
    assert journal.stat().st_blocks * 512 >= RESERVE_BYTES


async def test_writing_to_a_dead_process_says_so(box: Mailbox) -> None:
    assert not box.has_reader()
    with pytest.raises(GoneError):
        await box.write(b"{}")


async def test_lines_larger_than_the_pipe_arrive_whole_and_unmixed(
    box: Mailbox, tmp_path: Path
) -> None:
    reader = Reader(tmp_path / "s/s1")
    lines = [bytes([65 + number]) * 300_000 for number in range(5)]
    thread = threading.Thread(target=reader.read, args=(5 * 300_001,))
    thread.start()
    async with asyncio.TaskGroup() as group:
        for line in lines:
            group.create_task(box.write(line))
    await asyncio.to_thread(thread.join)
    reader.close()
    assert sorted(reader.data.split(b"\n")[:-1]) == lines


async def test_a_cancelled_write_is_finished_first(box: Mailbox, tmp_path: Path) -> None:
    reader = Reader(tmp_path / "s/s1")
    task = asyncio.create_task(box.write(b"x" * 200_000))
    await asyncio.sleep(0)
    task.cancel()
    thread = threading.Thread(target=reader.read, args=(200_001,))
    thread.start()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(thread.join)
    reader.close()
    assert reader.data == b"x" * 200_000 + b"\n"


def test_an_unfinished_line_is_left_until_it_is_whole(box: Mailbox, tmp_path: Path) -> None:
    journal = tmp_path / "s/s1" / JOURNAL
    journal.write_bytes(b'{"a":1}\n{"b"')
    first = list(box.lines(0))
    assert [(line.start, line.end, line.text) for line in first] == [(0, 8, b'{"a":1}')]
    with journal.open("ab") as file:
        file.write(b":2}\n")
    assert [line.text for line in box.lines(8)] == [b'{"b":2}']


def test_a_line_of_eight_megabytes_is_one_line(box: Mailbox, tmp_path: Path) -> None:
    text = b"y" * (8 << 20)
    (tmp_path / "s/s1" / JOURNAL).write_bytes(text + b"\nz\n")
    assert [line.text for line in box.lines(0)] == [text, b"z"]


def test_a_line_beyond_all_bounds_is_passed_over(box: Mailbox, tmp_path: Path) -> None:
    journal = tmp_path / "s/s1" / JOURNAL
    with journal.open("wb") as file:
        file.truncate(LINE_BYTES_MAX + READ_BYTES)
        file.seek(0, os.SEEK_END)
        file.write(b"\nz\n")
    lines = list(box.lines(0))
    assert [line.text for line in lines] == [b"", b"", b"z"]
    assert lines[1].start == lines[0].end == LINE_BYTES_MAX + READ_BYTES


def test_a_line_beyond_all_bounds_is_read_once_though_it_never_ends(
    box: Mailbox, tmp_path: Path
) -> None:
    os.truncate(tmp_path / "s/s1" / JOURNAL, LINE_BYTES_MAX + 2 * READ_BYTES)
    [piece] = box.lines(0)
    assert (piece.start, piece.end, piece.text) == (0, LINE_BYTES_MAX + READ_BYTES, b"")
    assert list(box.lines(piece.end)) == []


def test_a_journal_beyond_all_bounds_is_an_error(box: Mailbox, tmp_path: Path) -> None:
    os.truncate(tmp_path / "s/s1" / JOURNAL, JOURNAL_BYTES_MAX + 1)
    with pytest.raises(NodeError, match="journal_damaged"):
        list(box.lines(0))
    with pytest.raises(NodeError, match="journal_damaged"):
        box.prepare()


def test_our_own_line_stands_alone_even_after_half_a_line(box: Mailbox, tmp_path: Path) -> None:
    (tmp_path / "s/s1" / JOURNAL).write_bytes(b'{"half')
    box.append(b"{}")
    assert [line.text for line in box.lines(0)] == [b'{"half', b"{}"]


def test_a_journal_that_lost_its_beginning_is_an_error(box: Mailbox) -> None:
    with pytest.raises(NodeError, match="journal_damaged"):
        list(box.lines(5))


@pytest.mark.parametrize("point", ["archived", "done"])
def test_a_rotation_that_was_cut_ends_the_same(box: Mailbox, tmp_path: Path, point: str) -> None:
    folder = tmp_path / "s/s1"
    (folder / JOURNAL).write_bytes(b"a\nb\n")
    if point == "archived":
        (folder / "out.0.jsonl").write_bytes(b"a\nb\n")
        assert box.rotation_was_cut(0)
    box.rotate(0)
    assert [line.text for line in box.lines(0, generation=0)] == [b"a", b"b"]
    assert box.size() == 0
    assert box.base(1) == 4


@given(texts=st.lists(st.binary().filter(lambda text: b"\n" not in text), max_size=8))
def test_offsets_grow_and_say_where_a_line_lies(
    tmp_path_factory: pytest.TempPathFactory, texts: list[bytes]
) -> None:
    root = tmp_path_factory.mktemp("box")
    box = Mailbox(root, "s1", uid=os.getuid(), gid=os.getgid())
    box.prepare()
    data = b"".join(text + b"\n" for text in texts)
    (root / "s/s1" / JOURNAL).write_bytes(data)
    lines = list(box.lines(0))
    assert [line.text for line in lines] == texts
    assert all(data[line.start : line.end - 1] == line.text for line in lines)


@pytest.mark.parametrize("name", ["pid", "exit"])
def test_nonsense_in_a_mark_means_that_there_is_none(
    box: Mailbox, tmp_path: Path, name: str
) -> None:
    read = {"pid": box.pid, "exit": box.exit_code}[name]
    assert read() is None
    for text in ("", "x", "-1", "1e9", "²"):
        (tmp_path / "s/s1" / name).write_text(text)
        assert read() is None
    (tmp_path / "s/s1" / name).write_text("137\n")
    assert read() == 137
    (tmp_path / "s/s1" / name).unlink()
    os.mkfifo(tmp_path / "s/s1" / name)
    assert read() is None
