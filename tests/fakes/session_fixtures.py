"""Fixtures of tests with a real Claude Code; a conftest imports them."""

import os
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from agent.launcher import LocalLauncher
from bot.demo.model import ScriptedModel
from tests.fakes.agent_session import Bench
from tests.fakes.lacking import lacking


def outside_part(variable: str, what: str) -> str:
    """Return the path in an environment variable; without it the test is skipped, in CI failed."""
    path = os.environ.get(variable, "")
    if not Path(path).is_file():
        lacking(f"{variable}: {what}")
    return path


@pytest.fixture
def claude() -> str:
    return outside_part("SAMOVAR_CLAUDE", "the Claude Code binary")


@pytest.fixture
async def model() -> AsyncGenerator[ScriptedModel]:
    async with ScriptedModel() as model:
        yield model


@pytest.fixture
async def bench(tmp_path: Path, model: ScriptedModel, claude: str) -> AsyncGenerator[Bench]:
    bench = Bench(tmp_path / "run", model.url, claude)
    yield bench
    await LocalLauncher(bench.root).sweep(bench.session)
    bench.journal.close()
