"""The log of a terminal, against a plain run of bytes."""

import errno
import os
import shutil
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.terminal import log as module
from agent.terminal.log import HELD_BYTES_MAX, Log
from core.viewing import Size

BYTES_MAX = 4000
SEGMENT_BYTES = 1000


class LogMachine(RuleBasedStateMachine):
    """Appends, restarts, torn marks, full disks; what the log gives is what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="log"))
        self.written = bytearray()
        self.now = 1000.0
        self.sizes: list[tuple[int, Size]] = []
        self.is_full = False
        self.real = module._write
        module._write = self._write  # type: ignore[assignment]
        self.log = self._open()

    def _open(self) -> Log:
        return Log(
            self.folder, bytes_max=BYTES_MAX, segment_bytes=SEGMENT_BYTES, now=lambda: self.now
        )

    def _write(self, path: Path, data: bytes | bytearray) -> int:
        if self.is_full:
            raise OSError(errno.ENOSPC, "full")
        return self.real(path, data)

    def teardown(self) -> None:
        module._write = self.real
        shutil.rmtree(self.folder)

    @rule(data=st.binary(min_size=1, max_size=700), known=st.integers(0, 50))
    def the_shell_writes(self, data: bytes, known: int) -> None:
        """A line may give again what the log has."""
        known = min(known, self.log.end - self.log.start, len(self.written))
        start = self.log.end - known
        self.log.append(start, self._at(start, known) + data)
        self.written += data

    @rule(size=st.builds(Size, st.integers(1, 9), st.integers(1, 9)))
    def the_size_changes(self, size: Size) -> None:
        self.log.resize(size)

    @rule(seconds=st.sampled_from([0.0, 0.001, 0.5, 100.0, -5.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: not self.is_full)
    @rule(torn=st.binary(max_size=30), cut=st.integers(0, 30))
    def it_is_killed_and_opened_again(self, torn: bytes, cut: int) -> None:
        """A kill leaves what was written; the last mark may be there in part, or be nonsense."""
        end, size = self.log.end, self.log.size
        sides = sorted(self.folder.glob("*.marks"))
        if sides and torn:
            with sides[-1].open("ab") as file:
                file.write(torn)
        elif sides and sides[-1].stat().st_size > cut:
            os.truncate(sides[-1], sides[-1].stat().st_size - cut)
            size = None
        held = len(self.log._held)
        self.log = self._open()
        del self.written[len(self.written) - held :]
        assert self.log.end == end - held
        if size is not None and not torn and self.log.end:
            assert self.log.size == size

    @rule()
    def the_disk_is_full(self) -> None:
        self.is_full = True

    @rule()
    def the_disk_has_room(self) -> None:
        self.is_full = False

    def _at(self, offset: int, count: int) -> bytes:
        begin = offset - (self.log.end - len(self.written))
        return bytes(self.written[begin : begin + count])

    @invariant()
    def what_is_kept_is_what_was_written(self) -> None:
        kept = self.log.read(self.log.start, 10**6)
        assert kept == bytes(self.written[len(self.written) - (self.log.end - self.log.start) :])
        assert self.log.end - self.log.start <= BYTES_MAX + SEGMENT_BYTES + HELD_BYTES_MAX

    @invariant()
    def little_is_lost_while_there_is_room(self) -> None:
        if not self.is_full:
            files = sum(path.stat().st_size for path in self.folder.glob("*.out"))
            assert files <= BYTES_MAX + SEGMENT_BYTES

    @invariant()
    def marks_are_in_order(self) -> None:
        marks = [mark.offset for mark in self.log.kept().marks() if mark.what is None]
        assert all(a <= b for a, b in pairwise(marks))


TestLog = LogMachine.TestCase
TestLog.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_leap_begins_the_log_anew(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.append(0, b"before")
    log.append(1000, b"after")
    assert (log.start, log.end, log.read(1000, 99)) == (1000, 1005, b"after")
    again = Log(tmp_path)
    assert (again.start, again.end, again.read(0, 99)) == (1000, 1005, b"")


def test_a_size_that_was_noted_on_a_full_disk_is_known_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes | bytearray) -> int:
        raise OSError(errno.ENOSPC, "full")

    log = Log(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(module, "_write", full)
        log.resize(Size(9, 9))
        log.append(0, b"x")
    log.append(1, b"y")
    log.flush()
    assert Log(tmp_path).size == Size(9, 9)


def test_a_disk_that_takes_nothing_loses_the_oldest_and_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log(tmp_path)
    log.append(0, b"x" * 3 * 2**20)
    real = module._write

    def full(path: Path, data: bytes | bytearray) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(module, "_write", full)
    for _ in range(100):
        log.append(log.end, b"y" * 65536)
    assert HELD_BYTES_MAX // 2 <= log.end - log.start <= HELD_BYTES_MAX
    assert log.read(log.end - 5, 5) == b"yyyyy"
    monkeypatch.setattr(module, "_write", real)
    log.append(log.end, b"z")
    assert Log(tmp_path).read(log.end - 3, 3) == b"yyz"


def test_a_folder_that_is_gone_is_not_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "terminal"
    folder.mkdir()
    log = Log(folder)
    log.append(0, b"one")
    shutil.rmtree(folder)
    log.append(3, b"two")
    log.resize(Size(10, 10))
    assert log.read(3, 3) == b"two"
    assert not folder.exists()
