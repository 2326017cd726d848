# drafted by a machine, read by people, frozen once released
"""workspaces that people come back to.

Why: what a stopped workspace leaves, chats in it, who holds a conversation, who sees what listens
there and what a terminal wrote are records.
Undo: none. Migrations only go forward.
"""

import sqlalchemy as sa
from alembic import op

from adapters.store.rows import Time

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _keeping()
    _rescue_copies()
    _chats()
    _handover()
    _previews()
    _recordings()


def _keeping() -> None:
    with op.batch_alter_table("workspace", schema=None) as batch_op:
        batch_op.add_column(sa.Column("active_at", Time(), nullable=True))
        batch_op.add_column(sa.Column("discarded_by", sa.Text(), nullable=True))


def _rescue_copies() -> None:
    op.create_table(
        "rescue_copy",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("workspace_id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("task_id", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("state_since", Time(), nullable=False),
        sa.Column("created_at", Time(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("head", sa.Text(), nullable=False),
        sa.Column("base_commit", sa.Text(), nullable=False),
        sa.Column("made_at", Time(), nullable=True),
        sa.Column("expires_at", Time(), nullable=True),
        sa.Column("left_out", sa.Text(), nullable=False),
        sa.Column("left_out_count", sa.BigInteger(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "why IN ('stopped', 'slept', 'deleted')", name=op.f("ck_rescue_copy_why")
        ),
        sa.CheckConstraint(
            "state IN ('wanted', 'kept', 'restored', 'failed', 'expired', 'gone')",
            name=op.f("ck_rescue_copy_state"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rescue_copy")),
    )
    with op.batch_alter_table("rescue_copy", schema=None) as batch_op:
        batch_op.create_index(
            "ix_rescue_copy_there",
            ["state"],
            unique=False,
            sqlite_where=sa.text("state <> 'gone'"),
            postgresql_where=sa.text("state <> 'gone'"),
        )
        batch_op.create_index(
            "ix_rescue_copy_workspace",
            ["workspace_id"],
            unique=False,
            sqlite_where=None,
            postgresql_where=None,
        )
        batch_op.create_index(
            "only_one_current_copy",
            ["workspace_id"],
            unique=True,
            sqlite_where=sa.text("state IN ('wanted', 'kept')"),
            postgresql_where=sa.text("state IN ('wanted', 'kept')"),
        )


def _chats() -> None:
    op.create_table(
        "chat",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("workspace_id", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("opened_by", sa.Text(), nullable=False),
        sa.Column("created_at", Time(), nullable=False),
        sa.Column("is_closed", sa.Boolean(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chat")),
    )
    with op.batch_alter_table("chat", schema=None) as batch_op:
        batch_op.create_index(
            "ix_chat_workspace",
            ["workspace_id"],
            unique=False,
            sqlite_where=None,
            postgresql_where=None,
        )

    with op.batch_alter_table("run", schema=None) as batch_op:
        batch_op.add_column(sa.Column("chat_in", sa.Text(), nullable=True))
        batch_op.create_index(
            "ix_run_chat",
            ["chat_in"],
            unique=False,
            sqlite_where=sa.text("chat_in IS NOT NULL"),
            postgresql_where=sa.text("chat_in IS NOT NULL"),
        )


def _handover() -> None:
    holder = sa.Column("terminal_id", sa.Text(), nullable=True)
    _change("agent_session", "starting", "idle", "busy", "in_terminal", "ended", new=holder)
    _change("terminal", "waiting", "opening", "open", "closing", "exited")
    op.create_index(
        "only_one_live_terminal_per_session",
        "terminal",
        ["session_id"],
        unique=True,
        sqlite_where=sa.text("state <> 'exited'"),
        postgresql_where=sa.text("state <> 'exited'"),
    )


def _previews() -> None:
    op.create_table(
        "preview",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("workspace_id", sa.Text(), nullable=False),
        sa.Column("port", sa.BigInteger(), nullable=False),
        sa.Column("audience", sa.Text(), nullable=False),
        sa.Column("created_at", Time(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("audience IN ('owner', 'project')", name=op.f("ck_preview_audience")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_preview")),
    )
    op.create_index("ix_preview_workspace", "preview", ["workspace_id"])
    op.create_table(
        "preview_key",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("workspace_id", sa.Text(), nullable=False),
        sa.Column("port", sa.BigInteger(), nullable=False),
        sa.Column("created_at", Time(), nullable=False),
        sa.Column("expires_at", Time(), nullable=False),
        sa.Column("until", Time(), nullable=False),
        sa.Column("person_id", sa.Text(), nullable=True),
        sa.Column("redeemed_at", Time(), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("kind IN ('link', 'pass', 'cookie')", name=op.f("ck_preview_key_kind")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_preview_key")),
    )
    op.create_index(
        "ix_preview_key_links",
        "preview_key",
        ["workspace_id", "port"],
        sqlite_where=sa.text("person_id IS NULL"),
        postgresql_where=sa.text("person_id IS NULL"),
    )


def _recordings() -> None:
    op.create_table(
        "recording",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("workspace_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", Time(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("expires_at", Time(), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "state IN ('wanted', 'kept', 'lost', 'expired')", name=op.f("ck_recording_state")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recording")),
    )
    with op.batch_alter_table("recording", schema=None) as batch_op:
        batch_op.create_index(
            "ix_recording_workspace",
            ["workspace_id"],
            unique=False,
            sqlite_where=None,
            postgresql_where=None,
        )


def _change(table: str, *states: str, new: sa.Column[str] | None = None) -> None:
    """Give a table other states and a column."""
    name = op.f(f"ck_{table}_state")
    condition = "state IN ({})".format(", ".join(f"'{state}'" for state in states))
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    with op.batch_alter_table(table) as batch:
        batch.drop_constraint(name, type_="check")
        batch.create_check_constraint(name, condition)
        if new is not None and is_sqlite:  # It writes the table anew, so there is a choice.
            batch.add_column(new, insert_before="version")
        elif new is not None:
            batch.add_column(new)
