"""Brings the schema up to date in a process of its own: what that needs, 25 MB, goes with it.

For a daemon, which would keep it for as long as it runs. The address, with its password, goes by standard input; what
went wrong comes back as it was raised.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import TYPE_CHECKING

from cdrsync.errors import CdrsyncError
from cdrsync.store.databases.engine import open_engine, url_of

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine


def upgrade(engine: Engine) -> None:
    """As `migrate.upgrade` does. Raises what that raises."""
    url = url_of(engine).render_as_string(hide_password=False)
    command = [sys.executable, "-P", "-c", f"from {__name__} import main; main()"]
    done = subprocess.run(command, input=url.encode(), capture_output=True, check=False)  # noqa: S603 - this very program
    if done.returncode:
        said = done.stderr.decode(errors="replace").splitlines()
        raise RuntimeError(f"the upgrade of the schema ended with {done.returncode}: {said[-1] if said else ''}")
    error = pickle.loads(done.stdout)  # noqa: S301 - our own process wrote it
    if error is not None:
        raise error


def main() -> None:
    """The process: the address on standard input, on standard output the error or None."""
    from cdrsync.store.admin import migrate

    error = None
    engine = open_engine(sys.stdin.buffer.read().decode())
    try:
        migrate.upgrade(engine)
    except CdrsyncError as raised:
        error = raised
    finally:
        engine.dispose()
    sys.stdout.buffer.write(pickle.dumps(error))
