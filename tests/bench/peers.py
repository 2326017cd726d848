"""Programs of others to compare with, each in an environment of its own, fetched at one version."""

import subprocess
import sys
from pathlib import Path

from bot.setup import may_install
from bot.state import state_dir
from tests.bench.row import NotRun

TERMINADO = ("terminado==0.18.1", "tornado==6.6.1")
"""The server of terminals that Jupyter has; newest of both in November 2026."""


def terminado() -> Path:
    """Return a Python that has terminado."""
    folder = state_dir() / "tools" / "bench" / TERMINADO[0].replace("==", "-")
    python = folder / "bin" / "python"
    if not python.exists():
        if not may_install():
            raise NotRun("terminado is not installed, and nothing may be")
        _make(folder, TERMINADO)
    return python


def _make(folder: Path, packages: tuple[str, ...]) -> None:
    half = folder.with_name(f"{folder.name}.half")
    uv = str(Path(sys.executable).parent / "uv")
    for words in (
        ("venv", "--clear", "--relocatable", str(half)),
        ("pip", "install", "--python", str(half / "bin" / "python"), *packages),
    ):
        done = subprocess.run((uv, *words), capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotRun(f"{packages[0]} cannot be installed: {done.stderr.strip()[-200:]}")
    half.rename(folder)
