"""TLS to MySQL and MariaDB: what the URL says counts; a socket of this machine needs none."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event

from cdrsync.store.databases.engine import open_engine


class Told(Exception):
    """What the driver would have been told."""


@pytest.mark.parametrize(
    ("query", "disabled"),
    [
        ("", None),
        ("?ssl_disabled=true", "true"),
        ("?ssl_ca=/etc/ca.pem", None),
        ("?unix_socket=/run/mysqld.sock", True),
        ("?unix_socket=/run/mysqld.sock&ssl_ca=/etc/ca.pem", None),
    ],
)
def test_what_the_url_says_of_tls_is_what_the_driver_is_told(query: str, disabled: object) -> None:
    engine = open_engine(f"mysql+pymysql://user@db/calls{query}")

    @event.listens_for(engine, "do_connect")
    def look(dialect: Any, record: Any, arguments: Any, named: dict[str, Any]) -> None:
        del dialect, record, arguments
        raise Told(named.get("ssl_disabled"))

    with pytest.raises(Told) as told:
        engine.connect()
    assert told.value.args == (disabled,)
