"""A private PostgreSQL 15 of this test process, and a database for each test.

It listens on a socket in its own folder, so it meets no other server. `SAMOVAR_PG_BIN` names the
folder of its programs.
"""

import asyncio
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path

import asyncpg

from adapters.store.migrate import migrate
from tests.fakes.lacking import lacking

BIN = Path(os.environ.get("SAMOVAR_PG_BIN", "/usr/lib/postgresql/15/bin"))
_FAST = ("fsync=off", "full_page_writes=off")
_SETTINGS = (
    "listen_addresses=",
    "shared_buffers=32MB",
    "max_connections=200",
    "log_min_messages=fatal",
    "deadlock_timeout=200ms",
)


def wanted() -> None:
    """Skip where PostgreSQL is missing; fail where everything must be there."""
    if (BIN / "initdb").exists():
        return
    lacking(f"PostgreSQL in {BIN}; install postgresql-15 or set SAMOVAR_PG_BIN")


class Postgres:
    """A server of our own. `is_durable` makes every commit wait for the disk, as in life."""

    def __init__(self, *, is_durable: bool = False) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="samovar-pg-"))
        self._settings = _SETTINGS if is_durable else (*_SETTINGS, *_FAST)
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user:
            os.chown(self.folder, pwd.getpwnam(self._user).pw_uid, -1)
        self._run("initdb", "-A", "trust", "-U", "postgres", "-N", "-E", "UTF8", "--locale=C")
        self.start()

    def start(self) -> None:
        settings = [
            f"-c {one}" for one in (*self._settings, f"unix_socket_directories={self.folder}")
        ]
        self._run(
            "pg_ctl", "-w", "-s", "-l", str(self.folder / "log"), "-o", " ".join(settings), "start"
        )

    def stop(self, mode: str = "fast") -> None:
        self._run("pg_ctl", "-w", "-s", "-m", mode, "stop")

    def restart_at_once(self) -> None:
        """As after a crash: sessions are cut in the middle, the log is replayed."""
        self.stop("immediate")
        self.start()

    def remove(self) -> None:
        self.stop("immediate")
        shutil.rmtree(self.folder)

    def url(self, name: str) -> str:
        return f"postgresql+asyncpg://postgres@/{name}?host={self.folder}"

    async def create(self, *, template: str = "template1") -> str:
        """Return the URL of a new database, a copy of `template`."""
        name = f"t_{secrets.token_hex(6)}"
        await self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    async def drop(self, url: str) -> None:
        name = (
            url.rpartition("/")[2] if "?" not in url else url.partition("?")[0].rpartition("/")[2]
        )
        await self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    async def execute(self, statement: str) -> None:
        connection = await asyncpg.connect(
            host=str(self.folder), user="postgres", database="postgres"
        )
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(BIN / program), "-D", str(self.folder / "data"), *arguments],
            user=self._user,
            cwd="/",
            stdout=subprocess.DEVNULL,  # A pipe would be kept open by the server.
            stderr=subprocess.PIPE if program == "initdb" else subprocess.DEVNULL,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{program}: {(done.stderr or b'').decode()[-500:]}")


async def migrate_to(server: Postgres) -> str:
    """Return the URL of a new, migrated database."""
    url = await server.create()
    await migrate(url)
    return url


def migrated_template(server: Postgres) -> str:
    """Make a migrated database that tests copy; return its name."""
    return name_of(asyncio.run(migrate_to(server)))


def name_of(url: str) -> str:
    """Return the name of the database of a URL."""
    return url.partition("?")[0].rpartition("/")[2]
