"""Where the outside parts are; `NotRun` with the reason when one is missing."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import aiodocker
from aiodocker.exceptions import DockerError

from tests.bench.row import NotRun
from tests.fakes.postgres import BIN, Postgres


def program(variable: str, what: str) -> Path:
    """Return the file that an environment variable names."""
    path = os.environ.get(variable, "")
    if not Path(path).is_file():
        raise NotRun(f"{variable} must name {what}")
    return Path(path)


def docker_host() -> str:
    """Return the address of the Docker Engine."""
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if host.startswith("unix://") and not Path(host.removeprefix("unix://")).exists():
        raise NotRun(f"no Docker Engine at {host}")
    return host


async def base_image(docker: aiodocker.Docker) -> str:
    """Return the name of the default image, which is there."""
    name = os.environ.get("SAMOVAR_BASE_IMAGE", "samovar-base:bookworm")
    try:
        await docker.images.inspect(name)
    except (DockerError, OSError) as error:
        raise NotRun(f"no image {name}: {error}") from error
    return name


@contextmanager
def postgres() -> Generator[Postgres]:
    """Run a PostgreSQL of our own, as careful with the disk as in life."""
    if not (BIN / "initdb").exists():
        raise NotRun(f"no PostgreSQL in {BIN}: install postgresql-15 or set SAMOVAR_PG_BIN")
    server = Postgres(is_durable=True)
    try:
        yield server
    finally:
        server.remove()
