"""Migrations: forward only, one replica at a time, a copy of a SQLite database first."""
# ruff: noqa: PLC0415  `upgrade` brings Alembic, which is imported when it is needed

import asyncio
import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path

import sqlalchemy as sa

from adapters.store.database import Database
from adapters.store.lock import only_process
from adapters.store.transaction import Tx
from core.errors import ConfigError

MIGRATIONS = Path(__file__).parent / "migrations"
_VERSION = sa.table("alembic_version", sa.column("version_num"))
_WAIT_S = 60.0


async def migrate(url: str, *, to: str = "head", scripts: Path = MIGRATIONS) -> list[str]:
    """Bring a database up to a revision; return the names of what was applied.

    Several processes may call it at once: one does it, the others find it done. A SQLite
    database that has rows is copied first, to `{file}.before-{revision}`.

    Args:
        url: `sqlite:///FILE` or `postgresql+asyncpg://…`.
        to: A revision that this version knows.
        scripts: The folder with the migrations.

    Raises:
        ConfigError: If the database is of a newer version, or another process serves it.
        UnavailableError: If the database does not answer.
    """
    database = Database(url, command_s=None)
    try:
        if await revision(database) == (newest(scripts) if to == "head" else to):
            return []
        from adapters.store.upgrade import missing, upgrade

        with ExitStack() as stack:
            if not database.is_postgresql:
                file = Path(str(database.url.database))
                await asyncio.to_thread(stack.enter_context, only_process(file, wait_s=_WAIT_S))
                current = await revision(database)  # Somebody may have been faster.
                steps = missing(scripts, current, to)
                if current is not None and steps:
                    await asyncio.to_thread(_copy, file, steps[-1].partition(" ")[0])

            async def job(tx: Tx) -> list[str]:
                await tx.lock("migrations")
                return await tx.run_sync(lambda connection: upgrade(connection, to, scripts))

            return await database.write(job)
    finally:
        await database.close()


async def revision(database: Database) -> str | None:
    """Return the revision of a database, None for an empty one."""

    async def job(tx: Tx) -> str | None:
        name = _VERSION.name
        if not await tx.run_sync(lambda connection: sa.inspect(connection).has_table(name)):
            return None
        rows = await tx.rows(sa.select(_VERSION))
        return str(rows[0]["version_num"]) if rows else None

    return await database.snapshot(job)


def newest(scripts: Path) -> str:
    """Return the newest revision by the names of the files, `{revision}_{what it does}.py`."""
    files = sorted((scripts / "versions").glob("[0-9]*.py"))
    return files[-1].name.partition("_")[0]


async def check(database: Database) -> None:
    """Refuse a database that this version cannot serve.

    Raises:
        ConfigError: If it is older or newer than this version.
    """
    current = await revision(database)
    if current != newest(MIGRATIONS):
        from adapters.store.upgrade import missing

        count = len(missing(MIGRATIONS, current, "head"))
        raise ConfigError(f"The database lacks {count} migration(s). Run `samovar migrate` first.")


def _copy(file: Path, to: str) -> None:
    """Copy a database, whole and readable by SQLite itself, for whoever wants to go back."""
    target = file.with_name(f"{file.name}.before-{to}")
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)
    target.chmod(0o600)
