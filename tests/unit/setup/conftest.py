from collections.abc import Callable
from pathlib import Path

import pytest

from bot.setup import shell
from bot.setup.requirement import Site


@pytest.fixture(autouse=True)
def _know_root_anew() -> None:
    shell.root_prefix.cache_clear()


@pytest.fixture
def lines() -> list[str]:
    """What people were told."""
    return []


@pytest.fixture
def site(tmp_path: Path, lines: list[str]) -> Site:
    return Site(state=tmp_path / "state", may_install=True, progress=lines.append, environ={})


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Put shell scripts on a PATH that has nothing else of this machine but `/bin`'s basics."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("cat", "env", "kill", "mkdir", "sh", "sleep", "touch", "true"):
        (folder / name).symlink_to(Path("/bin") / name)
    monkeypatch.setenv("PATH", str(folder))

    def write(name: str, script: str) -> Path:
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    return write
