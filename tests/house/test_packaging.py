"""The wheel, and the lock that its environment comes from."""

import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements.lock"
LOCKS = [LOCK, ROOT / "bot" / "setup" / "node.lock"]
UV = Path(sys.executable).with_name("uv")
ROOMS = {"adapters", "agent", "bot", "core"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [UV, "build", "--wheel", "--no-build-isolation", "--out-dir", folder, ROOT]
    command += ["--python", sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_has_the_four_rooms_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == ROOMS
    assert not [name for name in names if "test_" in name]
    assert "bot/setup/node.lock" in names


def test_the_wheel_runs_in_an_environment_of_its_own_away_from_the_checkout(
    wheel: Path, tmp_path: Path
) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    into = ["--quiet", "--python", python]
    for command in (
        [UV, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv"],
        [UV, "pip", "sync", *into, "--require-hashes", LOCK],
        [UV, "pip", "install", *into, "--no-deps", wheel],
        [python.with_name("samovar"), "--help"],
    ):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert "Usage: samovar" in done.stdout
    where = [python, "-c", "import core; print(core.__file__)"]
    origin = subprocess.run(where, cwd=tmp_path, capture_output=True, text=True, check=False).stdout
    assert origin.startswith(str(tmp_path))


def entries(lock: Path) -> Iterator[str]:
    """Yield each pinned requirement of `lock` with its hashes, on one line."""
    yield from re.sub(r" *\\\n *", " ", lock.read_text()).splitlines()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_pins_every_file_by_hash_and_names_no_address(lock: Path) -> None:
    for entry in entries(lock):
        assert re.match(r"[a-z0-9-]+==[^ ]+( ; [^#]+?)?( --hash=sha256:[0-9a-f]{64})+$", entry)
        assert "/" not in entry


def test_the_lock_answers_every_requirement_of_the_project() -> None:
    """`./samovar lock` writes it anew."""
    pins = dict(entry.split(" ")[0].split("==") for entry in entries(LOCK))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["bot"],
        *project["project"]["optional-dependencies"]["demo"],
        *project["dependency-groups"]["dev"],
        *project["build-system"]["requires"],
    ]
    for each in map(Requirement, wanted):
        assert each.specifier.contains(pins[each.name.lower()]), each
