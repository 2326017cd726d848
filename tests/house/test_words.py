"""Rules about the text of the tree: what must not be written down anywhere."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UNSAFE_START = re.compile(r"python3?(?:\.\d+)? (?!-P )(?:-\w+ )*-m (?:agent|bot)\b")
"""`python -m agent` in a checkout that has an `agent/` of its own runs the stranger's code."""


def texts() -> list[tuple[str, str]]:
    """Return name and content of every text file that belongs to the tree."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = []
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        if path.is_file() and b"\0" not in (content := path.read_bytes()):
            found.append((name, content.decode(errors="replace")))
    return found


def test_nothing_starts_a_room_by_name_from_the_current_folder() -> None:
    mine = Path(__file__).name
    unsafe = [name for name, text in texts() if UNSAFE_START.search(text) and mine not in name]
    assert unsafe == []


@pytest.mark.parametrize("words", ["python -m agent", "python3.11 -u -m bot.cli"])
def test_the_rule_above_sees_what_it_forbids(words: str) -> None:
    assert UNSAFE_START.search(words)
    assert not UNSAFE_START.search("python -P -m agent")


def test_no_path_of_the_machine_it_was_written_on_is_in_the_tree() -> None:
    folders = {str(ROOT), str(Path.home())} - {"/", "/root"}
    own = re.compile("|".join(rf"{re.escape(folder)}(?![\w.-])" for folder in sorted(folders)))
    assert [name for name, text in texts() if own.search(text)] == []
