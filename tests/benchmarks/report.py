"""What the benchmark prints: a line for each run, then the ratios with their spread."""

from __future__ import annotations

import sys
from collections import defaultdict
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.benchmarks.bench import Sample

# How many times faster than the peer cdrsync is meant to be, medians of at least five pairs.
TARGETS = {
    ("postgresql", "catch-up", "good_script"): 3.0,
    ("postgresql", "catch-up", "dlt"): 5.0,
    ("postgresql", "catch-up, 40 ms", "good_script"): 4.5,
    ("sqlite", "catch-up", "good_script"): 3.0,
    ("mariadb", "catch-up", "good_script"): 2.0,
    ("postgresql", "idle", "good_script"): 1.0,
    ("mariadb", "idle", "good_script"): 1.0,
    ("sqlite", "idle", "good_script"): 1.0,
}
LATENCY_TARGET = 1.2  # times its own catch-up without latency, at most
SECOND_PASS_TARGET = 1.2  # times the first pass's rate, at least
MEMORY_TARGET = 1.3  # times the peak of 10,000 records, at most
GROWTH_TARGET = 0.85  # of the rate into an empty table, at least


def line(sample: Sample) -> None:
    """One run, as it ends."""
    _print(
        f"{sample.database:<11}{sample.scenario:<17}{sample.program:<12}{sample.seconds:8.2f} s"
        f"{sample.records / sample.seconds:>10,.0f}/s  cpu {sample.cpu:6.2f} + {sample.database_cpu:5.2f} s"
        f"  peak {sample.peak_mb:4.0f} MB  {sample.documents:>5} requests  load {sample.load:.1f}"
    )


def table(samples: Sequence[Sample]) -> None:
    """Medians of each program, then how many times faster cdrsync is, pair by pair."""
    groups: dict[tuple[str, str, str], list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[sample.database, sample.scenario, sample.program].append(sample)
    _print("\n| database | scenario | program | seconds (min..median..max) | records/s | CPU s | peak MB | requests |")
    _print("|---|---|---|---|---|---|---|---|")
    for (database, scenario, program), found in groups.items():
        rate = median(one.records / one.seconds for one in found)
        cpu = f"{median(one.cpu for one in found):.2f} + {median(one.database_cpu for one in found):.2f}"
        _print(
            f"| {database} | {scenario} | {program} | {spread([one.seconds for one in found])} | {rate:,.0f} | {cpu} "
            f"| {max(one.peak_mb for one in found):.0f} | {median(one.documents for one in found):.0f} |"
        )
    _print("CPU: the program's own + the database server's. On a busy machine it says more than the seconds.")
    _print("\n| database | scenario | cdrsync is faster than | times (min..median..max) | target | reached |")
    _print("|---|---|---|---|---|---|")
    for database, scenario, name, ratios in comparisons(groups):
        target = TARGETS.get((database, scenario, name))
        reached = "" if target is None else "yes" if median(ratios) >= target else "NO"
        _print(
            f"| {database} | {scenario} | {name} | {spread(ratios)} | {'' if target is None else target} | {reached} |"
        )
    _own(groups)


def comparisons(groups: Mapping[tuple[str, str, str], list[Sample]]) -> list[tuple[str, str, str, list[float]]]:
    """For each database, scenario and peer: the peer's time over cdrsync's, pair by pair."""
    found = []
    for (database, scenario, name), theirs in groups.items():
        ours = groups.get((database, scenario, "cdrsync"))
        if name != "cdrsync" and ours:
            ratios = [their.seconds / our.seconds for their, our in zip(theirs, ours, strict=True)]
            found.append((database, scenario, name, ratios))
    return found


def _own(groups: Mapping[tuple[str, str, str], list[Sample]]) -> None:
    """What cdrsync is beside itself: with latency, and over unchanged rows."""
    _print("\n| database | cdrsync beside its own catch-up | times (min..median..max) | target | reached |")
    _print("|---|---|---|---|---|")
    for (database, scenario, name), found in groups.items():
        if name != "cdrsync":
            continue
        first = groups.get((database, "catch-up", "cdrsync"), [])
        if scenario.startswith("catch-up, ") and first:
            ratios = [slow.seconds / fast.seconds for slow, fast in zip(found, first, strict=True)]
            reached = "yes" if median(ratios) <= LATENCY_TARGET else "NO"
            _print(f"| {database} | {scenario}: time | {spread(ratios)} | ≤ {LATENCY_TARGET} | {reached} |")
        if scenario == "second pass" and first:
            ratios = [
                second.records / second.seconds * one.seconds / one.records
                for second, one in zip(found, first, strict=True)
            ]
            reached = "yes" if median(ratios) >= SECOND_PASS_TARGET else "NO"
            _print(f"| {database} | second pass: rate | {spread(ratios)} | ≥ {SECOND_PASS_TARGET} | {reached} |")


def limits(stages: Mapping[str, float]) -> None:
    """The bare stages."""
    _print("\n| the stages alone, one process, warm | records/s |\n|---|---|")
    for name, rate in stages.items():
        _print(f"| {name} | {rate:,.0f} |")
    _print("")


def daemon(resting: Sequence[Mapping[str, Any]]) -> None:
    """The daemon with nothing to do."""
    _print("\n| the daemon at rest | requests a poll | transactions a poll | CPU ms a poll | resident MB |")
    _print("|---|---|---|---|---|")
    for one in resting:
        _print(
            f"| {one['database']} | {one['requests']:.2f} | {one['transactions']} | {one['cpu_ms']:.1f} "
            f"| {one['resident_mb']:.0f} |"
        )


def memory(figures: Mapping[str, Any]) -> None:
    """Peak memory by size of the catch-up."""
    times = figures["peak_mb"] / figures["small_peak_mb"]
    _print(
        f"\npeak memory: {figures['records']:,} records {figures['peak_mb']:.0f} MB, 10,000 records "
        f"{figures['small_peak_mb']:.0f} MB: {times:.2f} times (target ≤ {MEMORY_TARGET})"
    )


def growth(figures: Mapping[str, Any]) -> None:
    """Rate into a big table beside an empty one."""
    ratios = [empty / full for empty, full in zip(figures["empty_seconds"], figures["full_seconds"], strict=True)]
    _print(
        f"\nrate into a table of {figures['rows']:,} rows, of that into an empty one: {spread(ratios)} "
        f"(target ≥ {GROWTH_TARGET}); idle run there {spread(figures['idle_seconds'])} s"
    )


def spread(values: Sequence[float]) -> str:
    """Minimum, median and maximum."""
    return f"{min(values):.2f}..{median(values):.2f}..{max(values):.2f}"


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
