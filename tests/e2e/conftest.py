"""One running program for all tests of a session: it costs a second, each task five."""

from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio

from tests.fakes.world import World, world


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def samovar(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[World]:
    async with world(tmp_path_factory.mktemp("world")) as running:
        yield running
