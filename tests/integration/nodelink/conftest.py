from collections.abc import AsyncGenerator

import pytest

from tests.fakes.node_link import ControlPlane, control_plane


@pytest.fixture
async def plane() -> AsyncGenerator[ControlPlane]:
    async with control_plane() as plane:
        yield plane
