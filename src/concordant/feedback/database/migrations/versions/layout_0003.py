"""Indexes that look where people do: the next question of one project, and what was decided of one task."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Put the project before the state of a task, and find decisions by their task."""
    op.execute("DROP INDEX ix_task_next")
    op.execute(
        "CREATE INDEX ix_task_next ON task (project, state, priority DESC, (n_done > 0) DESC, random_key)"
    )
    op.execute("CREATE INDEX ix_adjudication_task ON adjudication (task)")
