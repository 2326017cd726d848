from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest

from agent.terminal import watcher
from tests.fakes.local_lines import LocalLines
from tests.fakes.terminal_node import Life, living


@pytest.fixture(autouse=True)
def _nobody_is_dropped_for_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Viewers that say nothing are what most tests have."""
    monkeypatch.setattr(watcher, "BEAT_S", 60)


@pytest.fixture
def lines() -> Iterator[LocalLines]:
    made = LocalLines()
    yield made
    made.end()


@pytest.fixture
async def node(tmp_path: Path, lines: LocalLines) -> AsyncGenerator[Life]:
    async with living(tmp_path, lines, lines.run_dir) as life:
        yield life
