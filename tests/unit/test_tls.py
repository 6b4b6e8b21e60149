"""TLS to MySQL and MariaDB: what the URL says counts; a socket of this machine needs none."""

from __future__ import annotations

import ssl

import certifi
import pytest
from sqlalchemy import make_url

from cdrsync.store.databases.choose import kind_of


@pytest.mark.parametrize(
    ("query", "disabled", "verified"),
    [
        ("", False, None),  # the driver's own way: TLS where the server has it
        ("?ssl_disabled=true", True, None),
        (f"?ssl_ca={certifi.where()}", False, ssl.CERT_REQUIRED),
        ("?ssl_mode=REQUIRED", False, ssl.CERT_NONE),
        ("?unix_socket=/run/mysqld.sock", True, None),
        (f"?unix_socket=/run/mysqld.sock&ssl_ca={certifi.where()}", False, ssl.CERT_REQUIRED),
    ],
)
def test_what_the_url_says_of_tls_is_what_the_driver_is_told(
    query: str, *, disabled: bool, verified: ssl.VerifyMode | None
) -> None:
    url = make_url(f"mysql+pymysql://user@db/calls{query}")
    told = kind_of("mysql").connect_arguments(url, writer=False)
    assert told.get("ssl_disabled", False) is disabled
    context = told.get("ssl")
    assert (context.verify_mode if context else None) == verified
