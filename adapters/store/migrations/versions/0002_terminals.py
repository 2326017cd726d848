# drafted by a machine, read by people, frozen once released
"""terminals.

Why: terminals are records like everything else, and so is what lets people into a workspace.
Undo: none. Migrations only go forward.
"""

import sqlalchemy as sa
from alembic import op

from adapters.store.rows import Time

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "door_key",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("person_id", sa.Text(), nullable=False),
        sa.Column("workspace_id", sa.Text(), nullable=False),
        sa.Column("created_at", Time(), nullable=False),
        sa.Column("expires_at", Time(), nullable=False),
        sa.Column("redeemed_at", Time(), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("kind IN ('link', 'pass', 'cookie')", name=op.f("ck_door_key_kind")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_door_key")),
    )
    op.create_table(
        "terminal",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("workspace_id", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("opened_by", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("state_since", Time(), nullable=False),
        sa.Column("created_at", Time(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=True),
        sa.Column("exit_code", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("container", sa.Text(), nullable=False),
        sa.Column("is_hidden", sa.Boolean(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "state IN ('opening', 'open', 'closing', 'exited')", name=op.f("ck_terminal_state")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_terminal")),
    )
    with op.batch_alter_table("terminal", schema=None) as batch_op:
        batch_op.create_index(
            "ix_terminal_workspace",
            ["workspace_id"],
            unique=False,
            sqlite_where=None,
            postgresql_where=None,
        )
