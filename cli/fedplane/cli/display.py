"""How runs and clusters look on a terminal: tables with a line for each, and what all tables have in common.

Pure: a function here takes views and the time and returns something that rich can print.
What is shown comes from clusters and users, so it is never read as markup, and control characters are taken out of it.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedplane.schemas.details import metrics_line, privacy_line
from fedplane.schemas.facts import Advertised
from fedplane.schemas.models import Task
from fedplane.schemas.views import Phase, RoundView, RunView

__all__ = ["STYLES", "Cell", "cluster_table", "columns", "console", "plain", "question", "run_table", "span", "table"]

COLUMNS_WITHOUT_TERMINAL = 160
"""How wide a table may be in a file or a pipe: rich would take 80 and cut."""

COLUMNS_OF_WIDE = 400
"""The same for a wide table, which has a column for every filter and criterion."""

STYLES = {Phase.WAITING: "yellow", Phase.RUNNING: "cyan", Phase.COMPLETED: "green", Phase.FAILED: "red"}


def console(*, stderr: bool = False, wide: bool = False) -> Console:
    """A console that shows text as it is."""
    made = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    if not made.is_terminal:
        made.width = COLUMNS_OF_WIDE if wide else COLUMNS_WITHOUT_TERMINAL
    return made


def plain(text: str) -> str:
    """The text on one line, without characters that a terminal would obey."""
    return "".join(character if character.isprintable() else " " for character in text)


def span(seconds: float) -> str:
    """A duration as a person says it, in at most two units."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"


def question(of: RoundView, view: RunView) -> str:
    """What a round asks, counted as the user counts."""
    if of.task is Task.INITIALIZE:
        return "initialization"
    return f"{of.task.value}, training round {of.training_round} of {view.training_rounds}"


def run_table(views: Sequence[RunView], now: datetime, *, wide: bool = False) -> Table:
    """Runs, one a line; `wide` adds where each came from, what it measured, and the times. What noise has cost, if any has noise."""
    more = ("NAMESPACE", "METRICS", "SUBMITTED", "TOOK") if wide else ()
    noisy = any(view.privacy for view in views)
    rows = table("RUN", "PHASE", "ROUNDS", "CLUSTERS", "AGE", *(("PRIVACY",) if noisy else ()), *more, "MESSAGE")
    for view in views:
        ended = max(view.phases.values(), default=view.submitted_at) if view.ended else now
        measured = next((of.metrics for of in reversed(view.rounds) if of.metrics), view.metrics)
        further = (
            view.namespace,
            plain(metrics_line(view.metrics or measured)),
            f"{view.submitted_at:%Y-%m-%d %H:%M:%S}",
            span((ended - view.submitted_at).total_seconds()),
        )
        rows.add_row(
            view.run,
            Text(view.phase, STYLES[view.phase]),
            f"{view.training_rounds_done}/{view.training_rounds}",
            str(len(view.participants)),
            span((now - view.submitted_at).total_seconds()),
            *((privacy_line(view.privacy),) if noisy else ()),
            *(further if wide else ()),
            plain(view.said),
        )
    return rows


def cluster_table(fleet: Sequence[Advertised], now: datetime, *, wide: bool = False) -> Table:
    """Clusters, one a line, as they advertised themselves last; `wide` adds claims' values and labels."""
    more = ("LABELS", "LEASE") if wide else ()
    rows = table("CLUSTER", "STATE", "SAID", "CPU", "MEMORY", "FRAMEWORKS", *more, "CLAIMS")
    for fact in fleet:
        silent = now - fact.at >= timedelta(seconds=fact.lease_seconds)
        state = Text("silent", "red") if silent else Text(f"not now: {plain(fact.unavailable)}" if fact.unavailable else "ready")
        further = (_pairs(fact.labels), f"{fact.lease_seconds:g}s")
        rows.add_row(
            fact.cluster,
            state,
            f"{span((now - fact.at).total_seconds())} ago",
            fact.allocatable.get("cpu", ""),
            fact.allocatable.get("memory", ""),
            plain(", ".join(fact.frameworks)) or "any",
            *(further if wide else ()),
            _pairs(fact.claims) if wide else plain(", ".join(sorted(fact.claims))),
        )
    return rows


def _pairs(named: Mapping[str, str]) -> str:
    return plain(", ".join(f"{name}={value}" for name, value in sorted(named.items())))


Cell = str | tuple[str, str]


def columns(rows: Sequence[Sequence[Cell]], header: Sequence[str] = ()) -> Text:
    """Lines whose cells stand below each other, however many there are; a cell may come with its style.

    A table of rich measures and wraps every cell, which takes seconds for a thousand lines. Here a long line is the terminal's to wrap.
    """
    shown = [*([[(name, "bold") for name in header]] if header else ()), *([_cell(cell) for cell in row] for row in rows)]
    widths = [max(cell_len(said) for said, _ in column) for column in zip(*shown, strict=True)]
    made = Text(no_wrap=True, overflow="ignore")
    for number, row in enumerate(shown):
        made.append("\n" if number else "")
        for (said, style), width in zip(row[:-1], widths[:-1], strict=True):
            made.append(said, style).append(" " * (width - cell_len(said) + 2))
        made.append(*row[-1])
    return made


def _cell(cell: Cell) -> tuple[str, str]:
    return (cell, "") if isinstance(cell, str) else cell


def table(*names: str) -> Table:
    """A table without lines. On a narrow terminal the first cell of a row stays whole: it names what the row is about, and is copied."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for number, name in enumerate(names):
        made.add_column(name, overflow="fold", no_wrap=number == 0)
    return made
