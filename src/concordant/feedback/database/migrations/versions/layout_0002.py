"""Projects with a purpose, and accounts: who may log in, by which invitation, session or token."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Give projects a purpose and every task its project; add the tables of accounts."""
    op.execute("ALTER TABLE project ADD COLUMN purpose TEXT NOT NULL DEFAULT 'training'")
    op.execute("ALTER TABLE project ADD COLUMN settings JSON NOT NULL DEFAULT '{}'")
    op.execute("ALTER TABLE project DROP COLUMN schema_version")
    op.execute("ALTER TABLE task ADD COLUMN project TEXT REFERENCES project (id)")
    op.execute("UPDATE task SET project = 'default'")
    _accounts()


def _accounts() -> None:
    op.create_table(
        "account",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("labeler", sa.Text, sa.ForeignKey("labeler.id"), nullable=False),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("password", sa.Text),
        sa.Column("disabled", sa.Boolean, nullable=False),
        sa.Column("settings", sa.JSON, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.CheckConstraint("role IN ('admin', 'lead', 'labeler', 'viewer')"),
    )
    op.create_table(
        "invitation",
        sa.Column("id", sa.Text, primary_key=True),
        _account(),
        sa.Column("digest", sa.Text, nullable=False, unique=True),
        sa.Column("expires", sa.BigInteger, nullable=False),
        sa.Column("used", sa.BigInteger),
        sa.Column("created", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "session",
        sa.Column("digest", sa.Text, primary_key=True),
        _account(),
        sa.Column("expires", sa.BigInteger, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "api_token",
        sa.Column("id", sa.Text, primary_key=True),
        _account(),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False, unique=True),
        sa.Column("scopes", sa.JSON, nullable=False),
        sa.Column("expires", sa.BigInteger, nullable=False),
        sa.Column("revoked", sa.BigInteger),
        sa.Column("created", sa.BigInteger, nullable=False),
    )


def _account() -> sa.Column[str]:
    return sa.Column("account", sa.Text, sa.ForeignKey("account.id"), nullable=False)
