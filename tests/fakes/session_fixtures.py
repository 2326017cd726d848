"""Fixtures of tests with a real Claude Code; a conftest imports them."""

import os
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.claude import driver
from agent.claude.others import Other, others
from agent.driver import SessionSpec
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


@dataclass
class Looks:
    """What a driver found when it looked for others."""

    found: list[list[Other]] = field(default_factory=list)

    def look(self, spec: SessionSpec) -> list[Other]:
        self.found.append(others(spec))
        return self.found[-1]

    def saw(self, session: str, since: str = "") -> bool:
        """Whether there was a look after the first one that found this: that one is acted on."""
        seen = [one for look in self.found for one in look if one.session == session]
        return sum(since in {"", one.began} for one in seen) > 1


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    """Look for others at every turn of the loop."""
    looks = Looks()
    monkeypatch.setattr(driver, "OTHERS_LOOK_S", 0.0)
    monkeypatch.setattr(driver, "others", looks.look)
    return looks
