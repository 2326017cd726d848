"""What many tests share: time, and our records on both databases."""

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncGenerator, Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from adapters.store.migrate import migrate
from adapters.store.store import SqlStore, open_store
from tests.fakes import postgres
from tests.fakes.clock import FakeClock

settings.register_profile(
    "fast",
    derandomize=True,
    max_examples=20,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "thorough",
    max_examples=300,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))


@pytest.fixture
def kept_port() -> Iterator[int]:
    """A port that nobody else gets: it stays bound, and who listens may bind it, too."""
    with socket.socket() as kept:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind(("127.0.0.1", 0))
        yield kept.getsockname()[1]


BOTH = [pytest.param("sqlite"), pytest.param("postgres", marks=pytest.mark.postgres)]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(scope="session")
def postgres_server() -> Generator[postgres.Postgres]:
    postgres.wanted()
    server = postgres.Postgres()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def postgres_template(postgres_server: postgres.Postgres) -> str:
    return postgres.migrated_template(postgres_server)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "template.db"
    asyncio.run(migrate(f"sqlite:///{path}"))
    return path


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """A migrated SQLite database."""
    shutil.copy(sqlite_template, tmp_path / "samovar.db")
    return f"sqlite:///{tmp_path / 'samovar.db'}"


@pytest.fixture
async def postgres_url(
    postgres_server: postgres.Postgres, postgres_template: str
) -> AsyncGenerator[str]:
    """A migrated PostgreSQL database."""
    url = await postgres_server.create(template=postgres_template)
    yield url
    await postgres_server.drop(url)


@pytest.fixture(params=BOTH)
def database_url(request: pytest.FixtureRequest) -> str:
    """A migrated database, once of each kind."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
async def store(database_url: str) -> AsyncGenerator[SqlStore]:
    async with open_store(database_url) as opened:
        yield opened
