"""The tables.

House rules: a released migration never changes. It imports nothing of cdrsync: the program goes on, this stays.
It may be cut off anywhere and run again (MySQL commits each statement by itself).
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import mysql, postgresql

revision = "0001_tables"
down_revision = None
branch_labels = None
depends_on = None

TABLES = (
    "account",
    "cdr",
    "number",
    "audit_result",
    "cdr_change",
    "checkpoint",
    "coverage",
    "operator_totals",
    "reject",
    "sync_run",
)


def upgrade() -> None:
    _account()
    _cdr()
    _number()
    _audit_result()
    _cdr_change()
    _checkpoint()
    _coverage()
    _operator_totals()
    _reject()
    _sync_run()


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_table(table, if_exists=True)


def dialect() -> Any:
    return op.get_context().dialect


def is_mysql() -> bool:
    return dialect().name in ("mysql", "mariadb")


def text(length: int | None = None, *, long: bool = False) -> Any:
    """Text that compares exactly: on MySQL and MariaDB only with the right collation."""
    if not is_mysql():
        return sa.String(length) if length else sa.Text()
    options = {"charset": "utf8mb4", "collation": "utf8mb4_nopad_bin" if dialect().is_mariadb else "utf8mb4_0900_bin"}
    if length:
        return mysql.VARCHAR(length, **options)
    return mysql.LONGTEXT(**options) if long else mysql.MEDIUMTEXT(**options)


def json_text() -> Any:
    """JSON that is kept as it was written."""
    return postgresql.JSON() if dialect().name == "postgresql" else text(long=True)


def instant() -> Any:
    """UTC to the microsecond."""
    if dialect().name == "sqlite":
        return sa.Text()
    return mysql.DATETIME(fsp=6) if is_mysql() else sa.DateTime(timezone=True)


def wall_time() -> Any:
    """Whole seconds; text on SQLite."""
    return sa.Text() if dialect().name == "sqlite" else sa.Time()


def pounds(precision: int) -> Any:
    """Exact pounds; SQLite counts millionths."""
    return sa.BigInteger() if dialect().name == "sqlite" else sa.Numeric(precision, 6)


def identity() -> Any:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def json_check(condition: str, name: str) -> list[sa.CheckConstraint]:
    """MySQL's and MariaDB's text columns don't look at the JSON they hold by themselves."""
    return [sa.CheckConstraint(condition, name=name)] if is_mysql() else []


def create(name: str, comment: str, *parts: Any, **options: Any) -> None:
    op.create_table(
        name, *parts, comment=comment, mysql_engine="InnoDB", mysql_charset="utf8mb4", if_not_exists=True, **options
    )


def index(name: str, table: str, columns: list[str], **options: Any) -> None:
    """MySQL knows no IF NOT EXISTS for an index."""
    if not context.is_offline_mode():
        held = {found["name"] for found in sa.inspect(op.get_bind()).get_indexes(table)}
        if name in held:
            return
    op.create_index(name, table, columns, **options)


def _account() -> None:
    create(
        "account",
        "One operator login whose calls are kept",
        sa.Column("id", sa.Integer(), nullable=False, comment="Our number of the account"),
        sa.Column("name", text(128), nullable=False, comment="Its name in the configuration"),
        sa.Column("created_at", instant(), nullable=False, comment="When it was first used, UTC"),
        sa.Column(
            "holder", text(), comment="Who took the lease last: process and host. The lock itself is the database's own"
        ),
        sa.Column("held_since", instant(), comment="When the lease was taken last, UTC"),
        sa.PrimaryKeyConstraint("id", name="pk_account"),
        sa.UniqueConstraint("name", name="uq_account_name"),
    )


def _cdr() -> None:
    create(
        "cdr",
        "Call data records as the operator's API sent them: one row per call",
        sa.Column("account_id", sa.Integer(), autoincrement=False, nullable=False, comment="The account, account.id"),
        sa.Column(
            "uid", sa.BigInteger(), autoincrement=False, nullable=False, comment="The operator's number of the record"
        ),
        sa.Column("ref", text(), comment="The operator's reference of the call"),
        sa.Column("call_date", sa.Date(), nullable=False, comment="Day the call began, UK wall clock, as sent"),
        sa.Column("call_time", wall_time(), nullable=False, comment="Time the call began, UK wall clock, as sent"),
        sa.Column("started_at", instant(), nullable=False, comment="When the call began, UTC, computed from the two"),
        sa.Column("wall_clock", text(32), comment="How started_at was read where the clocks changed; NULL: plain"),
        sa.Column("anumber", text(), comment="Caller, as sent: UK national without the leading 0; empty: withheld"),
        sa.Column("anumber_location", text(), comment="Where or what the caller is, as sent"),
        sa.Column("bnumber", text(), comment="Number called, as sent: UK national without the leading 0"),
        sa.Column("alias", text(), comment="Name given to the number, as sent; empty or - where there is none"),
        sa.Column(
            "dialled",
            text(),
            comment="Where the call was sent, as sent: 0 nowhere, digits, or V: and an e-mail address",
        ),
        sa.Column("dialled_location", text(), comment="Where or what that is, as sent"),
        sa.Column("duration", sa.Integer(), nullable=False, comment="Seconds"),
        sa.Column("ring_time", sa.Integer(), comment="Seconds"),
        sa.Column("user_cost", pounds(18), nullable=False, comment="Cost, pounds (SQLite: millionths of a pound)"),
        sa.Column("reason", sa.Integer(), comment="Why the call ended, the operator's code; 1: completed"),
        sa.Column("reason_q805", sa.Integer(), comment="A second code of the operator's for why it ended"),
        sa.Column("has_recorded_call", sa.Boolean(), comment="A recording is kept; NULL: the operator did not say"),
        sa.Column(
            "has_voicemail_recording", sa.Boolean(), comment="A voicemail is kept; NULL: the operator did not say"
        ),
        sa.Column("has_fax_document", sa.Boolean(), comment="A fax is kept; NULL: the operator did not say"),
        sa.Column("extra", json_text(), comment="Elements that cdrsync does not know: name and text"),
        sa.Column("first_seen_at", instant(), nullable=False, comment="When the row was first stored, UTC"),
        sa.Column("changed_at", instant(), nullable=False, comment="When a value of the row last changed, UTC"),
        sa.PrimaryKeyConstraint("account_id", "uid", name="pk_cdr"),
        *json_check("extra IS NULL OR json_valid(extra)", op.f("ck_cdr_extra_json")),
        sqlite_with_rowid=False,
    )
    index("ix_cdr_anumber", "cdr", ["anumber"], mysql_length=32)
    index("ix_cdr_bnumber", "cdr", ["bnumber"], mysql_length=32)
    index("ix_cdr_day", "cdr", ["account_id", "call_date", "duration", "user_cost"])


def _number() -> None:
    create(
        "number",
        "Each distinct number of the calls once, as sent",
        sa.Column("number", text(320), nullable=False, comment="As in cdr.anumber, bnumber or dialled"),
        sa.Column("e164", text(32), comment="International form with +; NULL where it is no telephone number"),
        sa.Column("kind", text(32), comment="mobile, geographic, freephone and so on; NULL: not classified yet"),
        sa.Column("region", text(8), comment="Country, ISO 3166"),
        sa.Column(
            "rules_version", text(32), comment="Edition of the numbering rules that said so; NULL: not classified yet"
        ),
        sa.Column("first_seen_at", instant(), nullable=False, comment="UTC"),
        sa.PrimaryKeyConstraint("number", name="pk_number"),
    )


def _audit_result() -> None:
    create(
        "audit_result",
        "Each comparison of what is held with the operator's totals",
        sa.Column("id", identity(), nullable=False, comment="Order of the audits"),
        sa.Column("account_id", sa.Integer(), nullable=False, comment="The account, account.id"),
        sa.Column("period", text(16), nullable=False, comment="day, week, month, last-month or all"),
        sa.Column("number", text(320), comment="The number compared; NULL: all of the account"),
        sa.Column("first_day", sa.Date(), comment="First day compared, UK wall clock; NULL: from the beginning"),
        sa.Column("last_day", sa.Date(), comment="Last day compared, UK wall clock"),
        sa.Column("audited_at", instant(), nullable=False, comment="UTC"),
        sa.Column("verdict", text(16), nullable=False, comment="complete, gap, healed or unusable"),
        sa.Column("held_calls", sa.Integer(), comment="Calls held"),
        sa.Column("held_duration", sa.BigInteger(), comment="Their duration, seconds"),
        sa.Column("held_charge", pounds(24), comment="Their cost, pounds (SQLite: millionths of a pound)"),
        sa.Column("operator_calls", sa.Integer(), comment="Calls the operator counts"),
        sa.Column("operator_duration", sa.BigInteger(), comment="Duration the operator states, seconds"),
        sa.Column("operator_charge", pounds(24), comment="Charge the operator states, pounds (SQLite: millionths)"),
        sa.Column("interpretation", text(), comment="How the operator's undocumented figures had to be read to agree"),
        sa.Column("note", text(), comment="The finding in words"),
        sa.PrimaryKeyConstraint("id", name="pk_audit_result"),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_audit_result_account_id_account"),
    )
    index("ix_audit_result_account_id_audited_at", "audit_result", ["account_id", "audited_at"])


def _cdr_change() -> None:
    create(
        "cdr_change",
        "History: each known value of a call that the operator changed later",
        sa.Column("id", identity(), nullable=False, comment="Order of the changes"),
        sa.Column("account_id", sa.Integer(), nullable=False, comment="The account, account.id"),
        sa.Column("uid", sa.BigInteger(), nullable=False, comment="The call, cdr.uid"),
        sa.Column("changed_at", instant(), nullable=False, comment="When we saw it, UTC"),
        sa.Column("column_name", text(32), nullable=False, comment="Column of cdr"),
        sa.Column("old_value", text(), comment="Before, as text"),
        sa.Column("new_value", text(), comment="After, as text"),
        sa.PrimaryKeyConstraint("id", name="pk_cdr_change"),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_cdr_change_account_id_account"),
    )
    index("ix_cdr_change_account_id_uid", "cdr_change", ["account_id", "uid"])


def _checkpoint() -> None:
    create(
        "checkpoint",
        "How far each stream of an account has come; written only with the records it speaks of",
        sa.Column("account_id", sa.Integer(), nullable=False, comment="The account, account.id"),
        sa.Column("stream", text(64), nullable=False, comment="tail: the newest calls. backfill: history"),
        sa.Column(
            "high_water_uid",
            sa.BigInteger(),
            comment="Highest uid up to which the stream is held; never moves backwards",
        ),
        sa.Column("high_water_ended_at", instant(), comment="When it was reached, by the operator's clock, UTC"),
        sa.Column("window_first", sa.Date(), comment="First day of the job, UK wall clock"),
        sa.Column("window_last", sa.Date(), comment="Last day of the job, UK wall clock"),
        sa.Column("begun_at", instant(), comment="When the job began, UTC"),
        sa.Column("done", sa.Boolean(), nullable=False, comment="The job has reached its end"),
        sa.Column("updated_at", instant(), nullable=False, comment="When this row was last written, UTC"),
        sa.PrimaryKeyConstraint("account_id", "stream", name="pk_checkpoint"),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_checkpoint_account_id_account"),
    )


def _coverage() -> None:
    create(
        "coverage",
        "The ledger of days: what is held of each, and what an audit said",
        sa.Column("account_id", sa.Integer(), nullable=False, comment="The account, account.id"),
        sa.Column("call_date", sa.Date(), nullable=False, comment="Day, UK wall clock"),
        sa.Column("calls", sa.Integer(), nullable=False, comment="Calls held"),
        sa.Column("duration", sa.BigInteger(), nullable=False, comment="Their duration, seconds"),
        sa.Column("charge", pounds(24), nullable=False, comment="Their cost, pounds (SQLite: millionths of a pound)"),
        sa.Column("downloaded_at", instant(), comment="When the whole day was last read to its end, UTC; NULL: never"),
        sa.Column("audited_at", instant(), comment="When it was last compared with the operator's totals, UTC"),
        sa.Column("verdict", text(16), nullable=False, comment="unaudited, complete, gap or healed"),
        sa.Column("operator_calls", sa.Integer(), comment="Calls the operator counts, where it stated this day"),
        sa.Column("operator_duration", sa.BigInteger(), comment="Duration the operator states, seconds"),
        sa.Column("operator_charge", pounds(24), comment="Charge the operator states, pounds (SQLite: millionths)"),
        sa.Column("note", text(), comment="The audit's finding in words"),
        sa.PrimaryKeyConstraint("account_id", "call_date", name="pk_coverage"),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_coverage_account_id_account"),
    )


def _operator_totals() -> None:
    create(
        "operator_totals",
        "The operator's own totals (GetTotals) as fetched",
        sa.Column("id", identity(), nullable=False, comment="Order of the answers"),
        sa.Column("account_id", sa.Integer(), nullable=False, comment="The account, account.id"),
        sa.Column("period", text(16), nullable=False, comment="day, week, month, last-month or all"),
        sa.Column("number", text(320), comment="The number asked for; NULL: all of the account"),
        sa.Column("fetched_at", instant(), nullable=False, comment="The operator's clock, UTC"),
        sa.Column("answered", sa.Integer(), comment="AnsweredTotal; NULL where it could not be read"),
        sa.Column("missed", sa.Integer(), comment="MissedTotal"),
        sa.Column("voicemail", sa.Integer(), comment="VoicemailTotal"),
        sa.Column(
            "minutes_no_format",
            pounds(24),
            comment="MinsTotalNoFormat: its unit is not documented (SQLite: millionths)",
        ),
        sa.Column("charge", pounds(24), comment="ChargeTotal, pounds (SQLite: millionths of a pound)"),
        sa.Column("texts", json_text(), nullable=False, comment="Every figure as sent: element and text"),
        sa.Column("unusable", text(), comment="Figures that could not be read, one a line"),
        sa.PrimaryKeyConstraint("id", name="pk_operator_totals"),
        *json_check("json_valid(texts)", op.f("ck_operator_totals_texts_json")),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_operator_totals_account_id_account"),
    )
    index("ix_operator_totals_account_id_fetched_at", "operator_totals", ["account_id", "fetched_at"])


def _reject() -> None:
    create(
        "reject",
        "Quarantine: records that could not be typed or held, kept as sent",
        sa.Column("id", identity(), nullable=False, comment="Number for cdrsync rejects show"),
        sa.Column("account_id", sa.Integer(), nullable=False, comment="The account, account.id"),
        sa.Column("uid", sa.BigInteger(), comment="The operator's uid, where it could be read"),
        sa.Column("raw", text(long=True), nullable=False, comment="The record as sent, XML"),
        sa.Column("problem", text(), nullable=False, comment="What is wrong with it"),
        sa.Column("fingerprint", text(64), nullable=False, comment="SHA-256 of raw: the same record is kept once"),
        sa.Column("seen", sa.Integer(), nullable=False, comment="How often it came"),
        sa.Column("first_seen_at", instant(), nullable=False, comment="UTC"),
        sa.Column("last_seen_at", instant(), nullable=False, comment="UTC"),
        sa.Column("resolved_at", instant(), comment="When the record could be stored after all, UTC; NULL: still open"),
        sa.PrimaryKeyConstraint("id", name="pk_reject"),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_reject_account_id_account"),
        sa.UniqueConstraint("account_id", "fingerprint", name="uq_reject_account_id_fingerprint"),
    )
    index("ix_reject_account_id_uid", "reject", ["account_id", "uid"])


def _sync_run() -> None:
    create(
        "sync_run",
        "Work done: one row for each catch-up, backfill, sweep or audit that did something",
        sa.Column("id", identity(), nullable=False, comment="Our number of the run"),
        sa.Column("account_id", sa.Integer(), nullable=False, comment="The account, account.id"),
        sa.Column(
            "origin", text(32), nullable=False, comment="Which step of the algorithm: tail, backfill, sweep and so on"
        ),
        sa.Column("started_at", instant(), nullable=False, comment="UTC"),
        sa.Column("ended_at", instant(), comment="UTC; NULL: running, or killed"),
        sa.Column("outcome", text(32), comment="ok, or the kind of failure"),
        sa.Column("inserted", sa.Integer(), nullable=False, comment="New calls"),
        sa.Column("updated", sa.Integer(), nullable=False, comment="Calls that changed"),
        sa.Column("unchanged", sa.Integer(), nullable=False, comment="Calls already held"),
        sa.Column("rejected", sa.Integer(), nullable=False, comment="Records put into quarantine"),
        sa.Column("message", text(), comment="The failure in words"),
        sa.PrimaryKeyConstraint("id", name="pk_sync_run"),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_sync_run_account_id_account"),
    )
    index("ix_sync_run_account_id_started_at", "sync_run", ["account_id", "started_at"])
