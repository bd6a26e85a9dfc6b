"""Indexes that look where people do, and no more of them than needed: every vote pays for each."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Index the next question of a project and the decisions of a task; have one index for the votes of a task."""
    op.execute("DROP INDEX ix_task_next")
    op.execute(
        "CREATE INDEX ix_task_next ON task (project, state, priority DESC, (n_done > 0) DESC, random_key)"
    )
    op.execute("CREATE INDEX ix_adjudication_task ON adjudication (task)")
    op.execute("CREATE UNIQUE INDEX uq_vote_chain ON vote (task, labeler, pass, (coalesce(supersedes, '')))")
    op.execute("DROP INDEX uq_vote_first")
    op.execute("DROP INDEX ix_vote_task")
    if op.get_bind().dialect.name == "sqlite":
        _leases_without_rowid()


def _leases_without_rowid() -> None:
    op.rename_table("lease", "lease_before")
    op.execute("DROP INDEX ix_lease_labeler")
    op.create_table(
        "lease",
        sa.Column("task", sa.Text, sa.ForeignKey("task.id"), primary_key=True),
        sa.Column("labeler", sa.Text, sa.ForeignKey("labeler.id"), primary_key=True),
        sa.Column("token", sa.Text, nullable=False, unique=True),
        sa.Column("expires", sa.BigInteger, nullable=False),
        sa.Column("shown", sa.JSON, nullable=False),
        sqlite_with_rowid=False,
    )
    columns = "task, labeler, token, expires, shown"
    op.execute(f"INSERT INTO lease ({columns}) SELECT {columns} FROM lease_before")
    op.drop_table("lease_before")
    op.create_index("ix_lease_labeler", "lease", ["labeler"])
