"""Every table, and the views.

Until the first release this is the only revision, and it may change; then the house rules of `script.py.mako` hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from alembic import context, op

from cdrsync.store.admin import views
from cdrsync.store.schema.types import Exact, Instant, JsonText, Number, Pounds, WallTime, json_check

if TYPE_CHECKING:
    from collections.abc import Callable

revision = "0001_schema"
down_revision = None
branch_labels = None
depends_on = None

MICROS = "pounds (SQLite: millionths of a pound)"
LOCK = ("replica", "lease")  # hold off a second upgrader to the end, and go when the schema's version has gone


def upgrade() -> None:
    """An upgrade that was cut off has left some of it."""
    for name, make in TABLES.items():
        make(name)
    # MySQL knows no IF NOT EXISTS for an index.
    held = {} if context.is_offline_mode() else sa.inspect(op.get_bind()).get_multi_indexes(filter_names=list(TABLES))
    there = {index["name"] for indexes in held.values() for index in indexes}
    for name, make in INDEXES.items():
        if name not in there:
            make(name)
    views.make(op, revision)


def downgrade() -> None:
    views.drop(op)
    for name in reversed(TABLES):
        if name not in LOCK:
            op.drop_table(name, if_exists=True)


# ── how a table is said ───────────────────────────────────────────────────────────────────────────────────────────────


def table(comment: str, *parts: Any, key: tuple[str, ...] = ("id",), **options: Any) -> Callable[[str], Any]:
    """A table, made by calling it with a name."""
    options |= {"comment": comment, "if_not_exists": True, **on_mysql(engine="InnoDB", charset="utf8mb4")}
    return lambda name: op.create_table(name, *parts, sa.PrimaryKeyConstraint(*key, name=f"pk_{name}"), **options)


def index(table: str, *columns: str, **options: Any) -> Callable[[str], Any]:
    """An index, likewise."""
    return lambda name: op.create_index(name, table, columns, **options)


def on_mysql(**options: Any) -> dict[str, Any]:
    """What only MySQL and MariaDB are told, which SQLAlchemy tells apart where the URL does."""
    return {f"{dialect}_{option}": value for option, value in options.items() for dialect in ("mysql", "mariadb")}


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


TABLES = {
    "replica": table(
        "One running process that works on this database",
        must("id", Exact(32), "Random, at each joining"),
        must("host", Exact(), "Name of its machine"),
        must("process", sa.BigInteger(), "Its process id there"),
        may("machine", Exact(), "Machine id, boot id and pid namespace: who has the same can see whether it runs"),
        may("process_started", sa.BigInteger(), "Clock ticks from the machine's start to the process's"),
        must("shares", sa.Boolean(), "A daemon, which takes its part of the accounts"),
        must("joined_at", Instant(), "By the database's clock, UTC"),
        must("beat_at", Instant(), "When it last said that it lives, by the database's clock, UTC"),
    ),
    "lease": table(
        "Who may write for an account: every write of the account begins by writing this row",
        must("account_id", sa.Integer(), "account.id; 0: the schema itself", autoincrement=False),
        may("replica_id", Exact(32), "Its holder, replica.id; NULL: free"),
        may("token", Exact(32), "Random, at each taking: who has another one has lost the lease"),
        may("taken_at", Instant(), "By the database's clock, UTC"),
        must("commits", sa.BigInteger(), "Transactions committed by its holders"),
        must("interventions", sa.BigInteger(), "Transactions beside them: erasure, retention, grants"),
        key=("account_id",),
    ),
    "account": table(
        "One operator login whose calls are kept",
        must("id", sa.Integer(), "Our number of the account"),
        must("name", Exact(128), "Its name in the configuration"),
        must("created_at", Instant(), "When it was first used, UTC"),
        must(
            "erasures",
            sa.Integer(),
            "Grows with every erasure: a writer that knows of fewer reads the table erasure again",
            server_default="0",
        ),
        must("numbering", sa.Integer(), "Grows when kinds of numbers change", server_default="0"),
        may("login", Exact(32), "Which login it is: a fingerprint of its username. NULL: not known yet"),
        may("retry_asked_at", Instant(), "When a person asked the daemon to try at once; NULL: nobody waits for it"),
        sa.UniqueConstraint("name", name="uq_account_name"),
        sa.UniqueConstraint("login", name="uq_account_login"),
    ),
    "cdr": table(
        "Call data records as the operator's API sent them: one row per call",
        must("account_id", sa.Integer(), "The account, account.id", autoincrement=False),
        must("uid", sa.BigInteger(), "The operator's number of the record", autoincrement=False),
        may("ref", Exact(), "The operator's reference of the call"),
        must("call_date", sa.Date(), "Day the call began, UK wall clock, as sent"),
        must("call_time", WallTime(), "Time the call began, UK wall clock, as sent"),
        must("started_at", Instant(), "When the call began, UTC, computed from the two"),
        may("wall_clock", Exact(32), "How started_at was read where the clocks changed; NULL: plain"),
        may("anumber", Number(), "Caller, as sent: UK national without the leading 0; empty: withheld"),
        may("anumber_location", Exact(), "Where or what the caller is, as sent"),
        may("bnumber", Number(), "Number called, as sent: UK national without the leading 0"),
        may("alias", Exact(), "Name given to the number, as sent; empty or - where there is none"),
        may("dialled", Number(), "Where the call was sent, as sent: 0 nowhere, digits, or V: and an e-mail address"),
        may("dialled_location", Exact(), "Where or what that is, as sent"),
        must("duration", sa.Integer(), "Seconds"),
        may("ring_time", sa.Integer(), "Seconds"),
        must("user_cost", Pounds(18), f"Cost, {MICROS}"),
        may("reason", sa.Integer(), "Why the call ended, the operator's code; 1: completed"),
        may("reason_q805", sa.Integer(), "A second code of the operator's for why it ended"),
        may("has_recorded_call", sa.Boolean(), "A recording is kept; NULL: the operator did not say"),
        may("has_voicemail_recording", sa.Boolean(), "A voicemail is kept; NULL: the operator did not say"),
        may("has_fax_document", sa.Boolean(), "A fax is kept; NULL: the operator did not say"),
        may("extra", JsonText(), "Elements that cdrsync does not know: name and text"),
        must("first_seen_at", Instant(), "When the row was first stored, UTC"),
        must("changed_at", Instant(), "When a value of the row last changed, UTC"),
        json_check("extra IS NULL OR json_valid(extra)", "extra_json"),
        key=("account_id", "uid"),
        sqlite_with_rowid=False,
    ),
    "number": table(
        "Each distinct number of the calls once, as sent",
        must("number", Number(320), "As in cdr.anumber, bnumber or dialled"),
        may("e164", Number(32), "International form with +; NULL where it is no telephone number"),
        may("kind", Exact(32), "mobile, geographic, freephone and so on; NULL: not classified yet"),
        may("region", Exact(8), "Country, ISO 3166"),
        may("rules_version", Exact(32), "Edition of the numbering rules that said so; NULL: not classified yet"),
        may("national", Number(32), "As dialled in the UK: 0 and the number, or 00 and the country's code"),
        may("kind_source", Exact(16), "Who says the kind: plan (the public ones) or operator (its own words)"),
        may("usual", Number(32), "As the operator writes it: 7700900123; NULL: it is written so, or is none"),
        must("first_seen_at", Instant(), "UTC"),
        key=("number",),
    ),
    "audit_result": table(
        "Each comparison of what is held with the operator's totals",
        numbered("Order of the audits"),
        *of_account("audit_result"),
        must("period", Exact(16), "day, week, month, last-month or all"),
        may("number", Number(320), "The number compared; NULL: all of the account"),
        may("first_day", sa.Date(), "First day compared, UK wall clock; NULL: from the beginning"),
        may("last_day", sa.Date(), "Last day compared, UK wall clock"),
        must("audited_at", Instant(), "UTC"),
        must("verdict", Exact(16), "complete, gap, healed, accepted or unaudited"),
        may("held_calls", sa.Integer(), "Calls held"),
        may("held_duration", sa.BigInteger(), "Their duration, seconds"),
        may("held_charge", Pounds(24), f"Their cost, {MICROS}"),
        may("operator_calls", sa.Integer(), "Calls the operator counts"),
        may("operator_duration", sa.BigInteger(), "Duration the operator states, seconds"),
        may("operator_charge", Pounds(24), "Charge the operator states, pounds (SQLite: millionths)"),
        may("interpretation", Exact(), "How the operator's undocumented figures had to be read to agree"),
        may("note", Exact(), "The finding in words"),
    ),
    "cdr_change": table(
        "History: each known value of a call that the operator changed later",
        numbered("Order of the changes"),
        *of_account("cdr_change"),
        must("uid", sa.BigInteger(), "The call, cdr.uid"),
        must("changed_at", Instant(), "When we saw it, UTC"),
        must("column_name", Exact(32), "Column of cdr"),
        may("old_value", Exact(), "Before, as text"),
        may("new_value", Exact(), "After, as text"),
    ),
    "checkpoint": table(
        "How far each stream of an account has come; written only with the records it speaks of",
        *of_account("checkpoint"),
        must("stream", Exact(64), "tail: the newest calls. backfill: history"),
        may("high_water_uid", sa.BigInteger(), "Highest uid up to which the stream is held; never moves backwards"),
        may("high_water_ended_at", Instant(), "When it was reached, by the operator's clock, UTC"),
        may("window_first", sa.Date(), "First day of the job, UK wall clock"),
        may("window_last", sa.Date(), "Last day of the job, UK wall clock"),
        may("begun_at", Instant(), "When the job began, UTC"),
        must("done", sa.Boolean(), "The job has reached its end"),
        must("updated_at", Instant(), "When this row was last written, UTC"),
        key=("account_id", "stream"),
    ),
    "coverage": table(
        "The ledger of days: what is held of each, and what an audit said",
        *of_account("coverage"),
        must("call_date", sa.Date(), "Day, UK wall clock"),
        must("calls", sa.Integer(), "Calls held"),
        must("duration", sa.BigInteger(), "Their duration, seconds"),
        must("charge", Pounds(24), f"Their cost, {MICROS}"),
        may("downloaded_at", Instant(), "When the whole day was last read to its end, UTC; NULL: never"),
        may("audited_at", Instant(), "When it was last compared with the operator's totals, UTC"),
        must("verdict", Exact(16), "unaudited, complete, gap, healed or accepted"),
        may("operator_calls", sa.Integer(), "Calls the operator counts, where it stated this day"),
        may("operator_duration", sa.BigInteger(), "Duration the operator states, seconds"),
        may("operator_charge", Pounds(24), "Charge the operator states, pounds (SQLite: millionths)"),
        may("note", Exact(), "The audit's finding in words, or a person's"),
        may("accepted_calls", sa.Integer(), "Calls too many (less than none: missing) that a person has accepted"),
        may("accepted_duration", sa.BigInteger(), "Their duration, seconds; NULL: not known"),
        may("accepted_charge", Pounds(24), f"Their cost, {MICROS}"),
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
            Exact(16),
            "What retention made of the day's calls: pseudonymise or delete; NULL: nothing. The figures stay",
        ),
        key=("account_id", "call_date"),
    ),
    "call_day": table(
        "Summary: calls of a day added up by hour, number and kind of destination. Days that changed since are absent",
        *of_account("call_day"),
        must(
            "split",
            Exact(16),
            "How the day is split: day (not at all), hour, number, destination; number-month: a month, by number",
        ),
        must("call_date", sa.Date(), "Day, UK wall clock; the first of a month"),
        must("place", sa.Integer(), "Numbers the rows of a day's split", autoincrement=False),
        may("call_hour", sa.Integer(), "Hour of the UK wall clock, where split is hour"),
        may("called_number", Number(), "Number called, as sent, where the split is by number; NULL: not said"),
        may("destination_kind", Exact(32), "Kind of destination, where split is destination"),
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
        must("cost", Pounds(24), f"Their cost, {MICROS}"),
        must("first_call_at", Instant(), "When the first of them began, UTC"),
        must("last_call_at", Instant(), "When the last of them began, UTC"),
        may("named_uid", sa.BigInteger(), "Highest uid of those whose number has a name"),
        key=("account_id", "split", "call_date", "place"),
    ),
    "operator_totals": table(
        "The operator's own totals (GetTotals) as fetched",
        numbered("Order of the answers"),
        *of_account("operator_totals"),
        must("period", Exact(16), "day, week, month, last-month or all"),
        may("number", Number(320), "The number asked for; NULL: all of the account"),
        must("fetched_at", Instant(), "The operator's clock, UTC"),
        may("answered", sa.Integer(), "AnsweredTotal; NULL where it could not be read"),
        may("missed", sa.Integer(), "MissedTotal"),
        may("voicemail", sa.Integer(), "VoicemailTotal"),
        may("minutes_no_format", Pounds(24), "MinsTotalNoFormat: its unit is not documented (SQLite: millionths)"),
        may("charge", Pounds(24), f"ChargeTotal, {MICROS}"),
        must("texts", JsonText(), "Every figure as sent: element and text"),
        may("unusable", Exact(), "Figures that could not be read, one a line"),
        json_check("json_valid(texts)", "texts_json"),
    ),
    "reject": table(
        "Quarantine: records that could not be typed or held, kept as sent",
        numbered("Number for cdrsync rejects show"),
        *of_account("reject"),
        may("uid", sa.BigInteger(), "The operator's uid, where it could be read"),
        must("raw", Exact(long=True), "The record as sent, XML"),
        must("problem", Exact(), "What is wrong with it"),
        must("fingerprint", Exact(64), "SHA-256 of raw: the same record is kept once"),
        must("seen", sa.Integer(), "How often it came"),
        must("first_seen_at", Instant(), "UTC"),
        must("last_seen_at", Instant(), "UTC"),
        may("resolved_at", Instant(), "When the record could be stored after all, UTC; NULL: still open"),
        may("dismissed_at", Instant(), "When a person said that nothing more is to be done about it, UTC"),
        may("dismissed_note", Exact(), "Why"),
        sa.UniqueConstraint("account_id", "fingerprint", name="uq_reject_account_id_fingerprint"),
    ),
    "sync_run": table(
        "Work done: one row for each catch-up, backfill, sweep or audit that did something",
        numbered("Our number of the run"),
        *of_account("sync_run"),
        must("origin", Exact(32), "Which step of the algorithm: tail, backfill, sweep and so on"),
        must("started_at", Instant(), "UTC"),
        may("ended_at", Instant(), "UTC; NULL: running, or killed"),
        may("outcome", Exact(32), "ok, or the kind of failure"),
        must("inserted", sa.Integer(), "New calls"),
        must("updated", sa.Integer(), "Calls that changed"),
        must("unchanged", sa.Integer(), "Calls already held"),
        must("rejected", sa.Integer(), "Records put into quarantine"),
        may("message", Exact(), "The failure in words"),
    ),
    "erasure": table(
        "Log of what was erased, and the rules by which it stays so",
        numbered("Order of the erasures"),
        *of_account("erasure"),
        must("what", Exact(16), "pseudonymise or delete (calls of old days), or number (one person's)"),
        may("before_day", sa.Date(), "The calls of the days before this one, UK wall clock"),
        may("token", Exact(64), "Keyed hash by which the number is known again; the number is kept nowhere"),
        may("key_check", Exact(64), "Tells whether pseudonym_key is still the same"),
        must("begun_at", Instant(), "UTC. From then on it holds for whatever comes in"),
        may("ended_at", Instant(), "When all that was held had been treated, UTC; NULL: not yet"),
        must("calls", sa.Integer(), "Calls treated"),
        must("rejects", sa.Integer(), "Records of the quarantine treated"),
        may("found", Exact(), "What was found where: table and column, and how often"),
    ),
}

INDEXES = {
    "ix_lease_replica_id": index("lease", "replica_id"),
    "ix_cdr_anumber": index("cdr", "anumber", "started_at", **on_mysql(length={"anumber": 32})),
    "ix_cdr_bnumber": index("cdr", "bnumber", **on_mysql(length=32)),
    "ix_cdr_day": index("cdr", "call_date", "account_id", "uid", "duration", "user_cost"),
    "ix_cdr_started_at": index("cdr", "started_at"),
    "ix_cdr_uid": index("cdr", "uid"),
    "ix_number_usual": index("number", "usual"),
    "ix_audit_result_account_id_audited_at": index("audit_result", "account_id", "audited_at"),
    "ix_cdr_change_account_id_uid": index("cdr_change", "account_id", "uid"),
    "ix_operator_totals_account_id_fetched_at": index("operator_totals", "account_id", "fetched_at"),
    "ix_reject_account_id_uid": index("reject", "account_id", "uid"),
    "ix_sync_run_account_id_started_at": index("sync_run", "account_id", "started_at"),
    "ix_erasure_account_id": index("erasure", "account_id"),
}
