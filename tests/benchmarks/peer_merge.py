"""The usual cron script: the good script's table and pages, saved by the ORM's `merge`, row by row."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from sqlalchemy.orm import Session, registry

sys.path.insert(0, str(Path(__file__).parent))

from peer_good_script import CDR, open_database, pages, rows  # type: ignore[import-not-found] # beside this file


class Call:
    """A row of `cdr`."""


def main() -> None:
    """Save every page of the range."""
    env = os.environ
    registry().map_imperatively(Call, CDR)
    engine = open_database(env["BENCH_DATABASE_URL"])
    login = (
        '<Request target="Auth" name="SessionLogin" id="SessionRequest">'
        f"<Username>{env['BENCH_USERNAME']}</Username><Password>{env['BENCH_PASSWORD']}</Password>"
        f"<VKey>{env['BENCH_VKEY']}</VKey></Request>"
    )
    exact_integers = engine.dialect.name == "sqlite"
    first, last = env["BENCH_FIRST_DAY"], env["BENCH_END_DAY"]
    for cdrs in pages(env["BENCH_API_URL"], login, high_water=None, first=first, last=last):
        with Session(engine) as session, session.begin():
            for row in rows(cdrs, exact_integers=exact_integers):
                call = Call()
                for name, value in row.items():
                    setattr(call, name, value)
                session.merge(call)


if __name__ == "__main__":
    main()
