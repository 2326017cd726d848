"""A site with tasks in every state, and a browser without scripts that is signed in."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.fakes.story import tell
from tests.fakes.web import Setup, Site, a_site


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    setup = Setup()
    await tell(setup.commands, setup.person)
    async with a_site(setup) as running:
        yield running


@pytest.fixture
async def http(site: Site) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {**site.origin, "Accept": "text/html"}
    async with aiohttp.ClientSession(site.url, cookies=site.cookies, headers=headers) as session:
        yield session
