from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest

from tests.fakes.local_lines import LocalLines
from tests.fakes.terminal_node import Life, living


@pytest.fixture
def lines() -> Iterator[LocalLines]:
    made = LocalLines()
    yield made
    made.end()


@pytest.fixture
async def node(tmp_path: Path, lines: LocalLines) -> AsyncGenerator[Life]:
    async with living(tmp_path, lines, lines.run_dir) as life:
        yield life
