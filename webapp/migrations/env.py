"""How the migrations run: on the connection from :func:`webapp.store.migrate`."""

from alembic import context

import webapp.store  # noqa: F401  # its tables belong to the metadata
from benchmark.database import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=connection.dialect.name == "sqlite")
with context.begin_transaction():
    context.run_migrations()
