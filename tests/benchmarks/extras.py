"""What the extras cost a catch-up: each switched off in its turn, beside the whole.

    python -m tests.benchmarks.extras --records 200000 --rounds 5

What is switched off is replaced by nothing within the process. Rows of the table `cdr` are the same, and compared.
"""

from __future__ import annotations

import argparse
import dataclasses
import runpy
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent.parent


def _no_e164() -> None:
    from cdrsync.wiring import accounts

    setattr(accounts, "classify", None)  # noqa: B010 - a function that is declared as one


def _no_numbers() -> None:
    """Neither the table of numbers nor what is known of each."""
    from cdrsync.store.known_numbers import KnownNumbers

    setattr(KnownNumbers, "rows", lambda *_: [])  # noqa: B010 - a method that is declared as one


def _no_ledger() -> None:
    """No coverage: neither the counts of days nor that they were read to their end."""
    from cdrsync.store import save

    setattr(save, "deltas", lambda *_: {})  # noqa: B010 - a function that is declared as one
    setattr(save.SqlStore, "_complete", lambda *_: None)  # noqa: B010 - a method that is declared as one


def _no_question() -> None:
    """Nothing is taken for held: a call that comes twice would be an error. What is left is a loader, no upsert."""
    from cdrsync.store import compare, save

    setattr(save, "compare", lambda *_: compare.Held((), {}))  # noqa: B010 - a function that is declared as one


def _no_logs() -> None:
    import logging

    logging.disable(logging.CRITICAL)


EXTRAS: dict[str, tuple[Callable[[], None], ...]] = {
    "nothing": (),
    "E.164": (_no_e164,),
    "numbers (E.164 too)": (_no_numbers,),
    "ledger": (_no_ledger,),
    "logs": (_no_logs,),
    "all of these": (_no_numbers, _no_ledger, _no_logs),
    "which are held": (_no_question,),  # no extra: every upsert asks this
}


def _inside(off: str, arguments: list[str]) -> None:
    """Within the process that is looked at."""
    for switch in EXTRAS[off]:
        switch()
    sys.argv = ["cdrsync", *arguments]
    runpy.run_module("cdrsync", run_name="__main__", alter_sys=True)


def main() -> None:
    """Make a bed, run cdrsync in it without each extra in turn, print."""
    from tests.benchmarks.bed import made
    from tests.benchmarks.data import Recipe, last_full_hour
    from tests.benchmarks.programs import CDRSYNC, Target, Task, cdrsync_environment

    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.extras", description=__doc__.splitlines()[0])
    parser.add_argument("--database", choices=CDRSYNC.databases, default="postgresql")
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    def without(off: str) -> Any:
        def command(target: Target, task: Task) -> list[str]:
            python, *_, what = CDRSYNC.command(target, task)
            return [python, "-m", "tests.benchmarks.extras", "--inside", off, what]

        def environment(target: Target) -> dict[str, str]:
            return cdrsync_environment(target) | {"PYTHONPATH": str(ROOT)}

        return dataclasses.replace(CDRSYNC, command=command, environment=environment)

    programs = {off: without(off) for off in EXTRAS}
    seconds: dict[str, list[float]] = {off: [] for off in EXTRAS}
    with made(Recipe(options.records, 365, last_full_hour()), (options.database,)) as bed:
        for _ in range(options.rounds):
            for off, program in programs.items():
                with bed.target(options.database, program) as target:
                    seconds[off].append(bed.timed(program, target, "new", visible=bed.visible).cost.seconds)
    for off, measured in seconds.items():
        saved = [(whole - part) / whole for whole, part in zip(seconds["nothing"], measured, strict=True)]
        sys.stdout.write(
            f"{off:<22} off: {statistics.median(measured):6.2f} s, {statistics.median(saved):4.0%} less"
            f" ({min(saved):.0%}..{max(saved):.0%})\n"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        _inside(sys.argv[2], sys.argv[3:])
    else:
        main()
