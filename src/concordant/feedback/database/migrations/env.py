"""How Alembic runs the steps of this folder: on the connection that `feedback.layout` hands over."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
