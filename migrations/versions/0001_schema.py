"""Every table, and the views.

Until the first release this is the only revision, and it may change; then the house rules of `script.py.mako` hold.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.types import UserDefinedType

from cdrsync.store.admin import views

revision = "0001_schema"
down_revision = None
branch_labels = None
depends_on = None

MICROS = "pounds (SQLite: millionths of a pound)"


def upgrade() -> None:
    for make in (_replica, _lease, *TABLES.values()):
        make()
    views.make(op, revision)


def downgrade() -> None:
    """`replica` and `lease` hold off a second upgrader to the end, and go when the schema's version has gone."""
    views.drop(op)
    for table in reversed(TABLES):
        op.drop_table(table, if_exists=True)


# ── how a table is said ───────────────────────────────────────────────────────────────────────────────────────────────


def create(name: str, comment: str, *parts: Any, key: tuple[str, ...] = ("id",), **options: Any) -> None:
    """Make a table unless an upgrade that was cut off has left it."""
    options.setdefault("if_not_exists", True)
    options.update(mysql_engine="InnoDB", mysql_charset="utf8mb4")
    op.create_table(name, *parts, sa.PrimaryKeyConstraint(*key, name=f"pk_{name}"), comment=comment, **options)


def must(name: str, kind: Any, comment: str, **options: Any) -> sa.Column[Any]:
    """A column that is never NULL."""
    return sa.Column(name, kind, nullable=False, comment=comment, **options)


def may(name: str, kind: Any, comment: str) -> sa.Column[Any]:
    """A column that may be NULL."""
    return sa.Column(name, kind, comment=comment)


def numbered(comment: str) -> sa.Column[Any]:
    """A column `id` that the database hands out."""
    return must("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), comment)


def of_account(table: str) -> list[Any]:
    """The column `account_id` and its foreign key."""
    name = f"fk_{table}_account_id_account"
    key = sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=name)
    return [must("account_id", sa.Integer(), "The account, account.id"), key]


def index(name: str, table: str, *columns: str, **options: Any) -> None:
    """Make an index unless it is there. MySQL knows no IF NOT EXISTS for one."""
    if not is_mysql() or dialect().is_mariadb:
        op.create_index(name, table, columns, if_not_exists=True, **options)
        return
    held = [] if context.is_offline_mode() else sa.inspect(op.get_bind()).get_indexes(table)
    if name not in {found["name"] for found in held}:
        op.create_index(name, table, columns, **options)


def dialect() -> Any:
    return op.get_context().dialect


def is_mysql() -> bool:
    return dialect().name in ("mysql", "mariadb")


def text(length: int | None = None, *, long: bool = False) -> Any:
    """Text that compares exactly: on MySQL and MariaDB only with the right collation."""
    if not is_mysql():
        return sa.String(length) if length else sa.Text()
    collation = "utf8mb4_nopad_bin" if getattr(dialect(), "is_mariadb", False) else "utf8mb4_0900_bin"
    options = {"charset": "utf8mb4", "collation": collation}
    if length:
        return mysql.VARCHAR(length, **options)
    return mysql.LONGTEXT(**options) if long else mysql.MEDIUMTEXT(**options)


def number(length: int | None = None) -> Any:
    """A telephone number as text: PostgreSQL's collations for words would take three times as long to sort it."""
    if dialect().name != "postgresql":
        return text(length)
    return sa.String(length, collation="C") if length else sa.Text(collation="C")


def json_text() -> Any:
    """JSON that is kept as it was written."""
    return postgresql.JSON() if dialect().name == "postgresql" else text(long=True)


def json_check(condition: str, name: str) -> list[sa.CheckConstraint]:
    """MySQL's and MariaDB's text columns don't look at the JSON they hold by themselves."""
    return [sa.CheckConstraint(condition, name=op.f(name))] if is_mysql() else []


class Timestamp(UserDefinedType[str]):
    """Text to SQLite, but tools that read its files take a column called so for a moment."""

    def get_col_spec(self, **_: Any) -> str:
        """The column's type."""
        return "TIMESTAMP"


def instant() -> Any:
    """UTC to the microsecond."""
    if dialect().name == "sqlite":
        return Timestamp()
    return mysql.DATETIME(fsp=6) if is_mysql() else sa.DateTime(timezone=True)


def wall_time() -> Any:
    """Whole seconds; text on SQLite."""
    return sa.Text() if dialect().name == "sqlite" else sa.Time()


def pounds(precision: int) -> Any:
    """Exact pounds; SQLite counts millionths."""
    return sa.BigInteger() if dialect().name == "sqlite" else sa.Numeric(precision, 6)


# ── the tables ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _account() -> None:
    create(
        "account",
        "One operator login whose calls are kept",
        must("id", sa.Integer(), "Our number of the account"),
        must("name", text(128), "Its name in the configuration"),
        must("created_at", instant(), "When it was first used, UTC"),
        must(
            "erasures",
            sa.Integer(),
            "Grows with every erasure: a writer that knows of fewer reads the table erasure again",
            server_default="0",
        ),
        must("numbering", sa.Integer(), "Grows when kinds of numbers change", server_default="0"),
        may("login", text(32), "Which login it is: a fingerprint of its username. NULL: not known yet"),
        may("retry_asked_at", instant(), "When a person asked the daemon to try at once; NULL: nobody waits for it"),
        sa.UniqueConstraint("name", name="uq_account_name"),
        sa.UniqueConstraint("login", name="uq_account_login"),
    )


def _cdr() -> None:
    create(
        "cdr",
        "Call data records as the operator's API sent them: one row per call",
        must("account_id", sa.Integer(), "The account, account.id", autoincrement=False),
        must("uid", sa.BigInteger(), "The operator's number of the record", autoincrement=False),
        may("ref", text(), "The operator's reference of the call"),
        must("call_date", sa.Date(), "Day the call began, UK wall clock, as sent"),
        must("call_time", wall_time(), "Time the call began, UK wall clock, as sent"),
        must("started_at", instant(), "When the call began, UTC, computed from the two"),
        may("wall_clock", text(32), "How started_at was read where the clocks changed; NULL: plain"),
        may("anumber", number(), "Caller, as sent: UK national without the leading 0; empty: withheld"),
        may("anumber_location", text(), "Where or what the caller is, as sent"),
        may("bnumber", number(), "Number called, as sent: UK national without the leading 0"),
        may("alias", text(), "Name given to the number, as sent; empty or - where there is none"),
        may("dialled", number(), "Where the call was sent, as sent: 0 nowhere, digits, or V: and an e-mail address"),
        may("dialled_location", text(), "Where or what that is, as sent"),
        must("duration", sa.Integer(), "Seconds"),
        may("ring_time", sa.Integer(), "Seconds"),
        must("user_cost", pounds(18), f"Cost, {MICROS}"),
        may("reason", sa.Integer(), "Why the call ended, the operator's code; 1: completed"),
        may("reason_q805", sa.Integer(), "A second code of the operator's for why it ended"),
        may("has_recorded_call", sa.Boolean(), "A recording is kept; NULL: the operator did not say"),
        may("has_voicemail_recording", sa.Boolean(), "A voicemail is kept; NULL: the operator did not say"),
        may("has_fax_document", sa.Boolean(), "A fax is kept; NULL: the operator did not say"),
        may("extra", json_text(), "Elements that cdrsync does not know: name and text"),
        must("first_seen_at", instant(), "When the row was first stored, UTC"),
        must("changed_at", instant(), "When a value of the row last changed, UTC"),
        *json_check("extra IS NULL OR json_valid(extra)", "ck_cdr_extra_json"),
        key=("account_id", "uid"),
        sqlite_with_rowid=False,
    )
    index("ix_cdr_anumber", "cdr", "anumber", "started_at", mysql_length={"anumber": 32})
    index("ix_cdr_bnumber", "cdr", "bnumber", mysql_length=32)
    index("ix_cdr_day", "cdr", "call_date", "account_id", "uid", "duration", "user_cost")
    index("ix_cdr_started_at", "cdr", "started_at")
    index("ix_cdr_uid", "cdr", "uid")


def _number() -> None:
    create(
        "number",
        "Each distinct number of the calls once, as sent",
        must("number", number(320), "As in cdr.anumber, bnumber or dialled"),
        may("e164", number(32), "International form with +; NULL where it is no telephone number"),
        may("kind", text(32), "mobile, geographic, freephone and so on; NULL: not classified yet"),
        may("region", text(8), "Country, ISO 3166"),
        may("rules_version", text(32), "Edition of the numbering rules that said so; NULL: not classified yet"),
        may("national", number(32), "As dialled in the UK: 0 and the number, or 00 and the country's code"),
        may("kind_source", text(16), "Who says the kind: plan (the public ones) or operator (its own words)"),
        may("usual", number(32), "As the operator writes it: 7700900123; NULL: it is written so, or is none"),
        must("first_seen_at", instant(), "UTC"),
        key=("number",),
    )
    index("ix_number_usual", "number", "usual")


def _audit_result() -> None:
    create(
        "audit_result",
        "Each comparison of what is held with the operator's totals",
        numbered("Order of the audits"),
        *of_account("audit_result"),
        must("period", text(16), "day, week, month, last-month or all"),
        may("number", number(320), "The number compared; NULL: all of the account"),
        may("first_day", sa.Date(), "First day compared, UK wall clock; NULL: from the beginning"),
        may("last_day", sa.Date(), "Last day compared, UK wall clock"),
        must("audited_at", instant(), "UTC"),
        must("verdict", text(16), "complete, gap, healed, accepted or unaudited"),
        may("held_calls", sa.Integer(), "Calls held"),
        may("held_duration", sa.BigInteger(), "Their duration, seconds"),
        may("held_charge", pounds(24), f"Their cost, {MICROS}"),
        may("operator_calls", sa.Integer(), "Calls the operator counts"),
        may("operator_duration", sa.BigInteger(), "Duration the operator states, seconds"),
        may("operator_charge", pounds(24), "Charge the operator states, pounds (SQLite: millionths)"),
        may("interpretation", text(), "How the operator's undocumented figures had to be read to agree"),
        may("note", text(), "The finding in words"),
    )
    index("ix_audit_result_account_id_audited_at", "audit_result", "account_id", "audited_at")


def _cdr_change() -> None:
    create(
        "cdr_change",
        "History: each known value of a call that the operator changed later",
        numbered("Order of the changes"),
        *of_account("cdr_change"),
        must("uid", sa.BigInteger(), "The call, cdr.uid"),
        must("changed_at", instant(), "When we saw it, UTC"),
        must("column_name", text(32), "Column of cdr"),
        may("old_value", text(), "Before, as text"),
        may("new_value", text(), "After, as text"),
    )
    index("ix_cdr_change_account_id_uid", "cdr_change", "account_id", "uid")


def _checkpoint() -> None:
    create(
        "checkpoint",
        "How far each stream of an account has come; written only with the records it speaks of",
        *of_account("checkpoint"),
        must("stream", text(64), "tail: the newest calls. backfill: history"),
        may("high_water_uid", sa.BigInteger(), "Highest uid up to which the stream is held; never moves backwards"),
        may("high_water_ended_at", instant(), "When it was reached, by the operator's clock, UTC"),
        may("window_first", sa.Date(), "First day of the job, UK wall clock"),
        may("window_last", sa.Date(), "Last day of the job, UK wall clock"),
        may("begun_at", instant(), "When the job began, UTC"),
        must("done", sa.Boolean(), "The job has reached its end"),
        must("updated_at", instant(), "When this row was last written, UTC"),
        key=("account_id", "stream"),
    )


def _coverage() -> None:
    create(
        "coverage",
        "The ledger of days: what is held of each, and what an audit said",
        *of_account("coverage"),
        must("call_date", sa.Date(), "Day, UK wall clock"),
        must("calls", sa.Integer(), "Calls held"),
        must("duration", sa.BigInteger(), "Their duration, seconds"),
        must("charge", pounds(24), f"Their cost, {MICROS}"),
        may("downloaded_at", instant(), "When the whole day was last read to its end, UTC; NULL: never"),
        may("audited_at", instant(), "When it was last compared with the operator's totals, UTC"),
        must("verdict", text(16), "unaudited, complete, gap, healed or accepted"),
        may("operator_calls", sa.Integer(), "Calls the operator counts, where it stated this day"),
        may("operator_duration", sa.BigInteger(), "Duration the operator states, seconds"),
        may("operator_charge", pounds(24), "Charge the operator states, pounds (SQLite: millionths)"),
        may("note", text(), "The audit's finding in words, or a person's"),
        may("accepted_calls", sa.Integer(), "Calls too many (less than none: missing) that a person has accepted"),
        may("accepted_duration", sa.BigInteger(), "Their duration, seconds; NULL: not known"),
        may("accepted_charge", pounds(24), f"Their cost, {MICROS}"),
        must(
            "summed",
            sa.Boolean(),
            "Whether call_day has the day. Whoever changes a call of it takes it away there",
            server_default=sa.false(),
        ),
        must(
            "in_month",
            sa.Boolean(),
            "Whether call_day has the day's month as well. All days of a month alike",
            server_default=sa.false(),
        ),
        must("numbering", sa.Integer(), "account.numbering of its destinations", server_default="0"),
        may(
            "pruned",
            text(16),
            "What retention made of the day's calls: pseudonymise or delete; NULL: nothing. The figures stay",
        ),
        key=("account_id", "call_date"),
    )


def _call_day() -> None:
    create(
        "call_day",
        "Summary: calls of a day added up by hour, number and kind of destination. Days that changed since are absent",
        *of_account("call_day"),
        must(
            "split",
            text(16),
            "How the day is split: day (not at all), hour, number, destination; number-month: a month, by number",
        ),
        must("call_date", sa.Date(), "Day, UK wall clock; the first of a month"),
        must("place", sa.Integer(), "Numbers the rows of a day's split", autoincrement=False),
        may("call_hour", sa.Integer(), "Hour of the UK wall clock, where split is hour"),
        may("called_number", number(), "Number called, as sent, where the split is by number; NULL: not said"),
        may("destination_kind", text(32), "Kind of destination, where split is destination"),
        must("calls", sa.BigInteger(), "Calls"),
        must("answered", sa.BigInteger(), "Calls with outcome answered"),
        must("voicemail", sa.BigInteger(), "Calls with outcome voicemail"),
        must("missed", sa.BigInteger(), "Calls with outcome missed"),
        must("unknown", sa.BigInteger(), "Calls with outcome unknown"),
        must("withheld", sa.BigInteger(), "Calls whose caller is withheld"),
        must("duration", sa.BigInteger(), "Their duration, seconds"),
        must("answered_duration", sa.BigInteger(), "Duration of the answered calls, seconds"),
        must("answered_timed", sa.BigInteger(), "Answered calls whose ring time was said"),
        must("answered_ring_time", sa.BigInteger(), "Ring time of these, seconds"),
        must("answered_in_20_s", sa.BigInteger(), "Calls answered within 20 seconds"),
        must("cost", pounds(24), f"Their cost, {MICROS}"),
        must("first_call_at", instant(), "When the first of them began, UTC"),
        must("last_call_at", instant(), "When the last of them began, UTC"),
        may("named_uid", sa.BigInteger(), "Highest uid of those whose number has a name"),
        key=("account_id", "split", "call_date", "place"),
    )


def _operator_totals() -> None:
    create(
        "operator_totals",
        "The operator's own totals (GetTotals) as fetched",
        numbered("Order of the answers"),
        *of_account("operator_totals"),
        must("period", text(16), "day, week, month, last-month or all"),
        may("number", number(320), "The number asked for; NULL: all of the account"),
        must("fetched_at", instant(), "The operator's clock, UTC"),
        may("answered", sa.Integer(), "AnsweredTotal; NULL where it could not be read"),
        may("missed", sa.Integer(), "MissedTotal"),
        may("voicemail", sa.Integer(), "VoicemailTotal"),
        may("minutes_no_format", pounds(24), "MinsTotalNoFormat: its unit is not documented (SQLite: millionths)"),
        may("charge", pounds(24), f"ChargeTotal, {MICROS}"),
        must("texts", json_text(), "Every figure as sent: element and text"),
        may("unusable", text(), "Figures that could not be read, one a line"),
        *json_check("json_valid(texts)", "ck_operator_totals_texts_json"),
    )
    index("ix_operator_totals_account_id_fetched_at", "operator_totals", "account_id", "fetched_at")


def _reject() -> None:
    create(
        "reject",
        "Quarantine: records that could not be typed or held, kept as sent",
        numbered("Number for cdrsync rejects show"),
        *of_account("reject"),
        may("uid", sa.BigInteger(), "The operator's uid, where it could be read"),
        must("raw", text(long=True), "The record as sent, XML"),
        must("problem", text(), "What is wrong with it"),
        must("fingerprint", text(64), "SHA-256 of raw: the same record is kept once"),
        must("seen", sa.Integer(), "How often it came"),
        must("first_seen_at", instant(), "UTC"),
        must("last_seen_at", instant(), "UTC"),
        may("resolved_at", instant(), "When the record could be stored after all, UTC; NULL: still open"),
        may("dismissed_at", instant(), "When a person said that nothing more is to be done about it, UTC"),
        may("dismissed_note", text(), "Why"),
        sa.UniqueConstraint("account_id", "fingerprint", name="uq_reject_account_id_fingerprint"),
    )
    index("ix_reject_account_id_uid", "reject", "account_id", "uid")


def _sync_run() -> None:
    create(
        "sync_run",
        "Work done: one row for each catch-up, backfill, sweep or audit that did something",
        numbered("Our number of the run"),
        *of_account("sync_run"),
        must("origin", text(32), "Which step of the algorithm: tail, backfill, sweep and so on"),
        must("started_at", instant(), "UTC"),
        may("ended_at", instant(), "UTC; NULL: running, or killed"),
        may("outcome", text(32), "ok, or the kind of failure"),
        must("inserted", sa.Integer(), "New calls"),
        must("updated", sa.Integer(), "Calls that changed"),
        must("unchanged", sa.Integer(), "Calls already held"),
        must("rejected", sa.Integer(), "Records put into quarantine"),
        may("message", text(), "The failure in words"),
    )
    index("ix_sync_run_account_id_started_at", "sync_run", "account_id", "started_at")


def _erasure() -> None:
    create(
        "erasure",
        "Log of what was erased, and the rules by which it stays so",
        numbered("Order of the erasures"),
        *of_account("erasure"),
        must("what", text(16), "pseudonymise or delete (calls of old days), or number (one person's)"),
        may("before_day", sa.Date(), "The calls of the days before this one, UK wall clock"),
        may("token", text(64), "Keyed hash by which the number is known again; the number is kept nowhere"),
        may("key_check", text(64), "Tells whether pseudonym_key is still the same"),
        must("begun_at", instant(), "UTC. From then on it holds for whatever comes in"),
        may("ended_at", instant(), "When all that was held had been treated, UTC; NULL: not yet"),
        must("calls", sa.Integer(), "Calls treated"),
        must("rejects", sa.Integer(), "Records of the quarantine treated"),
        may("found", text(), "What was found where: table and column, and how often"),
    )
    index("ix_erasure_account_id", "erasure", "account_id")


def _replica() -> None:
    create(
        "replica",
        "One running process that works on this database",
        must("id", text(32), "Random, at each joining"),
        must("host", text(), "Name of its machine"),
        must("process", sa.BigInteger(), "Its process id there"),
        may("machine", text(), "Machine id, boot id and pid namespace: who has the same can see whether it runs"),
        may("process_started", sa.BigInteger(), "Clock ticks from the machine's start to the process's"),
        must("shares", sa.Boolean(), "A daemon, which takes its part of the accounts"),
        must("joined_at", instant(), "By the database's clock, UTC"),
        must("beat_at", instant(), "When it last said that it lives, by the database's clock, UTC"),
    )


def _lease() -> None:
    create(
        "lease",
        "Who may write for an account: every write of the account begins by writing this row",
        must("account_id", sa.Integer(), "account.id; 0: the schema itself", autoincrement=False),
        may("replica_id", text(32), "Its holder, replica.id; NULL: free"),
        may("token", text(32), "Random, at each taking: who has another one has lost the lease"),
        may("taken_at", instant(), "By the database's clock, UTC"),
        must("commits", sa.BigInteger(), "Transactions committed by its holders"),
        must("interventions", sa.BigInteger(), "Transactions beside them: erasure, retention, grants"),
        key=("account_id",),
    )
    index("ix_lease_replica_id", "lease", "replica_id")


TABLES = {
    "account": _account,
    "cdr": _cdr,
    "number": _number,
    "audit_result": _audit_result,
    "cdr_change": _cdr_change,
    "checkpoint": _checkpoint,
    "coverage": _coverage,
    "call_day": _call_day,
    "operator_totals": _operator_totals,
    "reject": _reject,
    "sync_run": _sync_run,
    "erasure": _erasure,
}
