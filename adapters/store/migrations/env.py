"""Alembic's door. `adapters.store.migrate` hands the connection in, in its transaction."""

from alembic import context

from adapters.store.schema import META

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=META,
    render_as_batch=True,
    user_module_prefix="",
    transactional_ddl=False,  # The transaction is the caller's, around everything.
)
context.run_migrations()
