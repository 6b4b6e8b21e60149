"""How Alembic reaches the database: the same for `cdrsync db upgrade` and for `alembic upgrade head`.

Uses the connection it is given (`config.attributes["connection"]`); otherwise opens `-x url=…`, else
CDRSYNC_DATABASE_URL, else alembic.ini's. Holds a lock, so that of two upgraders the second finds the work done.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from alembic import context

from cdrsync.store.admin.migrate import UpgradeLock
from cdrsync.store.databases.choose import kind_of
from cdrsync.store.databases.engine import open_engine
from cdrsync.store.schema.tables import metadata

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection


def database_url() -> str:
    given = context.get_x_argument(as_dictionary=True).get("url") or os.environ.get("CDRSYNC_DATABASE_URL")
    return given or context.config.get_main_option("sqlalchemy.url", "")


def run_offline() -> None:
    context.configure(url=database_url(), target_metadata=metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


def run_on(connection: Connection) -> None:
    kind = kind_of(connection.dialect.name)
    lock = UpgradeLock(connection)
    with lock.held():
        context.configure(
            connection=connection,
            target_metadata=metadata,
            render_as_batch=kind.alters_by_copy,
            # SQLite: one transaction over all, begun before the version is read: it is the lock as well.
            transaction_per_migration=not kind.alters_by_copy,
            transactional_ddl=kind.transactional_ddl,
            on_version_apply=lock.check,
        )
        with context.begin_transaction():
            context.run_migrations()
        if connection.in_transaction():
            connection.commit()


def run_online() -> None:
    connection = context.config.attributes.get("connection")
    if connection is not None:
        run_on(connection)
        return
    engine = open_engine(database_url())
    with engine.connect() as own:
        run_on(own)
    engine.dispose()


if context.is_offline_mode():
    run_offline()
else:
    run_online()
