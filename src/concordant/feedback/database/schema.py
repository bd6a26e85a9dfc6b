"""The tables of the feedback store: prompts, completions, tasks, leases, and votes that are kept for ever.

Ids are text, times are UTC milliseconds. What a person said is only ever appended: triggers refuse UPDATE
and DELETE on votes, adjudications, events, fits and the audit trail; a correction is a new row that supersedes
the old one.
"""

from __future__ import annotations

from sqlalchemy import (
    DDL,
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    event,
    text,
)
from sqlalchemy.types import TypeEngine

LAYOUT = "0003"  # the newest of `migrations/`; a store made today has it

TASK_KINDS = ("pairwise", "ranking", "rating", "edit", "demonstration", "redteam")
TASK_STATES = ("open", "done", "adjudication", "cancelled")
LABELER_KINDS = ("human", "simulated", "judge", "rule", "end_user")
PROJECT_PURPOSES = ("training", "evaluation", "practice", "loop", "redteam")
ROLES = ("admin", "lead", "labeler", "viewer")
COMPLETION_SOURCES = ("policy", "human", "edit", "import")
VOTE_TYPES = ("pairwise", "ranking", "rating", "edit", "skip", "flag", "retract")

NO_TEXT = ""  # in place of a hash: the author of this completion was erased, and its text with them

metadata = MetaData()


def _key() -> Column[str]:
    return Column("id", Text, primary_key=True)


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _json(name: str, *, nullable: bool = False) -> Column[object]:
    kind: TypeEngine[object] = JSON(none_as_null=True)
    return Column(name, kind, nullable=nullable)


def _created() -> Column[int]:
    return Column("created", BigInteger, nullable=False)


def _reference(name: str, target: str, *, nullable: bool = False) -> Column[str]:
    return Column(name, Text, ForeignKey(f"{target}.id"), nullable=nullable)


def _one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})")


layout = Table("alembic_version", metadata, Column("version_num", String(32), primary_key=True))

project = Table(
    "project",
    metadata,
    _key(),
    _text("name"),
    _text("salt"),  # goes into the order in which completions are shown
    # What its votes are for: stages of a run learn from `training` alone, a training loop asks in `loop`, and people
    # who attack two models report in `redteam`.
    Column("purpose", Text, nullable=False, server_default="training"),
    Column("settings", JSON, nullable=False, server_default="{}"),  # instructions, overlap, share of gold
    _created(),
)

rubric_version = Table("rubric_version", metadata, _key(), _text("sha256"), _json("body"), _created())

item = Table(
    "item",
    metadata,
    _key(),  # Prompt.id, a hash of the messages
    _reference("project", "project"),
    _json("messages"),
    _text("family"),
    _text("source"),  # Prompt.where
    _text("answer"),
    _created(),
)

labeler = Table(
    "labeler",
    metadata,
    _key(),
    _text("kind"),
    _text("name"),
    _json("settings"),
    _created(),
    _one_of("kind", LABELER_KINDS),
)

completion = Table(
    "completion",
    metadata,
    _key(),
    _reference("item", "item"),
    _text("text"),
    _text("sha256"),
    _json("tokens", nullable=True),  # ids as sampled; null where only the text is known
    Column("ended", Boolean),  # the model said it was done; null where nobody knows
    _json("producer"),  # policy, checkpoint, sampling, seed
    _text("source"),
    _reference("author", "labeler", nullable=True),
    _reference("parent", "completion", nullable=True),  # what an edit started from
    _created(),
    _one_of("source", COMPLETION_SOURCES),
)
Index("ix_completion_item", completion.c.item)
Index("ix_completion_author", completion.c.author)

task = Table(
    "task",
    metadata,
    _key(),
    _reference("item", "item"),
    _reference("project", "project", nullable=True),
    _reference("rubric_version", "rubric_version"),
    Column("seq", Integer, nullable=False, unique=True),  # the order of creation; views follow it
    _text("kind"),
    Column("need", Integer, nullable=False),  # labelers wanted
    Column("n_done", Integer, nullable=False),  # labelers with a live verdict
    Column("priority", Float, nullable=False),  # gold and disputed tasks are raised here
    _json("policy"),  # selector, score, propensity
    _text("state"),
    Column("random_key", BigInteger, nullable=False),
    _created(),
    _one_of("kind", TASK_KINDS),
    _one_of("state", TASK_STATES),
)
# Read in this order the index answers "which task of a project next" without a sort, however many are open in it or
# in others.
Index(
    "ix_task_next",
    task.c.project,
    task.c.state,
    task.c.priority.desc(),
    text("(n_done > 0) DESC"),
    task.c.random_key,
)

task_completion = Table(
    "task_completion",
    metadata,
    Column("task", Text, ForeignKey("task.id"), primary_key=True),
    Column("completion", Text, ForeignKey("completion.id"), primary_key=True),
    Column("position", Integer, nullable=False),
)
Index("ix_task_completion_completion", task_completion.c.completion)

gold = Table(
    "gold",
    metadata,
    Column("task", Text, ForeignKey("task.id"), primary_key=True),
    _json("expected"),
    Column("tolerance", Float, nullable=False),
    Column("feedback_shown", Boolean, nullable=False),
    _text("explanation"),
)

lease = Table(
    "lease",
    metadata,
    Column("task", Text, ForeignKey("task.id"), primary_key=True),
    Column("labeler", Text, ForeignKey("labeler.id"), primary_key=True),
    Column("token", Text, nullable=False, unique=True),
    Column("expires", BigInteger, nullable=False),
    _json("shown"),  # completion ids in the order shown
    sqlite_with_rowid=False,  # leases come and go with every vote: a table that is its own index
)
Index("ix_lease_labeler", lease.c.labeler)

vote = Table(
    "vote",
    metadata,
    _key(),
    _reference("task", "task"),
    _reference("labeler", "labeler"),
    Column("pass", Integer, nullable=False),  # a judge votes once per order or sample
    _reference("rubric_version", "rubric_version"),
    _text("type"),
    _json("shown", nullable=True),  # completion ids in the order shown; null where nobody recorded it
    _json("payload"),
    Column("active_ms", BigInteger),
    Column("wall_ms", BigInteger),
    _json("client", nullable=True),  # diagnostics; no training view reads it
    Column("idempotency_key", Text, nullable=False, unique=True),
    Column("supersedes", Text, ForeignKey("vote.id"), unique=True),
    Column("extra", Boolean, nullable=False),  # came late, when the task had enough votes
    _created(),
    _one_of("type", VOTE_TYPES),
)
# The votes of a task, and one first vote in each chain of corrections: one index, as every vote pays for each.
Index(
    "uq_vote_chain",
    vote.c.task,
    vote.c.labeler,
    vote.c["pass"],
    text("(coalesce(supersedes, ''))"),
    unique=True,
)
Index("ix_vote_labeler", vote.c.labeler)

labeler_fit = Table(  # what an aggregation estimated of each labeler; a later one adds rows of its own
    "labeler_fit",
    metadata,
    Column("fit", Text, primary_key=True),
    Column("labeler", Text, ForeignKey("labeler.id"), primary_key=True),
    Column("reliability", Float, nullable=False),  # probability of not voting at random
    Column("quality", Float),  # probability of agreeing with the estimated truth
    Column("n", Integer, nullable=False),  # votes it rests on
    _created(),
)

judge_cache = (
    Table(  # answers of judges by the hash of what they were asked, so that no question is paid for twice
        "judge_cache",
        metadata,
        Column("key", Text, primary_key=True),
        _json("request"),
        _json("result"),
        _json("usage", nullable=True),
        _created(),
    )
)

adjudication = Table(
    "adjudication",
    metadata,
    _key(),
    _reference("task", "task"),
    _reference("labeler", "labeler"),
    _json("payload"),
    _text("reason"),
    _json("votes_seen"),
    _created(),
)

Index("ix_adjudication_task", adjudication.c.task)

event_table = Table(
    "event",
    metadata,
    _key(),
    _text("kind"),  # thumb, choice, edit, copy, ...; turn and report of the red team (`answering/finds.py`)
    _reference("completion", "completion"),
    _reference("labeler", "labeler", nullable=True),
    Column("turn", Integer),
    Column("thread", Text),
    _json("value"),
    Column("weight", Float, nullable=False),
    Column("consent", Boolean, nullable=False),
    _json("client", nullable=True),
    Column("supersedes", Text, ForeignKey("event.id"), unique=True),
    _created(),
)

audit = Table(
    "audit",
    metadata,
    _key(),
    _reference("labeler", "labeler", nullable=True),
    _text("verb"),
    _text("object"),
    _json("detail"),
    _created(),
)


account = Table(  # who may log in; a labeler votes under the identity it points to
    "account",
    metadata,
    _key(),
    _reference("labeler", "labeler"),
    Column("name", Text, nullable=False, unique=True),
    _text("role"),
    Column("password", Text),  # argon2; null until the invitation is taken
    Column("disabled", Boolean, nullable=False),
    _json("settings"),  # keys, practice done
    _created(),
    _one_of("role", ROLES),
)

invitation = Table(
    "invitation",
    metadata,
    _key(),
    _reference("account", "account"),
    Column("digest", Text, nullable=False, unique=True),  # sha256 of the link's token, which is shown once
    Column("expires", BigInteger, nullable=False),
    Column("used", BigInteger),
    _created(),
)

session = Table(
    "session",
    metadata,
    Column("digest", Text, primary_key=True),  # sha256 of the cookie
    _reference("account", "account"),
    Column("expires", BigInteger, nullable=False),
    _created(),
)

api_token = Table(
    "api_token",
    metadata,
    _key(),
    _reference("account", "account"),
    _text("name"),
    Column("digest", Text, nullable=False, unique=True),
    _json("scopes"),
    Column("expires", BigInteger, nullable=False),
    Column("revoked", BigInteger),
    _created(),
)

APPEND_ONLY = (vote, adjudication, event_table, audit, labeler_fit)


def refusals(table: str, dialect: str) -> list[str]:
    """Statements that make an engine refuse to change or remove a row of `table`."""
    message = f"{table} rows are kept for ever: add one that supersedes"
    if dialect == "sqlite":
        return [
            f"CREATE TRIGGER {table}_refuses_{verb.lower()} BEFORE {verb} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{message}'); END"
            for verb in ("UPDATE", "DELETE")
        ]
    return [
        f"CREATE OR REPLACE FUNCTION {table}_refuses() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{message}'; END $$",
        f"CREATE TRIGGER {table}_refuses_change BEFORE UPDATE OR DELETE ON {table} "
        f"FOR EACH ROW EXECUTE FUNCTION {table}_refuses()",
        f"CREATE TRIGGER {table}_refuses_truncate BEFORE TRUNCATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {table}_refuses()",
    ]


def permissions(table: str, dialect: str) -> list[str]:
    """Statements that take back those of `refusals`, for whoever puts them in force again before others look."""
    if dialect == "sqlite":
        return [f"DROP TRIGGER {table}_refuses_{verb}" for verb in ("update", "delete")]
    return [f"DROP TRIGGER {table}_refuses_{verb} ON {table}" for verb in ("change", "truncate")]


for _table in APPEND_ONLY:
    for _dialect in ("sqlite", "postgresql"):
        for _statement in refusals(_table.name, _dialect):
            _rule = DDL(_statement).execute_if(dialect=_dialect)  # type: ignore[no-untyped-call]
            event.listen(_table, "after_create", _rule)
