from pathlib import Path

import pytest

from bot.setup import shell
from bot.setup.missing import MissingError
from bot.setup.shell import CommandError, run, works


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


def test_a_command_past_its_limit_is_ended(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="took longer than 0 s"):
        run(["sh", "-c", f"echo $$ > {tmp_path}/pid; exec sleep 600"], limit_s=0.3)
    pid = (tmp_path / "pid").read_text().strip()
    assert not Path(f"/proc/{pid}").exists()


def test_progress_is_told_only_of_what_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    run(["true"], limit_s=10, label="quick", progress=lines.append)
    assert lines == []
    monkeypatch.setattr(shell, "QUIET_S", 0.05)
    monkeypatch.setattr(shell, "REMIND_S", 0.05)
    run(["sleep", "0.3"], limit_s=10, label="slow", progress=lines.append)
    assert len(lines) >= 2
    assert lines[0] == "slow … 0 s"


def test_who_is_neither_root_nor_allowed_to_sudo_is_told_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingError) as caught:
        shell.as_root("/usr/bin/apt-get", "update", mend="sudo apt-get update")
    assert caught.value.mend == "sudo apt-get update"
    assert "only root can run `apt-get`" in str(caught.value)
