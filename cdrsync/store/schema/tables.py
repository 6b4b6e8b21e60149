"""The tables: one definition for SQLite, PostgreSQL, MySQL and MariaDB. Migrations make them; tests hold the two equal.

The table `cdr` holds what the operator's API said, in its own words (`noverocdr-api`, GetCDRs); the views hold what
people mean. Every comment here ends up in the database where it has comments.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    UniqueConstraint,
    false,
)

from cdrsync.store.schema.types import Exact, Instant, JsonText, Number, Pounds, WallTime, json_check

ACCOUNT_NAME_LENGTH = 128
STREAM_LENGTH = 64
NUMBER_LENGTH = 320  # an e-mail address after "V:" is the longest thing dialled; longer texts are no numbers

# What only CREATE says (engines, lengths of indexed prefixes, WITHOUT ROWID, BRIN) stands in the migrations: an option
# of a dialect named here would import that dialect at every start.
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite hands out 64-bit ids only for a column declared INTEGER.
_Id = BigInteger().with_variant(Integer(), "sqlite")


def _table(name: str, comment: str, *parts: Any) -> Table:
    return Table(name, metadata, *parts, comment=comment)


def _account_id(**options: Any) -> Column[int]:
    return Column(
        "account_id", Integer, ForeignKey("account.id"), nullable=False, comment="The account, account.id", **options
    )


account = _table(
    "account",
    "One operator login whose calls are kept",
    Column("id", Integer, primary_key=True, comment="Our number of the account"),
    Column("name", Exact(ACCOUNT_NAME_LENGTH), nullable=False, comment="Its name in the configuration"),
    Column("created_at", Instant, nullable=False, comment="When it was first used, UTC"),
    Column(
        "erasures",
        Integer,
        nullable=False,
        server_default="0",
        comment="Grows with every erasure: a writer that knows of fewer reads the table erasure again",
    ),
    Column("numbering", Integer, nullable=False, server_default="0", comment="Grows when kinds of numbers change"),
    Column("login", Exact(32), comment="Which login it is: a fingerprint of its username. NULL: not known yet"),
    Column(
        "retry_asked_at", Instant, comment="When a person asked the daemon to try at once; NULL: nobody waits for it"
    ),
    UniqueConstraint("name"),
    UniqueConstraint("login"),
)

# These two hold off a second upgrader, so they are there before the first migration.
replica = _table(
    "replica",
    "One running process that works on this database",
    Column("id", Exact(32), primary_key=True, comment="Random, at each joining"),
    Column("host", Exact, nullable=False, comment="Name of its machine"),
    Column("process", BigInteger, nullable=False, comment="Its process id there"),
    Column("machine", Exact, comment="Machine id, boot id and pid namespace: who has the same can see whether it runs"),
    Column("process_started", BigInteger, comment="Clock ticks from the machine's start to the process's"),
    Column("shares", Boolean, nullable=False, comment="A daemon, which takes its part of the accounts"),
    Column("joined_at", Instant, nullable=False, comment="By the database's clock, UTC"),
    Column("beat_at", Instant, nullable=False, comment="When it last said that it lives, by the database's clock, UTC"),
)

lease = _table(
    "lease",
    "Who may write for an account: every write of the account begins by writing this row",
    Column("account_id", Integer, primary_key=True, autoincrement=False, comment="account.id; 0: the schema itself"),
    Column("replica_id", Exact(32), comment="Its holder, replica.id; NULL: free"),
    Column("token", Exact(32), comment="Random, at each taking: who has another one has lost the lease"),
    Column("taken_at", Instant, comment="By the database's clock, UTC"),
    Column("commits", BigInteger, nullable=False, comment="Transactions committed by its holders"),
    Column("interventions", BigInteger, nullable=False, comment="Transactions beside them: erasure, retention, grants"),
    Index(None, "replica_id"),
)

SCHEMA_ID = 0
"""Of the lease of who upgrades the schema: no account has this number."""

UNDER_THE_MIGRATIONS = (replica, lease)

checkpoint = _table(
    "checkpoint",
    "How far each stream of an account has come; written only with the records it speaks of",
    _account_id(primary_key=True),
    Column("stream", Exact(STREAM_LENGTH), primary_key=True, comment="tail: the newest calls. backfill: history"),
    Column("high_water_uid", BigInteger, comment="Highest uid up to which the stream is held; never moves backwards"),
    Column("high_water_ended_at", Instant, comment="When it was reached, by the operator's clock, UTC"),
    Column("window_first", Date, comment="First day of the job, UK wall clock"),
    Column("window_last", Date, comment="Last day of the job, UK wall clock"),
    Column("begun_at", Instant, comment="When the job began, UTC"),
    Column("done", Boolean, nullable=False, comment="The job has reached its end"),
    Column("updated_at", Instant, nullable=False, comment="When this row was last written, UTC"),
)

coverage = _table(
    "coverage",
    "The ledger of days: what is held of each, and what an audit said",
    _account_id(primary_key=True),
    Column("call_date", Date, primary_key=True, comment="Day, UK wall clock"),
    Column("calls", Integer, nullable=False, comment="Calls held"),
    Column("duration", BigInteger, nullable=False, comment="Their duration, seconds"),
    Column("charge", Pounds(24), nullable=False, comment="Their cost, pounds (SQLite: millionths of a pound)"),
    Column("downloaded_at", Instant, comment="When the whole day was last read to its end, UTC; NULL: never"),
    Column("audited_at", Instant, comment="When it was last compared with the operator's totals, UTC"),
    Column("verdict", Exact(16), nullable=False, comment="unaudited, complete, gap, healed or accepted"),
    Column("operator_calls", Integer, comment="Calls the operator counts, where it stated this day"),
    Column("operator_duration", BigInteger, comment="Duration the operator states, seconds"),
    Column("operator_charge", Pounds(24), comment="Charge the operator states, pounds (SQLite: millionths)"),
    Column("note", Exact, comment="The audit's finding in words, or a person's"),
    Column("accepted_calls", Integer, comment="Calls too many (less than none: missing) that a person has accepted"),
    Column("accepted_duration", BigInteger, comment="Their duration, seconds; NULL: not known"),
    Column("accepted_charge", Pounds(24), comment="Their cost, pounds (SQLite: millionths of a pound)"),
    Column(
        "summed",
        Boolean,
        nullable=False,
        server_default=false(),
        comment="Whether call_day has the day. Whoever changes a call of it takes it away there",
    ),
    Column(
        "in_month",
        Boolean,
        nullable=False,
        server_default=false(),
        comment="Whether call_day has the day's month as well. All days of a month alike",
    ),
    Column("numbering", Integer, nullable=False, server_default="0", comment="account.numbering of its destinations"),
    Column(
        "pruned",
        Exact(16),
        comment="What retention made of the day's calls: pseudonymise or delete; NULL: nothing. The figures stay",
    ),
)

call_day = _table(
    "call_day",
    "Summary: calls of a day added up by hour, number and kind of destination. Days that changed since are absent",
    _account_id(primary_key=True),
    Column(
        "split",
        Exact(16),
        primary_key=True,
        comment="How the day is split: day (not at all), hour, number, destination; number-month: a month, by number",
    ),
    Column("call_date", Date, primary_key=True, comment="Day, UK wall clock; the first of a month"),
    Column("place", Integer, primary_key=True, autoincrement=False, comment="Numbers the rows of a day's split"),
    Column("call_hour", Integer, comment="Hour of the UK wall clock, where split is hour"),
    Column("called_number", Number, comment="Number called, as sent, where the split is by number; NULL: not said"),
    Column("destination_kind", Exact(32), comment="Kind of destination, where split is destination"),
    Column("calls", BigInteger, nullable=False, comment="Calls"),
    Column("answered", BigInteger, nullable=False, comment="Calls with outcome answered"),
    Column("voicemail", BigInteger, nullable=False, comment="Calls with outcome voicemail"),
    Column("missed", BigInteger, nullable=False, comment="Calls with outcome missed"),
    Column("unknown", BigInteger, nullable=False, comment="Calls with outcome unknown"),
    Column("withheld", BigInteger, nullable=False, comment="Calls whose caller is withheld"),
    Column("duration", BigInteger, nullable=False, comment="Their duration, seconds"),
    Column("answered_duration", BigInteger, nullable=False, comment="Duration of the answered calls, seconds"),
    Column("answered_timed", BigInteger, nullable=False, comment="Answered calls whose ring time was said"),
    Column("answered_ring_time", BigInteger, nullable=False, comment="Ring time of these, seconds"),
    Column("answered_in_20_s", BigInteger, nullable=False, comment="Calls answered within 20 seconds"),
    Column("cost", Pounds(24), nullable=False, comment="Their cost, pounds (SQLite: millionths of a pound)"),
    Column("first_call_at", Instant, nullable=False, comment="When the first of them began, UTC"),
    Column("last_call_at", Instant, nullable=False, comment="When the last of them began, UTC"),
    Column("named_uid", BigInteger, comment="Highest uid of those whose number has a name"),
)

reject = _table(
    "reject",
    "Quarantine: records that could not be typed or held, kept as sent",
    Column("id", _Id, primary_key=True, comment="Number for cdrsync rejects show"),
    _account_id(),
    Column("uid", BigInteger, comment="The operator's uid, where it could be read"),
    Column("raw", Exact(long=True), nullable=False, comment="The record as sent, XML"),
    Column("problem", Exact, nullable=False, comment="What is wrong with it"),
    Column("fingerprint", Exact(64), nullable=False, comment="SHA-256 of raw: the same record is kept once"),
    Column("seen", Integer, nullable=False, comment="How often it came"),
    Column("first_seen_at", Instant, nullable=False, comment="UTC"),
    Column("last_seen_at", Instant, nullable=False, comment="UTC"),
    Column("resolved_at", Instant, comment="When the record could be stored after all, UTC; NULL: still open"),
    Column("dismissed_at", Instant, comment="When a person said that nothing more is to be done about it, UTC"),
    Column("dismissed_note", Exact, comment="Why"),
    UniqueConstraint("account_id", "fingerprint"),
    Index(None, "account_id", "uid"),
)

sync_run = _table(
    "sync_run",
    "Work done: one row for each catch-up, backfill, sweep or audit that did something",
    Column("id", _Id, primary_key=True, comment="Our number of the run"),
    _account_id(),
    Column("origin", Exact(32), nullable=False, comment="Which step of the algorithm: tail, backfill, sweep and so on"),
    Column("started_at", Instant, nullable=False, comment="UTC"),
    Column("ended_at", Instant, comment="UTC; NULL: running, or killed"),
    Column("outcome", Exact(32), comment="ok, or the kind of failure"),
    Column("inserted", Integer, nullable=False, comment="New calls"),
    Column("updated", Integer, nullable=False, comment="Calls that changed"),
    Column("unchanged", Integer, nullable=False, comment="Calls already held"),
    Column("rejected", Integer, nullable=False, comment="Records put into quarantine"),
    Column("message", Exact, comment="The failure in words"),
    Index(None, "account_id", "started_at"),
)

cdr_change = _table(
    "cdr_change",
    "History: each known value of a call that the operator changed later",
    Column("id", _Id, primary_key=True, comment="Order of the changes"),
    _account_id(),
    Column("uid", BigInteger, nullable=False, comment="The call, cdr.uid"),
    Column("changed_at", Instant, nullable=False, comment="When we saw it, UTC"),
    Column("column_name", Exact(32), nullable=False, comment="Column of cdr"),
    Column("old_value", Exact, comment="Before, as text"),
    Column("new_value", Exact, comment="After, as text"),
    Index(None, "account_id", "uid"),
)

number = _table(
    "number",
    "Each distinct number of the calls once, as sent",
    Column("number", Number(NUMBER_LENGTH), primary_key=True, comment="As in cdr.anumber, bnumber or dialled"),
    Column("e164", Number(32), comment="International form with +; NULL where it is no telephone number"),
    Column("kind", Exact(32), comment="mobile, geographic, freephone and so on; NULL: not classified yet"),
    Column("region", Exact(8), comment="Country, ISO 3166"),
    Column("rules_version", Exact(32), comment="Edition of the numbering rules that said so; NULL: not classified yet"),
    Column("national", Number(32), comment="As dialled in the UK: 0 and the number, or 00 and the country's code"),
    Column("kind_source", Exact(16), comment="Who says the kind: plan (the public ones) or operator (its own words)"),
    Column("usual", Number(32), comment="As the operator writes it: 7700900123; NULL: it is written so, or is none"),
    Column("first_seen_at", Instant, nullable=False, comment="UTC"),
    Index("ix_number_usual", "usual"),  # all spellings of one number: nearly always there is none but the usual one
)

audit_result = _table(
    "audit_result",
    "Each comparison of what is held with the operator's totals",
    Column("id", _Id, primary_key=True, comment="Order of the audits"),
    _account_id(),
    Column("period", Exact(16), nullable=False, comment="day, week, month, last-month or all"),
    Column("number", Number(NUMBER_LENGTH), comment="The number compared; NULL: all of the account"),
    Column("first_day", Date, comment="First day compared, UK wall clock; NULL: from the beginning"),
    Column("last_day", Date, comment="Last day compared, UK wall clock"),
    Column("audited_at", Instant, nullable=False, comment="UTC"),
    Column("verdict", Exact(16), nullable=False, comment="complete, gap, healed, accepted or unaudited"),
    Column("held_calls", Integer, comment="Calls held"),
    Column("held_duration", BigInteger, comment="Their duration, seconds"),
    Column("held_charge", Pounds(24), comment="Their cost, pounds (SQLite: millionths of a pound)"),
    Column("operator_calls", Integer, comment="Calls the operator counts"),
    Column("operator_duration", BigInteger, comment="Duration the operator states, seconds"),
    Column("operator_charge", Pounds(24), comment="Charge the operator states, pounds (SQLite: millionths)"),
    Column("interpretation", Exact, comment="How the operator's undocumented figures had to be read to agree"),
    Column("note", Exact, comment="The finding in words"),
    Index(None, "account_id", "audited_at"),
)

operator_totals = _table(
    "operator_totals",
    "The operator's own totals (GetTotals) as fetched",
    Column("id", _Id, primary_key=True, comment="Order of the answers"),
    _account_id(),
    Column("period", Exact(16), nullable=False, comment="day, week, month, last-month or all"),
    Column("number", Number(NUMBER_LENGTH), comment="The number asked for; NULL: all of the account"),
    Column("fetched_at", Instant, nullable=False, comment="The operator's clock, UTC"),
    Column("answered", Integer, comment="AnsweredTotal; NULL where it could not be read"),
    Column("missed", Integer, comment="MissedTotal"),
    Column("voicemail", Integer, comment="VoicemailTotal"),
    Column(
        "minutes_no_format", Pounds(24), comment="MinsTotalNoFormat: its unit is not documented (SQLite: millionths)"
    ),
    Column("charge", Pounds(24), comment="ChargeTotal, pounds (SQLite: millionths of a pound)"),
    Column("texts", JsonText, nullable=False, comment="Every figure as sent: element and text"),
    Column("unusable", Exact, comment="Figures that could not be read, one a line"),
    json_check("json_valid(texts)", "texts_json"),
    Index(None, "account_id", "fetched_at"),
)

NUMBER = "number"
"""Of an erasure (`what`): one person's number, for good."""

erasure = _table(
    "erasure",
    "Log of what was erased, and the rules by which it stays so",
    Column("id", _Id, primary_key=True, comment="Order of the erasures"),
    _account_id(),
    Column(
        "what",
        Exact(16),
        nullable=False,
        comment="pseudonymise or delete (calls of old days), or number (one person's)",
    ),
    Column("before_day", Date, comment="The calls of the days before this one, UK wall clock"),
    Column("token", Exact(64), comment="Keyed hash by which the number is known again; the number is kept nowhere"),
    Column("key_check", Exact(64), comment="Tells whether pseudonym_key is still the same"),
    Column("begun_at", Instant, nullable=False, comment="UTC. From then on it holds for whatever comes in"),
    Column("ended_at", Instant, comment="When all that was held had been treated, UTC; NULL: not yet"),
    Column("calls", Integer, nullable=False, comment="Calls treated"),
    Column("rejects", Integer, nullable=False, comment="Records of the quarantine treated"),
    Column("found", Exact, comment="What was found where: table and column, and how often"),
    Index(None, "account_id"),
)

# No foreign key: it would cost a look-up for each of a hundred million rows, and store.save is the only writer.
cdr = _table(
    "cdr",
    "Call data records as the operator's API sent them: one row per call",
    Column("account_id", Integer, primary_key=True, autoincrement=False, comment="The account, account.id"),
    Column("uid", BigInteger, primary_key=True, autoincrement=False, comment="The operator's number of the record"),
    Column("ref", Exact, comment="The operator's reference of the call"),
    Column("call_date", Date, nullable=False, comment="Day the call began, UK wall clock, as sent"),
    Column("call_time", WallTime, nullable=False, comment="Time the call began, UK wall clock, as sent"),
    Column("started_at", Instant, nullable=False, comment="When the call began, UTC, computed from the two"),
    Column("wall_clock", Exact(32), comment="How started_at was read where the clocks changed; NULL: plain"),
    Column("anumber", Number, comment="Caller, as sent: UK national without the leading 0; empty: withheld"),
    Column("anumber_location", Exact, comment="Where or what the caller is, as sent"),
    Column("bnumber", Number, comment="Number called, as sent: UK national without the leading 0"),
    Column("alias", Exact, comment="Name given to the number, as sent; empty or - where there is none"),
    Column(
        "dialled", Number, comment="Where the call was sent, as sent: 0 nowhere, digits, or V: and an e-mail address"
    ),
    Column("dialled_location", Exact, comment="Where or what that is, as sent"),
    Column("duration", Integer, nullable=False, comment="Seconds"),
    Column("ring_time", Integer, comment="Seconds"),
    Column("user_cost", Pounds(18), nullable=False, comment="Cost, pounds (SQLite: millionths of a pound)"),
    Column("reason", Integer, comment="Why the call ended, the operator's code; 1: completed"),
    Column("reason_q805", Integer, comment="A second code of the operator's for why it ended"),
    Column("has_recorded_call", Boolean, comment="A recording is kept; NULL: the operator did not say"),
    Column("has_voicemail_recording", Boolean, comment="A voicemail is kept; NULL: the operator did not say"),
    Column("has_fax_document", Boolean, comment="A fax is kept; NULL: the operator did not say"),
    Column("extra", JsonText, comment="Elements that cdrsync does not know: name and text"),
    Column("first_seen_at", Instant, nullable=False, comment="When the row was first stored, UTC"),
    Column("changed_at", Instant, nullable=False, comment="When a value of the row last changed, UTC"),
    json_check("extra IS NULL OR json_valid(extra)", "extra_json"),
    # Each index costs every insert. The first answers audits without touching the rows, and has a day's calls in the
    # order in which they lie; the second is for the view callbacks.
    Index("ix_cdr_day", "call_date", "account_id", "uid", "duration", "user_cost"),
    Index("ix_cdr_anumber", "anumber", "started_at"),
    Index("ix_cdr_bnumber", "bnumber"),
    Index("ix_cdr_started_at", "started_at"),  # readers filter by time (Grafana) and ask for the newest calls
    Index("ix_cdr_uid", "uid"),  # the newest calls, asked for by uid
)
