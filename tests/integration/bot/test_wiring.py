"""What the configuration says arrives where it matters."""

from pathlib import Path

import pytest

from adapters.memory.forge import MemoryForge
from bot.config import Config, DatabaseConfig, LocalConfig, ModelConfig, WorkspaceConfig
from bot.setup import Outfit
from bot.wiring import wire
from tests.fakes.clock import FakeClock


@pytest.mark.postgres
@pytest.mark.parametrize("watches", [True, False])
async def test_replicas_are_watched_by_their_connections_unless_the_configuration_says_no(
    postgres_url: str, tmp_path: Path, clock: FakeClock, *, watches: bool
) -> None:
    config = Config(
        state=tmp_path,
        database=DatabaseConfig(url=postgres_url, watch_sessions=watches),
        model=ModelConfig(key_variable="NONE"),
        local=LocalConfig(enabled=False),
        workspace=WorkspaceConfig(image="base"),
    )
    async with wire(config, Outfit(parts={}), forge=MemoryForge(now=clock.now)) as parts:
        assert parts.store.database.is_postgresql
        assert parts.store.database.watches_sessions is watches
