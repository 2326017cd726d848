"""What a database's errors mean to us."""

from collections.abc import Generator
from contextlib import contextmanager

import sqlalchemy as sa

from core.errors import UnavailableError

RACES = ("40001", "40P01")
"""SQLSTATE of transactions that got into each other's way: serialization, deadlock."""
_PASSES = ("08", "25P03", "53", "57P", *RACES)
"""Prefixes of SQLSTATE that pass: connection, we were frozen, resources, shutdown, races."""


def state(error: sa.exc.DBAPIError) -> str:
    """Return the SQLSTATE, empty on SQLite."""
    return str(getattr(error.orig, "sqlstate", "") or "")


def is_duplicate(error: sa.exc.IntegrityError) -> bool:
    """Whether somebody was first: a key or a unique rule, no other kind of broken rule."""
    name = getattr(error.orig, "sqlite_errorname", "")
    return state(error) == "23505" or name in {
        "SQLITE_CONSTRAINT_PRIMARYKEY",
        "SQLITE_CONSTRAINT_UNIQUE",
    }


@contextmanager
def translated() -> Generator[None]:
    """Turn "does not answer" into our error; a broken rule or a wrong statement stays itself."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        if not _is_outage(error):
            raise
        raise UnavailableError("The database", str(error.orig)) from error
    except (sa.exc.TimeoutError, OSError) as error:
        raise UnavailableError("The database", f"{type(error).__name__}: {error}") from error


def _is_outage(error: sa.exc.DBAPIError) -> bool:
    if error.connection_invalidated or state(error).startswith(_PASSES):
        return True
    return getattr(error.orig, "sqlite_errorname", "").startswith(
        ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_BUSY", "SQLITE_CANTOPEN")
    )
