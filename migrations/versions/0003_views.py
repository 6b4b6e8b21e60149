"""The views that people and BI tools read, and an index for them.

Their SQL is whole in `migrations/views`: `0003_VIEW.sql`, or `0003_VIEW.DIALECT.sql` where the databases must differ;
their comments are in `0003.toml`. House rules: released files never change. A later migration that changes a view
brings a file of its own number, adds columns at the end only, and says CREATE OR REPLACE, which keeps the grants.
SQLite rebuilds a table to alter it: there, drop the views before and create them after.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0003_views"
down_revision = "0002_erasure"
branch_labels = None
depends_on = None

NUMBER = revision.partition("_")[0]
FOLDER = Path(__file__).resolve().parent.parent / "views"


def upgrade() -> None:
    views = tomllib.loads((FOLDER / f"{NUMBER}.toml").read_text(encoding="utf-8"))
    dialect = op.get_context().dialect.name
    for name, view in views.items():
        op.execute(f"DROP VIEW IF EXISTS {name}")  # MySQL: left by an upgrade that was cut off
        op.execute(sa.text(statement(name, dialect)))
        if dialect == "postgresql":
            comment("VIEW", name, view["comment"])
            for column, (_, meaning) in view["columns"].items():
                comment("COLUMN", f"{name}.{column}", meaning)
    if dialect == "postgresql":  # readers filter by time; calls lie by time, so that a BRIN index costs next to nothing
        op.create_index("ix_cdr_started_at", "cdr", ["started_at"], postgresql_using="brin")


def downgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        op.drop_index("ix_cdr_started_at", "cdr")
    views = tomllib.loads((FOLDER / f"{NUMBER}.toml").read_text(encoding="utf-8"))
    for name in reversed(views):
        op.execute(f"DROP VIEW IF EXISTS {name}")


def statement(name: str, dialect: str) -> str:
    """The view's CREATE statement."""
    family = "mysql" if dialect == "mariadb" else dialect
    own = FOLDER / f"{NUMBER}_{name}.{family}.sql"
    return (own if own.exists() else FOLDER / f"{NUMBER}_{name}.sql").read_text(encoding="utf-8")


def comment(kind: str, name: str, text: str) -> None:
    quoted = text.replace("'", "''").replace(":", "\\:")  # an escaped colon is no parameter
    op.execute(sa.text(f"COMMENT ON {kind} {name} IS '{quoted}'"))
