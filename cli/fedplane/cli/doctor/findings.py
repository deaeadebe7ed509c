"""What a check says, and how all of it looks: a line for each finding, and below what is wrong how to mend it. Pure.

A finding is ok, a warning (it works, and may not for long, or not as well as it could), or a problem (something does not work).
A check says at least one thing, so that a list without problems shows what was looked at.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, TypeVar

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedplane.cli.display import plain

__all__ = ["Check", "Checks", "Finding", "Level", "documents", "judge", "listed", "ok", "picture", "problem", "warning", "worst"]

Seen = TypeVar("Seen")

LISTED_MAX = 5
"""How many names a finding lists: what is wrong with a thousand clusters is a line, too."""


class Level(StrEnum):
    """How bad it is, from the best to the worst."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "bold red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found: how bad, what, and how to mend it if it is not ok. `area` and `check` are where the check stands."""

    level: Level
    what: str
    mend: str = ""
    area: str = ""
    check: str = ""


Check = Callable[[Seen], Iterator[Finding]]
Checks = Mapping[str, Check[Seen]]


def ok(what: str) -> Finding:
    """Nothing to mend."""
    return Finding(Level.OK, what)


def warning(what: str, mend: str) -> Finding:
    """It works, and may not for long, or not as well as it could."""
    return Finding(Level.WARNING, what, mend)


def problem(what: str, mend: str) -> Finding:
    """Something does not work."""
    return Finding(Level.PROBLEM, what, mend)


def judge(area: str, checks: Checks[Seen], seen: Seen) -> list[Finding]:
    """What all checks of an area say of what was seen."""
    return [Finding(finding.level, finding.what, finding.mend, area, name) for name, check in checks.items() for finding in check(seen)]


def worst(findings: Iterable[Finding]) -> Level:
    """The worst of them; ok if there are none."""
    order = list(Level)
    return max((finding.level for finding in findings), key=order.index, default=Level.OK)


def listed(names: Sequence[str]) -> str:
    """Names for a sentence, those beyond a line only counted."""
    more = len(names) - LISTED_MAX
    return ", ".join(names[:LISTED_MAX]) + (f" and {more} more" if more > 0 else "")


def documents(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """The findings as programs read them."""
    return [{**asdict(finding), "level": finding.level.value} for finding in findings]


def picture(findings: Sequence[Finding], *, wide: bool) -> RenderableType:
    """The findings as a person reads them, in their order; `wide` adds the area of each."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in (*(("AREA",) if wide else ()), "CHECK", "RESULT", "FOUND"):
        table.add_column(column, overflow="fold", no_wrap=column in ("AREA", "CHECK", "RESULT"))
    for finding in findings:
        said = Text(plain(finding.what))
        if finding.mend:
            said.append(f"\n-> {plain(finding.mend)}", "bold")
        area = (finding.area,) if wide else ()
        table.add_row(*area, finding.check, Text(finding.level.value, STYLES[finding.level]), said)
    return Group(table, Text(), Text(_summary(findings), STYLES[worst(findings)]))


def _summary(findings: Sequence[Finding]) -> str:
    counts = {level: sum(finding.level is level for finding in findings) for level in Level}
    if counts[Level.PROBLEM] + counts[Level.WARNING] == 0:
        return "Nothing is wrong."
    parts = [
        f"{counts[level]} {level.value}{'' if counts[level] == 1 else 's'}" for level in (Level.PROBLEM, Level.WARNING) if counts[level]
    ]
    return f"{' and '.join(parts)}; an arrow says how to mend each."
