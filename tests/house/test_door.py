"""`./samovar` itself: it runs before there is an environment, so it is tried from outside."""

import ast
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOOR = ROOT / "samovar"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a copy of the tree that has no environment yet."""
    copy = tmp_path / "checkout"
    for name in ("samovar", "pyproject.toml", "requirements.lock", "README.md", "LICENSE"):
        copy.mkdir(exist_ok=True)
        shutil.copy2(ROOT / name, copy / name)
    for room in ("adapters", "agent", "bot", "core"):
        (copy / room).mkdir()
        shutil.copy2(ROOT / room / "__init__.py", copy / room)
    (copy / "bot" / "cli.py").write_text("def cli():\n    print('the program runs')\n")
    return copy


def start(checkout: Path, *words: str) -> subprocess.Popen[str]:
    base = Path(sys.executable).resolve()
    return subprocess.Popen(
        [base, checkout / "samovar", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_the_door_needs_the_standard_library_only() -> None:
    tree = ast.parse(DOOR.read_text())
    names = {
        alias.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert {str(name).split(".")[0] for name in names} <= sys.stdlib_module_names
    assert os.access(DOOR, os.X_OK)


def test_an_old_python_can_read_the_door_and_says_what_it_lacks() -> None:
    ast.parse(DOOR.read_text(), feature_version=(3, 7))
    old = next(filter(None, map(shutil.which, ("python3.10", "python3.9", "python3.8"))), None)
    if old is None or subprocess.run([old, "-V"], capture_output=True, check=False).returncode:
        return
    alone = {"PATH": ""}
    said = subprocess.run([old, DOOR], env=alone, capture_output=True, text=True, check=False)
    assert said.returncode == 1
    assert said.stderr.startswith("samovar: needs Python 3.11 or newer; this is 3.")


def test_without_permission_nothing_is_made_and_the_command_is_named(checkout: Path) -> None:
    door = start(checkout, "task", "--no-install", "list")
    _, said = door.communicate(timeout=60)
    assert door.returncode == 1
    assert said.startswith("samovar: the environment in .venv is missing or old")
    assert "Mend it: ./samovar" in said
    assert not (checkout / ".venv").exists()


@pytest.mark.timeout(400)
def test_an_interrupted_start_is_mended_and_a_second_one_takes_no_time(checkout: Path) -> None:
    killed = start(checkout)
    deadline = time.monotonic() + 60
    while not (checkout / ".venv" / "bin" / "uv").exists():
        assert time.monotonic() < deadline
        assert killed.poll() is None, killed.communicate()
        time.sleep(0.01)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()

    first = start(checkout)
    out, said = first.communicate(timeout=200)
    assert (first.returncode, out) == (0, "the program runs\n"), said
    assert "environment ready in" in said

    second = start(checkout)
    assert second.communicate(timeout=60) == ("the program runs\n", ""), "nothing took a while"
