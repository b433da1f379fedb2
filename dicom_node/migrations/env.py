"""What Alembic runs to migrate a ledger; ``Ledger.open`` hands the connection over."""

from alembic import context

from dicom_node.schema import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    transactional_ddl=True,  # SQLite can, though Alembic does not assume it
    render_as_batch=True,  # SQLite cannot alter a table in place
)
with context.begin_transaction():
    context.run_migrations()
