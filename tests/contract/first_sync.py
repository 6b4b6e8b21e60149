"""What a first sync and the doctor make of a database, in a few words."""

from __future__ import annotations

from typing import Any

from cdrsync.store.admin import migrate
from cdrsync.store.databases.choose import kind_of
from cdrsync.store.databases.engine import open_engine
from tests.support.examples import FIRST, page
from tests.support.stores import OwnStore


def synced(url: str, *cdrs: Any) -> Any:
    """A first sync in a few words: schema, lease, one page."""
    engine = open_engine(url)
    try:
        migrate.upgrade(engine)
    finally:
        engine.dispose()
    store = OwnStore(url, "main")
    store.open()
    try:
        return store.save(page(*(cdrs or [FIRST])))
    finally:
        store.close()


def obstacles(url: str) -> str:
    """What the doctor says of a database."""
    engine = open_engine(url)
    with engine.connect() as connection:
        found = list(kind_of(engine.dialect.name).obstacles(connection))
    engine.dispose()
    return "; ".join(f"{one.what} → {one.remedy}" for one in found)
