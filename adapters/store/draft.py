"""Draft a migration: `python -m adapters.store.draft "what it does"`, then read and correct it.

It compares the tables of `schema.py` with what the migrations make.
"""

import sys
import tempfile
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from adapters.store.migrate import MIGRATIONS


def draft(message: str) -> None:
    """Write the next file of `migrations/versions`."""
    number = len(list((MIGRATIONS / "versions").glob("[0-9]*.py"))) + 1
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with tempfile.TemporaryDirectory() as folder:
        engine = sa.create_engine(f"sqlite:///{Path(folder) / 'draft.db'}")
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            command.revision(config, message, rev_id=f"{number:04d}", autogenerate=True)
        engine.dispose()


if __name__ == "__main__":
    draft(" ".join(sys.argv[1:]) or "unnamed")
