"""What has been erased, and must stay so.

House rules: a released migration never changes. It imports nothing of cdrsync: the program goes on, this stays.
It may be cut off anywhere and run again (MySQL commits each statement by itself).
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import mysql

revision = "0002_erasure"
down_revision = "0001_tables"
branch_labels = None
depends_on = None


def upgrade() -> None:
    add(
        "account",
        sa.Column(
            "erasures",
            sa.Integer(),
            nullable=False,
            server_default="0",
            comment="Grows with every erasure: a writer that knows of fewer reads the table erasure again",
        ),
    )
    add(
        "coverage",
        sa.Column(
            "pruned",
            text(16),
            comment="What retention made of the day's calls: pseudonymise or delete; NULL: nothing. The figures stay",
        ),
    )
    op.create_table(
        "erasure",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False, comment="Order of the erasures"
        ),
        sa.Column("account_id", sa.Integer(), nullable=False, comment="The account, account.id"),
        sa.Column(
            "what",
            text(16),
            nullable=False,
            comment="pseudonymise or delete (calls of old days), or number (one person's)",
        ),
        sa.Column("before_day", sa.Date(), comment="The calls of the days before this one, UK wall clock"),
        sa.Column(
            "token", text(64), comment="Keyed hash by which the number is known again; the number is kept nowhere"
        ),
        sa.Column("key_check", text(64), comment="Tells whether pseudonym_key is still the same"),
        sa.Column("begun_at", instant(), nullable=False, comment="UTC. From then on it holds for whatever comes in"),
        sa.Column("ended_at", instant(), comment="When all that was held had been treated, UTC; NULL: not yet"),
        sa.Column("calls", sa.Integer(), nullable=False, comment="Calls treated"),
        sa.Column("rejects", sa.Integer(), nullable=False, comment="Records deleted from quarantine"),
        sa.PrimaryKeyConstraint("id", name="pk_erasure"),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_erasure_account_id_account"),
        comment="Log of what was erased, and the rules by which it stays so",
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
        if_not_exists=True,
    )
    held = [] if context.is_offline_mode() else sa.inspect(op.get_bind()).get_indexes("erasure")
    if not has("ix_erasure_account_id", held):
        op.create_index("ix_erasure_account_id", "erasure", ["account_id"])


def downgrade() -> None:
    op.drop_table("erasure", if_exists=True)
    for table, column in (("coverage", "pruned"), ("account", "erasures")):
        if has(column, sa.inspect(op.get_bind()).get_columns(table)):
            op.drop_column(table, column)


def add(table: str, column: sa.Column[Any]) -> None:
    if context.is_offline_mode() or not has(str(column.name), sa.inspect(op.get_bind()).get_columns(table)):
        op.add_column(table, column)


def has(name: str, found: Any) -> bool:
    return name in {one["name"] for one in found}


def is_mysql() -> bool:
    return op.get_context().dialect.name in ("mysql", "mariadb")


def text(length: int) -> Any:
    """Text that compares exactly: on MySQL and MariaDB only with the right collation."""
    if not is_mysql():
        return sa.String(length)
    nopad = getattr(op.get_context().dialect, "is_mariadb", False)
    return mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_nopad_bin" if nopad else "utf8mb4_0900_bin")


def instant() -> Any:
    """UTC to the microsecond."""
    if op.get_context().dialect.name == "sqlite":
        return sa.Text()
    return mysql.DATETIME(fsp=6) if is_mysql() else sa.DateTime(timezone=True)
