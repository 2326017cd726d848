# ruff: noqa: E501, PLR0915  # drafted by a machine, read by people, frozen once released
"""first tables.

Why: docs/decisions/0001-engine.md.
Undo: none. Migrations only go forward.
"""

import sqlalchemy as sa
from alembic import op

from adapters.store.rows import Time

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "agent_event",
        sa.Column("session", sa.Text(), nullable=False),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("session", "offset", name=op.f("pk_agent_event")),
    )
    op.create_table(
        "agent_session",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("task_id", sa.Text(), nullable=False),
        sa.Column("workspace_id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", Time(), nullable=False),
        sa.Column("continues", sa.Text(), nullable=True),
        sa.Column("seen", sa.BigInteger(), nullable=False),
        sa.Column("background", sa.BigInteger(), nullable=False),
        sa.Column("is_complete", sa.Boolean(), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("progress", sa.Text(), nullable=False),
        sa.Column("turn_ok", sa.Boolean(), nullable=True),
        sa.Column("turn_code", sa.Text(), nullable=False),
        sa.Column("turn_text", sa.Text(), nullable=False),
        sa.Column("ended", sa.Text(), nullable=False),
        sa.Column("cost_usd", sa.Double(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "state IN ('starting', 'idle', 'busy', 'ended')", name=op.f("ck_agent_session_state")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_agent_session")),
    )
    with op.batch_alter_table("agent_session", schema=None) as batch_op:
        batch_op.create_index(
            "ix_agent_session_run",
            ["run_id"],
            unique=False,
            sqlite_where=None,
            postgresql_where=None,
        )
        batch_op.create_index(
            "ix_agent_session_task",
            ["task_id"],
            unique=False,
            sqlite_where=None,
            postgresql_where=None,
        )
        batch_op.create_index(
            "only_one_live_session_per_run",
            ["run_id"],
            unique=True,
            sqlite_where=sa.text("state <> 'ended'"),
            postgresql_where=sa.text("state <> 'ended'"),
        )

    op.create_table(
        "browser_session",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("person_id", sa.Text(), nullable=False),
        sa.Column("created_at", Time(), nullable=False),
        sa.Column("expires_at", Time(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_browser_session")),
    )
    op.create_table(
        "counter",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_counter")),
    )
    op.create_table(
        "dead_letter",
        sa.Column("node_id", sa.Text(), nullable=False),
        sa.Column("spool", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("node_id", "spool", "seq", name=op.f("pk_dead_letter")),
    )
    op.create_table(
        "decision",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("task_id", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("state_since", Time(), nullable=False),
        sa.Column("created_at", Time(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=True),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("questions", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("allow", sa.Boolean(), nullable=True),
        sa.Column("answers", sa.Text(), nullable=True),
        sa.Column("answered_by", sa.Text(), nullable=True),
        sa.Column("surface", sa.Text(), nullable=False),
        sa.Column("is_sent", sa.Boolean(), nullable=False),
        sa.Column("reminders", sa.BigInteger(), nullable=False),
        sa.Column("delivered_at", Time(), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "kind IN ('question', 'permission', 'plan', 'budget', 'repository')",
            name=op.f("ck_decision_kind"),
        ),
        sa.CheckConstraint(
            "state IN ('open', 'answered', 'withdrawn')", name=op.f("ck_decision_state")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_decision")),
    )
    with op.batch_alter_table("decision", schema=None) as batch_op:
        batch_op.create_index(
            "ix_decision_run", ["run_id"], unique=False, sqlite_where=None, postgresql_where=None
        )
        batch_op.create_index(
            "ix_decision_task", ["task_id"], unique=False, sqlite_where=None, postgresql_where=None
        )
        batch_op.create_index(
            "only_one_open_decision_per_request",
            ["session_id", "request"],
            unique=True,
            sqlite_where=sa.text("state = 'open'"),
            postgresql_where=sa.text("state = 'open'"),
        )

    op.create_table(
        "event",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("seq", sa.BigInteger(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("at", Time(), nullable=False),
        sa.Column("task_id", sa.Text(), nullable=True),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("data", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("event", schema=None) as batch_op:
        batch_op.create_index(
            "ix_event_new",
            ["id"],
            unique=False,
            sqlite_where=sa.text("seq IS NULL"),
            postgresql_where=sa.text("seq IS NULL"),
        )
        batch_op.create_index(
            "ix_event_task",
            ["task_id", "seq"],
            unique=False,
            sqlite_where=None,
            postgresql_where=None,
        )
        batch_op.create_index("only_one_event_per_number", ["seq"], unique=True)

    op.create_table(
        "inbox",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("surface", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("thread", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", Time(), nullable=False),
        sa.Column("verb", sa.Text(), nullable=False),
        sa.Column("data", sa.Text(), nullable=True),
        sa.Column("result", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "state IN ('received', 'handled', 'ignored')", name=op.f("ck_inbox_state")
        ),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_inbox")),
    )
    with op.batch_alter_table("inbox", schema=None) as batch_op:
        batch_op.create_index(
            "ix_inbox_received",
            ["created_at"],
            unique=False,
            sqlite_where=sa.text("state = 'received'"),
            postgresql_where=sa.text("state = 'received'"),
        )
        batch_op.create_index(
            "ix_inbox_thread", ["thread"], unique=False, sqlite_where=None, postgresql_where=None
        )
        batch_op.create_index(
            "only_one_row_per_message", ["surface", "channel", "message"], unique=True
        )

    op.create_table(
        "link",
        sa.Column("node_id", sa.Text(), nullable=False),
        sa.Column("replica", sa.Text(), nullable=True),
        sa.Column("spool", sa.Text(), nullable=False),
        sa.Column("received", sa.BigInteger(), nullable=False),
        sa.Column("delivered", sa.BigInteger(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("load", sa.Double(), nullable=False),
        sa.Column("memory_free_mb", sa.BigInteger(), nullable=False),
        sa.Column("disk_free_mb", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", Time(), nullable=True),
        sa.PrimaryKeyConstraint("node_id", name=op.f("pk_link")),
    )
    op.create_table(
        "model_cost",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "model", "what", name=op.f("pk_model_cost")),
    )
    op.create_table(
        "node",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("supplier", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("state_since", Time(), nullable=False),
        sa.Column("created_at", Time(), nullable=False),
        sa.Column("deadline_at", Time(), nullable=True),
        sa.Column("server", sa.Text(), nullable=False),
        sa.Column("cpus", sa.Double(), nullable=False),
        sa.Column("memory_mb", sa.BigInteger(), nullable=False),
        sa.Column("token_hash", sa.Text(), nullable=False),
        sa.Column("warm_until", Time(), nullable=True),
        sa.Column("active_at", Time(), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "state IN ('requested', 'booting', 'ready', 'draining', 'deleting', 'gone')",
            name=op.f("ck_node_state"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_node")),
    )
    with op.batch_alter_table("node", schema=None) as batch_op:
        batch_op.create_index(
            "ix_node_live",
            ["state"],
            unique=False,
            sqlite_where=sa.text("state <> 'gone'"),
            postgresql_where=sa.text("state <> 'gone'"),
        )
        batch_op.create_index(
            "ix_node_token_now",
            ["token_hash"],
            unique=False,
            sqlite_where=None,
            postgresql_where=None,
        )

    op.create_table(
        "node_order",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("node_id", sa.Text(), nullable=False),
        sa.Column("subject_kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", Time(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("ok", sa.Boolean(), nullable=True),
        sa.Column("result", sa.Text(), nullable=True),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("answered_at", Time(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_node_order")),
    )
    with op.batch_alter_table("node_order", schema=None) as batch_op:
        batch_op.create_index(
            "ix_node_order_open",
            ["node_id", "seq"],
            unique=False,
            sqlite_where=sa.text("ok IS NULL"),
            postgresql_where=sa.text("ok IS NULL"),
        )
        batch_op.create_index(
            "ix_node_order_subject",
            ["subject_kind", "subject"],
            unique=False,
            sqlite_where=None,
            postgresql_where=None,
        )
        batch_op.create_index("only_one_order_per_number", ["node_id", "seq"], unique=True)

    op.create_table(
        "node_token",
        sa.Column("node_id", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("node_id", name=op.f("pk_node_token")),
    )
    with op.batch_alter_table("node_token", schema=None) as batch_op:
        batch_op.create_index(
            "ix_node_token_hash", ["hash"], unique=False, sqlite_where=None, postgresql_where=None
        )

    op.create_table(
        "outbox",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("surface", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", Time(), nullable=False),
        sa.Column("task_id", sa.Text(), nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("mention", sa.Text(), nullable=True),
        sa.Column("wanted", sa.BigInteger(), nullable=False),
        sa.Column("shown", sa.BigInteger(), nullable=False),
        sa.Column("remote", sa.Text(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "kind IN ('card', 'question', 'end', 'stopped', 'reply')", name=op.f("ck_outbox_kind")
        ),
        sa.CheckConstraint(
            "state IN ('pending', 'sending', 'sent', 'dead')", name=op.f("ck_outbox_state")
        ),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_outbox")),
    )
    with op.batch_alter_table("outbox", schema=None) as batch_op:
        batch_op.create_index(
            "ix_outbox_lane", ["lane"], unique=False, sqlite_where=None, postgresql_where=None
        )
        batch_op.create_index(
            "ix_outbox_task", ["task_id"], unique=False, sqlite_where=None, postgresql_where=None
        )

    op.create_table(
        "person",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_at", Time(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("role IN ('admin', 'member', 'viewer')", name=op.f("ck_person_role")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_person")),
    )
    op.create_table(
        "project",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("size", sa.Text(), nullable=False),
        sa.Column("checks", sa.Text(), nullable=False),
        sa.Column("budget_usd", sa.Text(), nullable=False),
        sa.Column("devcontainer", sa.Text(), nullable=False),
        sa.Column("allow", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("size IN ('small', 'medium', 'large')", name=op.f("ck_project_size")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_project")),
    )
    op.create_table(
        "prompt",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("task_id", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", Time(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=True),
        sa.Column("when_idle", sa.Boolean(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "state IN ('pending', 'sent', 'queued', 'started', 'completed', 'cancelled', 'ambiguous', 'lost')",
            name=op.f("ck_prompt_state"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prompt")),
    )
    with op.batch_alter_table("prompt", schema=None) as batch_op:
        batch_op.create_index(
            "ix_prompt_run", ["run_id"], unique=False, sqlite_where=None, postgresql_where=None
        )
        batch_op.create_index(
            "ix_prompt_task", ["task_id"], unique=False, sqlite_where=None, postgresql_where=None
        )

    op.create_table(
        "replica",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("session", sa.Text(), nullable=False),
        sa.Column("joined_ms", sa.BigInteger(), nullable=False),
        sa.Column("lease_until_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_replica")),
    )
    op.create_table(
        "run",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("task_id", sa.Text(), nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("state_since", Time(), nullable=False),
        sa.Column("created_at", Time(), nullable=False),
        sa.Column("deadline_at", Time(), nullable=True),
        sa.Column("started_at", Time(), nullable=True),
        sa.Column("ended_at", Time(), nullable=True),
        sa.Column("node_id", sa.Text(), nullable=True),
        sa.Column("workspace_id", sa.Text(), nullable=True),
        sa.Column("session_id", sa.Text(), nullable=True),
        sa.Column("verdict", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("cancel_by", sa.Text(), nullable=False),
        sa.Column("budget_usd", sa.Text(), nullable=False),
        sa.Column("paused_s", sa.Double(), nullable=False),
        sa.Column("nudges", sa.BigInteger(), nullable=False),
        sa.Column("looks", sa.BigInteger(), nullable=False),
        sa.Column("heard_at", Time(), nullable=True),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("measured", sa.Text(), nullable=True),
        sa.Column("marks", sa.Text(), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "state IN ('placing', 'preparing', 'starting', 'working', 'asking', 'checking', 'publishing', 'ended')",
            name=op.f("ck_run_state"),
        ),
        sa.CheckConstraint(
            "verdict IN ('pull_request', 'pushed', 'answer', 'no_change', 'blocked', 'failed', 'cancelled')",
            name=op.f("ck_run_verdict"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run")),
    )
    with op.batch_alter_table("run", schema=None) as batch_op:
        batch_op.create_index(
            "ix_run_live",
            ["state"],
            unique=False,
            sqlite_where=sa.text("state <> 'ended'"),
            postgresql_where=sa.text("state <> 'ended'"),
        )
        batch_op.create_index(
            "ix_run_task", ["task_id"], unique=False, sqlite_where=None, postgresql_where=None
        )
        batch_op.create_index(
            "only_one_live_run_per_task",
            ["task_id"],
            unique=True,
            sqlite_where=sa.text("state <> 'ended'"),
            postgresql_where=sa.text("state <> 'ended'"),
        )

    op.create_table(
        "task",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("thread", sa.Text(), nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("state_since", Time(), nullable=False),
        sa.Column("created_at", Time(), nullable=False),
        sa.Column("runs", sa.BigInteger(), nullable=False),
        sa.Column("priority", sa.BigInteger(), nullable=False),
        sa.Column("pull_number", sa.BigInteger(), nullable=False),
        sa.Column("pull_url", sa.Text(), nullable=False),
        sa.Column("pull_state", sa.Text(), nullable=False),
        sa.Column("pull_draft", sa.Boolean(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("kind IN ('task', 'question')", name=op.f("ck_task_kind")),
        sa.CheckConstraint(
            "state IN ('queued', 'active', 'waiting', 'done', 'failed', 'cancelled')",
            name=op.f("ck_task_state"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task")),
    )
    with op.batch_alter_table("task", schema=None) as batch_op:
        batch_op.create_index(
            "ix_task_created",
            ["created_at"],
            unique=False,
            sqlite_where=None,
            postgresql_where=None,
        )

    op.create_table(
        "thread",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("surface", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("created_at", Time(), nullable=False),
        sa.Column("project", sa.Text(), nullable=True),
        sa.Column("task_id", sa.Text(), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_thread")),
    )
    with op.batch_alter_table("thread", schema=None) as batch_op:
        batch_op.create_index(
            "only_one_thread_per_task",
            ["task_id"],
            unique=True,
            sqlite_where=sa.text("task_id IS NOT NULL"),
            postgresql_where=sa.text("task_id IS NOT NULL"),
        )

    op.create_table(
        "ticket",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("created_at", Time(), nullable=False),
        sa.Column("expires_at", Time(), nullable=False),
        sa.Column("person_id", sa.Text(), nullable=True),
        sa.Column("node_id", sa.Text(), nullable=True),
        sa.Column("redeemed_at", Time(), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("kind IN ('sign_in', 'enrol')", name=op.f("ck_ticket_kind")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ticket")),
    )
    op.create_table(
        "work",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("due_ms", sa.BigInteger(), nullable=True),
        sa.Column("looked_ms", sa.BigInteger(), nullable=True),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("signals", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("attempts", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("losses", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("priority", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("last_error", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("kind", "key", name=op.f("pk_work")),
    )
    with op.batch_alter_table("work", schema=None) as batch_op:
        batch_op.create_index(
            "ix_work_due",
            ["due_ms"],
            unique=False,
            sqlite_where=sa.text("owner IS NULL AND due_ms IS NOT NULL"),
            postgresql_where=sa.text("owner IS NULL AND due_ms IS NOT NULL"),
        )
        batch_op.create_index(
            "ix_work_owner",
            ["owner"],
            unique=False,
            sqlite_where=sa.text("owner IS NOT NULL"),
            postgresql_where=sa.text("owner IS NOT NULL"),
        )
        batch_op.create_index(
            "ix_work_suspect",
            ["due_ms"],
            unique=False,
            sqlite_where=sa.text("losses >= 3"),
            postgresql_where=sa.text("losses >= 3"),
        )

    op.create_table(
        "workspace",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("task_id", sa.Text(), nullable=False),
        sa.Column("node_id", sa.Text(), nullable=False),
        sa.Column("size", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("state_since", Time(), nullable=False),
        sa.Column("created_at", Time(), nullable=False),
        sa.Column("deadline_at", Time(), nullable=True),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("container", sa.Text(), nullable=False),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("base", sa.Text(), nullable=False),
        sa.Column("base_commit", sa.Text(), nullable=False),
        sa.Column("token_hash", sa.Text(), nullable=False),
        sa.Column("recovered", sa.Text(), nullable=False),
        sa.Column("notes", sa.Text(), nullable=False),
        sa.Column("steps", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("keep_until", Time(), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("size IN ('small', 'medium', 'large')", name=op.f("ck_workspace_size")),
        sa.CheckConstraint(
            "state IN ('requested', 'building', 'ready', 'stopping', 'stopped', 'deleting', 'gone')",
            name=op.f("ck_workspace_state"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workspace")),
    )
    with op.batch_alter_table("workspace", schema=None) as batch_op:
        batch_op.create_index(
            "ix_workspace_live",
            ["node_id"],
            unique=False,
            sqlite_where=sa.text("state <> 'gone'"),
            postgresql_where=sa.text("state <> 'gone'"),
        )
        batch_op.create_index(
            "ix_workspace_task", ["task_id"], unique=False, sqlite_where=None, postgresql_where=None
        )
        batch_op.create_index(
            "ix_workspace_token",
            ["token_hash"],
            unique=False,
            sqlite_where=None,
            postgresql_where=None,
        )
        batch_op.create_index(
            "only_one_live_workspace_per_run",
            ["run_id"],
            unique=True,
            sqlite_where=sa.text("state <> 'gone'"),
            postgresql_where=sa.text("state <> 'gone'"),
        )
