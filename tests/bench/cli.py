"""How fast the command line answers: `samovar --help` against an empty Python."""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.bench.row import Row

ROUNDS = 15
GOAL = 2.5


def main() -> Sequence[Row]:
    """Start both in turn."""
    program = str(Path(sys.executable).parent / "samovar")
    ours, peer = [], []
    for _ in range(ROUNDS):
        ours.append(_took_ms([program, "--help"]))
        peer.append(_took_ms([sys.executable, "-c", "pass"]))
    return [Row(name="B16 samovar --help / python -c pass", ours=ours, peer=peer, goal=GOAL)]


def _took_ms(words: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(words, stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - started) * 1000
