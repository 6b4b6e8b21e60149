"""`cdrsync doctor` before a sync comes upon what is wrong with a database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import make_url

from tests.support.databases import MariadbServer, PostgresqlServer, database_name
from tests.support.operator import Settings, World, running
from tests.support.processes import cdrsync, environment

if TYPE_CHECKING:
    from tests.conftest import Database


def test_what_a_user_may_not_do(database: Database) -> None:
    """Exit 78, what lacks, and the statement that mends it."""
    name = f"poor_{database_name(database.url)}"[:32]
    if isinstance(database.server, PostgresqlServer):
        database.server.execute(f"CREATE ROLE {name} LOGIN")
        url = database.url.replace("postgres@", f"{name}@")
    elif isinstance(database.server, MariadbServer):
        database.server.execute(f"CREATE USER {name}@'%' IDENTIFIED BY ''")
        database.server.execute(f"GRANT SELECT ON {database_name(database.url)}.* TO {name}@'%'")
        url = make_url(database.url).set(username=name).render_as_string(hide_password=False)
    else:
        pytest.skip("SQLite has no users")
    with running(World(Settings())) as api:
        run = cdrsync("doctor", env=environment(api, url))
    assert run.returncode == 78
    assert "FAIL  permissions" in run.stdout
    assert "GRANT " in run.stdout
