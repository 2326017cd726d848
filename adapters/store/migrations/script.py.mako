# ruff: noqa: E501, PLR0915  # drafted by a machine, read by people, frozen once released
"""${message}.

Why: docs/decisions/….
Undo: none. Migrations only go forward.
"""

import sqlalchemy as sa
from alembic import op

from adapters.store.rows import Time

revision = "${up_revision}"
down_revision = ${'None' if down_revision is None else '"%s"' % down_revision}
branch_labels = None
depends_on = None


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}
