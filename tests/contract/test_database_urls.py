"""URLs of databases as providers hand them out: what their options mean, and which are refused."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import make_url

from cdrsync.config import values
from cdrsync.errors import ConfigError
from cdrsync.store.databases import choose
from cdrsync.store.databases.choose import kind_of
from cdrsync.store.databases.engine import open_engine
from cdrsync.store.databases.errors import translated

POSTGRESQL = "postgresql+psycopg://user@127.0.0.1:5432/name"
MYSQL = "mysql+pymysql://user@127.0.0.1:3306/name"


def arguments(url: str) -> dict[str, Any]:
    """What the driver is told by a URL."""
    engine = open_engine(url)
    return dict(engine.dialect.create_connect_args(engine.url)[1])


def test_the_configuration_takes_every_known_database() -> None:
    """A scheme that `choose` knows is one that `database_url` may begin with, alone and with its driver's name."""
    for dialect, known in choose._KNOWN.items():
        schemes = {dialect, f"{dialect}+{known.driver}" if known.extra else dialect}
        assert schemes <= set(values.DATABASE_SCHEMES), f"{dialect} is missing in cdrsync/config/values.py"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgres://user@host/name", {"host": "host", "dbname": "name"}),
        ("postgres://user@h1:5432,h2:5433/name", {"host": "h1,h2", "port": "5432,5433"}),
        ("postgresql://user:a%2Cb@h1,h2/name?target_session_attrs=read-write", {"host": "h1,h2", "password": "a,b"}),
        (f"{POSTGRESQL}?ssl-mode=REQUIRED", {"sslmode": "require"}),
        (f"{POSTGRESQL}?sslmode=VERIFY_IDENTITY&sslrootcert=ca.pem", {"sslmode": "verify-full"}),
        (f"{POSTGRESQL}?ssl=true", {"sslmode": "require"}),
        (f"{POSTGRESQL}?schema=calls", {"options": '-csearch_path="calls"'}),
        (f"{POSTGRESQL}?schema=Big%20Calls", {"options": '-csearch_path="Big\\ Calls"'}),
        (f'{POSTGRESQL}?search_path="$user", Calls', {"options": '-csearch_path="$user","Calls"'}),
        (f"{POSTGRESQL}?pgbouncer=true&connection_limit=1", {"host": "127.0.0.1"}),
        (f"{POSTGRESQL}?sslmode=require&channel_binding=require", {"channel_binding": "require"}),
        (f"{MYSQL}?charset=utf8mb4", {"host": "127.0.0.1"}),
    ],
)
def test_urls_as_providers_hand_them_out(url: str, told: dict[str, str]) -> None:
    """What is meant is clear, so it is done; what other clients need and we do not is left out."""
    found = arguments(url)
    assert {name: found.get(name) for name in told} == told
    assert not {"pgbouncer", "schema", "ssl-mode", "connection_limit"} & found.keys()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"{POSTGRESQL}?sslmode=maybe", "sslmode=maybe is none of disable, allow"),
        (f"{POSTGRESQL}?colour=red", "PostgreSQL does not know: colour"),
        (f"{MYSQL}?colour=red", "driver does not know: colour"),
        (f"{MYSQL}?ssl=true", "ssl= does not say whom to trust"),
        (f"{MYSQL}?ssl-mode=MAYBE", "ssl-mode=MAYBE is none of DISABLED, PREFERRED"),
        (f"{MYSQL}?ssl_verify_identity=perhaps", "neither true nor false"),
        (f"{MYSQL}?ssl_ca=/nonexistent/ca.pem", "TLS can't be prepared with ssl_ca=/nonexistent/ca.pem: No such file"),
        ("mysql://user@h1:3306,h2:3306/name", "driver does not know: host"),
    ],
)
def test_options_that_nobody_knows_are_named(url: str, words: str) -> None:
    """Before anything is connected, with what to write instead."""
    with pytest.raises(ConfigError, match=words) as refused:
        open_engine(url)
    assert refused.value.hint


@pytest.mark.parametrize("url", [f"{POSTGRESQL}?connect_timeout=soon", f"{MYSQL}?connect_timeout=soon"])
def test_an_option_that_is_to_be_a_number(url: str) -> None:
    """Said before or at the first connection, and a matter of configuration."""
    with pytest.raises(ConfigError, match=r"option that can't be read: .*soon"), translated():
        open_engine(url).connect()


@pytest.mark.parametrize(
    ("query", "verified", "host"),
    [
        ("ssl_mode=REQUIRED", False, False),
        ("ssl-mode=REQUIRED", False, False),
        ("ssl_mode=VERIFY_CA", True, False),
        ("sslmode=verify-full", True, True),
        ("ssl_verify_identity=true", True, True),
        ("ssl_check_hostname=true", True, True),
        ("ssl_verify_cert=true", True, True),
        ("ssl_verify_cert=true&ssl_verify_identity=false", True, False),
        ("ssl_verify_cert=false", False, False),
    ],
)
def test_what_tls_options_of_mysql_mean(query: str, verified: bool, host: bool) -> None:
    """The strictest of what may be meant."""
    url = make_url(f"{MYSQL}?{query}")
    context = kind_of("mysql").connect_arguments(url, writer=False)["ssl"]
    assert (context.verify_mode.name == "CERT_REQUIRED", context.check_hostname) == (verified, host)
