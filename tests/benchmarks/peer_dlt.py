"""dlt: the loading library that a data engineer would reach for, with the settings that made it fastest here.

Pages come as in the good script (same requests, same tree); each becomes one Arrow table, which spares dlt its slow
look at every value, and goes to PostgreSQL as CSV by COPY. `merge` with the `upsert` strategy on uid; the highest uid is
dlt's incremental cursor's job, done here by state, as it also decides what to ask for.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dlt
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parent))

from peer_good_script import NAMES, pages, rows  # type: ignore[import-not-found] # beside this file

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXTS = {"ref", "anumber", "anumber_location", "bnumber", "alias", "dialled", "dialled_location"}
TYPES: dict[str, Any] = {
    "uid": pa.int64(),
    "call_date": pa.date32(),
    "call_time": pa.time64("us"),
    "user_cost": pa.decimal128(18, 6),
    "has_recorded_call": pa.bool_(),
    "has_voicemail_recording": pa.bool_(),
    "has_fax_document": pa.bool_(),
}
SCHEMA = pa.schema([(name, TYPES.get(name, pa.string() if name in TEXTS else pa.int32())) for name in NAMES])
AS_ROWS = os.environ.get("BENCH_DLT_ROWS") == "1"


@dlt.resource(name="cdr", write_disposition={"disposition": "merge", "strategy": "upsert"}, primary_key="uid")
def cdr(url: str, login: str, first: str, last: str, *, again: bool) -> Iterator[Any]:
    """Every page: of the whole range at first, after the highest uid of the last run then."""
    state = dlt.current.resource_state()
    high_water = None if again else state.get("high_water")
    for cdrs in pages(url, login, high_water=high_water, first=first, last=last):
        page = rows(cdrs, exact_integers=False)
        state["high_water"] = page[-1]["uid"]
        yield page if AS_ROWS else pa.Table.from_pylist(page, schema=SCHEMA)


def main() -> None:
    """Bring the table up to date."""
    env = os.environ
    login = (
        '<Request target="Auth" name="SessionLogin" id="SessionRequest">'
        f"<Username>{env['BENCH_USERNAME']}</Username><Password>{env['BENCH_PASSWORD']}</Password>"
        f"<VKey>{env['BENCH_VKEY']}</VKey></Request>"
    )
    pipeline = dlt.pipeline(
        pipeline_name="bench",
        pipelines_dir=env["BENCH_WORK_DIRECTORY"],
        destination=dlt.destinations.postgres(credentials=env["BENCH_DATABASE_URL"]),
        dataset_name="calls",
    )
    resource = cdr(
        env["BENCH_API_URL"], login, env["BENCH_FIRST_DAY"], env["BENCH_END_DAY"], again="--again" in sys.argv
    )
    resource.apply_hints(
        additional_table_hints=None,
        columns=[
            {"name": name, "nullable": name != "uid"}  # type: ignore[list-item] # dlt's own TypedDict
            for name in NAMES
        ],
    )
    pipeline.run(resource, loader_file_format="csv")


if __name__ == "__main__":
    main()
