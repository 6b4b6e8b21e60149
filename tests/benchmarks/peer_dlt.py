"""dlt: the loading library that a data engineer would reach for, by its two best roads into PostgreSQL.

`BENCH_DLT_ROAD=rows`: pages of records as its tutorials hand them over, loaded as CSV by COPY. `arrow`: each page as an
Arrow table, which spares dlt its slow look at every value, loaded as Parquet by ADBC, an extra driver. Pages come as in
the good script (same requests, same tree). `merge` with the `upsert` strategy on uid. The highest uid is kept in dlt's
own state, as it also decides what to ask for.
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
ARROW = os.environ["BENCH_DLT_ROAD"] == "arrow"
SCHEMA = pa.schema([(name, TYPES.get(name, pa.string() if name in TEXTS else pa.int32())) for name in NAMES])
# Texts are never absent here: in a column that may be NULL, dlt's CSV turns an empty text into NULL.
COLUMNS: dict[str, Any] = {name: {"data_type": "text", "nullable": False} for name in TEXTS} | {
    "user_cost": {"data_type": "decimal", "precision": 18, "scale": 6},
    "call_time": {"data_type": "time", "timezone": False},
}


def read(url: str, login: str, first: str, last: str, *, again: bool) -> Iterator[Any]:
    """Every page: of the whole range at first, after the highest uid of the last run then."""
    state = dlt.current.resource_state()
    high_water = None if again else state.get("high_water")
    for cdrs in pages(url, login, high_water=high_water, first=first, last=last):
        page = rows(cdrs, exact_integers=False)
        state["high_water"] = page[-1]["uid"]
        yield pa.Table.from_pylist(page, schema=SCHEMA) if ARROW else page


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
    resource = dlt.resource(
        read(env["BENCH_API_URL"], login, env["BENCH_FIRST_DAY"], env["BENCH_END_DAY"], again="--again" in sys.argv),
        name="cdr",
        write_disposition={"disposition": "merge", "strategy": "upsert"},
        primary_key="uid",
        columns=COLUMNS,
    )
    pipeline.run(resource, loader_file_format="parquet" if ARROW else "csv")


if __name__ == "__main__":
    main()
