"""Databases for tests that need several, one after the other."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from cdrsync.store.admin import migrate
from cdrsync.store.databases.engine import open_engine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.databases import DatabaseServer


def upgraded(url: str) -> str:
    """The same URL, with today's tables behind it."""
    engine = open_engine(url)
    migrate.upgrade(engine)
    engine.dispose()
    return url


_made: dict[DatabaseServer, str] = {}  # a database of each server to copy


@contextmanager
def fresh(server: DatabaseServer) -> Iterator[str]:
    """The URL of a new database with today's tables, gone at the end."""
    if server not in _made:
        _made[server] = upgraded(server.create())
    url = server.copy(_made[server])
    try:
        yield url
    finally:
        server.drop(url)
