import os
import re
from pathlib import Path

import pytest

from bot.setup import shell
from bot.setup.missing import MissingError
from bot.setup.shell import CommandError, run, works
from tests.fakes.terminals import host_processes


def test_what_a_command_prints_is_returned_with_its_errors() -> None:
    assert run(["sh", "-c", "echo out; echo err >&2"], limit_s=10) == "out\nerr\n"


def test_a_failed_command_shows_its_last_lines_only() -> None:
    with pytest.raises(CommandError, match="ended with exit code 3") as caught:
        run(["sh", "-c", "seq 100; exit 3"], limit_s=10)
    assert caught.value.tail.splitlines() == [str(n) for n in range(93, 101)]


def test_a_command_that_is_not_there_fails_like_any_other() -> None:
    with pytest.raises(CommandError, match="does not start"):
        run(["samovar-no-such-program"], limit_s=10)
    assert not works(["samovar-no-such-program"])


def test_a_command_past_its_limit_is_ended() -> None:
    seconds = f"600.{os.getpid()}"
    with pytest.raises(CommandError, match="took longer than 0 s"):
        run(["sleep", seconds], limit_s=0.3)
    assert not [command for _, command in host_processes() if seconds.encode() in command]


def test_progress_is_told_only_of_what_takes_long(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(shell, "QUIET_S", 60)
    run(["true"], limit_s=100, label="quick", progress=lines.append)
    assert lines == []

    def told(line: str) -> None:
        lines.append(line)
        if len(lines) == 2:
            (tmp_path / "enough").touch()

    monkeypatch.setattr(shell, "QUIET_S", 0.05)
    monkeypatch.setattr(shell, "REMIND_S", 0.05)
    script = f"until test -e {tmp_path}/enough; do sleep 0.01; done"
    run(["sh", "-c", script], limit_s=60, label="slow", progress=told)
    assert re.fullmatch(r"slow … \d+ s", lines[0])


def test_who_is_neither_root_nor_allowed_to_sudo_is_told_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingError) as caught:
        shell.as_root("/usr/bin/apt-get", "update", mend="sudo apt-get update")
    assert caught.value.mend == "sudo apt-get update"
    assert "only root can run `apt-get`" in str(caught.value)
