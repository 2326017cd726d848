import subprocess
import sys
from pathlib import Path

import pytest

from bot.setup.place import alone, placing


def test_what_is_interrupted_is_not_seen_and_is_cleared_away_by_the_next(tmp_path: Path) -> None:
    story = """
import os, signal, sys
from pathlib import Path
from bot.setup.place import placing
with placing(Path(sys.argv[1])) as half:
    (half / "file").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    folder = tmp_path / "tools" / "tea"
    killed = subprocess.run([sys.executable, "-c", story, folder], check=False)
    assert killed.returncode == -9
    assert not folder.exists()
    with placing(folder) as half:
        assert list(half.iterdir()) == []
        (half / "file").write_text("whole")
    assert (folder / "file").read_text() == "whole"
    assert [path.name for path in folder.parent.iterdir()] == ["tea"]


def test_what_fails_leaves_what_was_there(tmp_path: Path) -> None:
    folder = tmp_path / "tea"
    folder.mkdir()
    (folder / "file").write_text("old")
    with pytest.raises(ZeroDivisionError), placing(folder):
        raise ZeroDivisionError
    assert (folder / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["tea"]


def test_a_second_set_up_waits_for_the_first_and_says_so(tmp_path: Path) -> None:
    story = """
import sys
from pathlib import Path
from bot.setup.place import alone
with alone(Path(sys.argv[1]), progress=lambda line: print(line, flush=True)):
    print("my turn", flush=True)
"""
    with alone(tmp_path, progress=pytest.fail):
        second = subprocess.Popen(
            [sys.executable, "-c", story, tmp_path], stdout=subprocess.PIPE, text=True
        )
        assert second.stdout is not None
        assert second.stdout.readline().startswith("waiting for another set-up")
    assert second.communicate(timeout=30)[0] == "my turn\n"
