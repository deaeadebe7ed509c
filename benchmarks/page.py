"""docs/performance.md from the benchmarks' reports, so that no number on it was copied by hand.

    .venv/bin/python benchmarks/page.py .fedplane/bench docs/performance.md

A report that is missing is said to be missing, and one that is not of a full run is called what it is.
"""

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from measuring import short

__all__ = ["BENCHMARKS", "page"]

BENCHMARKS = {
    "plane": "Moving a model through a round",
    "frameworks": "The same app on Flower's own federation",
    "control": "A round with nothing to move",
    "events": "How soon others hear of a fact",
    "telemetry": "What telling costs",
    "security": "What trust costs",
    "replicas": "More aggregators",
    "limited": "A model that is larger than an aggregator may be",
    "fold": "From reply bytes to the new model",
    "robust": "Strategies that compare updates",
    "privacy": "What privacy costs",
    "placement": "Choosing clusters",
    "apply": "From an applied object to the first invitation",
}
"""The programs in reading order, and what each of them is about."""

OPENING = """\
# Performance

This page is written by `make bench`, which runs every benchmark and takes less than three quarters of an hour; do not edit it.
Each benchmark is a program in `benchmarks/`, which says at its top what it measures and how.

**Read the ratios.**
Everything here was measured on one machine, whose cores all processes shared: clusters, servers and what they are compared with.
Seconds and megabytes a second say more about that machine than about fedplane, and are here so that the ratios can be checked.
What is compared ran in turns in the same minutes. Values are medians.
"""


def page(reports: Mapping[str, Mapping[str, Any]]) -> str:
    """The page, from the reports by their benchmarks' names."""
    parts = [OPENING, "\n".join(_bars(reports))]
    for name, title in BENCHMARKS.items():
        said = _section(reports[name]) if name in reports else ["No report of it is there.", ""]
        parts.append("\n".join([f"## {title}", "", f"`benchmarks/{name}.py`", "", *said]))
    return "\n".join(parts).rstrip() + "\n"


def _bars(reports: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    yield "## Bars\n"
    yield "What was promised, and what came of it.\n"
    partial = [
        f"{name} ({report['extent']}, load {report['machine']['load']})" for name, report in reports.items() if report["extent"] != "full"
    ]
    if partial:
        yield f"**Not all of it is of full runs on a machine of its own:** {', '.join(partial)}. `make bench` makes it so.\n"
    rows = [
        [f"{name}: {bar}", short(of["value"]), f"{of['must_be']} {short(of['bar'])}", "met" if of["ok"] else "**missed**"]
        for name in BENCHMARKS
        for bar, of in reports.get(name, {"bars": {}})["bars"].items()
    ]
    yield from _table(["bar", "measured", "must be", ""], rows)


def _section(report: Mapping[str, Any]) -> Iterable[str]:
    machine = report["machine"]
    packages = ", ".join(f"{package} {version}" for package, version in machine["packages"].items())
    yield (
        f"A {report['extent']} run of {report['seconds']} s, {report['at'][:10]}: {machine['cores']} cores, "
        f"{machine['memory_gigabytes']} GB, {machine['system']}, Python {machine['python']}, {packages}; "
        f"files in {machine['store']}; load {machine['load']} at the start and {report['load_at_end']} at the end."
    )
    yield f"Left out: {report['left_out']}.\n"
    for table in report["tables"]:
        yield f"{table['title'][0].upper()}{table['title'][1:]}:\n"
        yield from _table(table["columns"], [[short(value) for value in row] for row in table["rows"]])
    for note in report["notes"]:
        yield f"{note[0].upper()}{note[1:]}.\n"


def _table(columns: list[str], rows: list[list[str]]) -> Iterable[str]:
    yield f"| {' | '.join(columns)} |"
    yield "|" + "|".join(["---", *["---:"] * (len(columns) - 1)]) + "|"
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""


def main() -> None:
    """Read the reports of a directory and write the page."""
    if len(sys.argv) != 3:
        sys.exit("usage: page.py DIRECTORY-OF-REPORTS PAGE")
    directory, target = map(Path, sys.argv[1:])
    reports = {name: json.loads(file.read_text()) for name in BENCHMARKS if (file := directory / f"{name}.json").exists()}
    target.write_text(page(reports))


if __name__ == "__main__":
    main()
