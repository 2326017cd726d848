# drafted by a machine, read by people, frozen once released
"""the size a node was wished for.

Why: a supplier that has machines of many sizes is asked for one.
Undo: none. Migrations only go forward.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    size = sa.Column("size", sa.Text(), nullable=False, server_default="small")
    with op.batch_alter_table("node", recreate="always" if is_sqlite else "auto") as batch:
        if is_sqlite:  # It writes the table anew, so there is a choice.
            batch.add_column(size, insert_after="deadline_at")
        else:
            batch.add_column(size)
    states = "'requested', 'booting', 'ready', 'draining', 'deleting', 'gone'"
    with op.batch_alter_table("node") as batch:
        batch.alter_column("size", server_default=None)
        batch.drop_constraint(op.f("ck_node_state"), type_="check")
        batch.create_check_constraint(op.f("ck_node_state"), f"state IN ({states})")
        batch.create_check_constraint(op.f("ck_node_size"), "size IN ('small', 'medium', 'large')")
