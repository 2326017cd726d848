"""All that we ask of Alembic. It takes 12 MB, so it is imported when a migration is due."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.script.revision import RevisionError

from core.errors import ConfigError


def missing(scripts: Path, current: str | None, to: str) -> list[str]:
    """Return the names of the migrations from `current` to `to`, in order.

    Raises:
        ConfigError: If this version does not know the current revision.
    """
    directory = ScriptDirectory(str(scripts))
    try:
        steps = list(directory.iterate_revisions(to, current or "base"))
    except RevisionError as error:
        raise ConfigError(
            f"The database is at revision {current}, which this version of Samovar does not "
            "know. Start the version that wrote it, or a newer one."
        ) from error
    return [f"{step.revision} {step.doc.rstrip('.')}" for step in reversed(steps)]


def upgrade(connection: sa.Connection, to: str, scripts: Path) -> list[str]:
    """Apply what is missing now, in the caller's transaction; return the names."""
    current = MigrationContext.configure(connection).get_current_revision()
    applied = missing(scripts, current, to)
    config = Config()
    config.set_main_option("script_location", str(scripts))
    config.attributes["connection"] = connection
    command.upgrade(config, to)
    return applied
