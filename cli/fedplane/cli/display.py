"""How runs look on a terminal: views in, tables out.

Pure: a function here takes a view and the time and returns something that rich can print.
What is shown comes from clusters and users, so it is never read as markup, and control characters are taken out of it.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fedplane.schemas.models import Chosen, Metrics, Refused, Task, Term
from fedplane.schemas.views import Phase, RoundState, RoundView, RunView

__all__ = ["console", "explanation", "metrics_line", "plain", "progress", "question", "run_table", "span"]

COLUMNS_WITHOUT_TERMINAL = 160
"""How wide a table may be in a file or a pipe: rich would take 80 and cut."""

CLUSTERS_SHOWN_MAX = 20
"""How many clusters of a round are listed: they and the rest fit a screen of 50 lines."""

ROUNDS_SHOWN_MAX = 12
"""How many of the last training rounds are listed, for the same reason."""

METRICS_SHOWN_MAX = 4
"""How many metrics have a column: an app may measure hundreds, and a line has room for about so many."""

METRICS_FIRST = ("accuracy", "loss")
"""What most apps measure and most people look for."""

STYLES = {Phase.WAITING: "yellow", Phase.RUNNING: "cyan", Phase.COMPLETED: "green", Phase.FAILED: "red"}


def console(*, stderr: bool = False) -> Console:
    """A console that shows text as it is."""
    made = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    return made if made.is_terminal else Console(stderr=stderr, markup=False, emoji=False, highlight=False, width=COLUMNS_WITHOUT_TERMINAL)


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


def metrics_line(metrics: Metrics) -> str:
    """The metrics that people look at first, on one line."""
    return " ".join(f"{plain(name)}={metrics[name]:.4g}" for name in _shown(metrics))


def run_table(views: Sequence[RunView], now: datetime) -> Table:
    """Runs, one a line."""
    table = _table("RUN", "PHASE", "ROUNDS", "CLUSTERS", "AGE", "MESSAGE")
    for view in views:
        table.add_row(
            view.run,
            Text(view.phase, STYLES[view.phase]),
            f"{view.training_rounds_done}/{view.training_rounds}",
            str(len(view.participants)),
            span((now - view.submitted_at).total_seconds()),
            plain(view.message),
        )
    return table


def explanation(view: RunView) -> RenderableType:
    """Why each cluster takes part or not: the filter that refused it, or each term of its score and their sum."""
    table = _table("CLUSTER", "VERDICT", "CRITERION", "SCORE", "WEIGHT", "POINTS")
    refusals = sorted(view.refused, key=lambda refused: refused.cluster)
    everyone: list[Chosen | Refused] = [*view.participants, *refusals]
    if not everyone:
        return Text("The scheduler has not looked at any cluster for this run yet.")
    for cluster in everyone:
        verdict = Text("chosen", "green") if isinstance(cluster, Chosen) else Text(f"refused: {plain(cluster.reason)}", "yellow")
        points = () if cluster.score is None else ((*_points(cluster.terms), ("total", "", "", f"{cluster.score:.3f}")))
        name, *rest = points or (("", "", "", ""),)
        table.add_row(cluster.cluster, verdict, *name)
        for line in rest:
            table.add_row("", "", *line)
    return Group(table, *(Text(f"{refused.cluster} {plain(refused.message)}") for refused in refusals))


def progress(view: RunView, now: datetime) -> RenderableType:
    """All of a run on one screen: phase, progress, what each cluster does in this round, what came out of the last ones."""
    since = max(view.phases.values(), default=view.submitted_at)
    head = Text.assemble(
        (view.run, "bold"), "  ", (view.phase, STYLES[view.phase]), f" for {span((now - since).total_seconds())}" if not view.ended else ""
    )
    rounds = Table.grid(padding=(0, 1))
    rounds.add_row(
        ProgressBar(total=view.training_rounds, completed=view.training_rounds_done, width=40),
        f"{view.training_rounds_done} of {view.training_rounds} training rounds",
    )
    parts: list[RenderableType] = [head, rounds, Text(plain(view.message))]
    if view.rounds and not view.ended:
        parts += [Text(), _clusters(view.rounds[-1], view, now)]
    if history := _history(view):
        parts += [Text(), history]
    if view.metrics:
        parts += [Text(), Text(f"final: {metrics_line(view.metrics)}", "bold")]
    return Group(*parts)


def _clusters(of: RoundView, view: RunView, now: datetime) -> Table:
    left = f", {span((of.deadline - now).total_seconds())} left" if of.state is RoundState.OPEN else ""
    table = _table(f"{question(of, view)}: {of.state.value.lower()}{left}", "")
    lost = {decline.cluster: ("declined", decline) for decline in of.declined}
    lost |= {decline.cluster: ("rejected", decline) for decline in of.rejected}
    for cluster in of.invited[:CLUSTERS_SHOWN_MAX]:
        if cluster in lost:
            how, why = lost[cluster]
            table.add_row(cluster, Text(f"{how}: {plain(why.reason)}: {plain(why.message)}", "red"))
        elif cluster in of.answered:
            table.add_row(cluster, Text("answered", "green"))
        else:
            table.add_row(cluster, Text("working" if of.state is RoundState.OPEN else "did not answer", "dim"))
    if len(of.invited) > CLUSTERS_SHOWN_MAX:
        table.add_row(f"and {len(of.invited) - CLUSTERS_SHOWN_MAX} more", f"{len(of.answered)} of {len(of.invited)} answered")
    return table


def _history(view: RunView) -> Table | None:
    """The last training rounds that have a result, one a line: what training and evaluation measured, the latter where both did."""
    ended = [of for of in view.rounds if of.state in (RoundState.AGGREGATED, RoundState.FAILED) and of.task is not Task.INITIALIZE]
    if not ended:
        return None
    numbers = sorted({of.training_round for of in ended})[-ROUNDS_SHOWN_MAX:]
    measured: dict[int, Metrics] = {number: {} for number in numbers}
    for of in sorted(ended, key=lambda of: (of.task is Task.EVALUATE, of.round)):
        if of.training_round in measured:
            measured[of.training_round] = {**measured[of.training_round], **of.metrics}
    names = _shown({name for metrics in measured.values() for name in metrics})
    table = _table("ROUND", "CLUSTERS", "SECONDS", *(plain(name).upper() for name in names), "REMARK")
    for number in numbers:
        tried = [of for of in ended if of.training_round == number]
        trained = [of for of in tried if of.task is not Task.EVALUATE]
        seconds = sum((of.ended_at - of.opened_at).total_seconds() for of in tried if of.ended_at)
        table.add_row(
            str(number),
            f"{len(trained[-1].answered)}/{len(trained[-1].invited)}" if trained else "",
            f"{seconds:.1f}",
            *(f"{measured[number][name]:.4g}" if name in measured[number] else "" for name in names),
            Text(_remark(tried), "yellow"),
        )
    return table


def _remark(tried: Sequence[RoundView]) -> str:
    """How often a training round failed, and why if it has not succeeded since."""
    failures = sum(of.state is RoundState.FAILED for of in tried)
    if not failures:
        return ""
    times = "failed once" if failures == 1 else f"failed {failures} times"
    return f"{times}, at last: {plain(tried[-1].message)}" if tried[-1].state is RoundState.FAILED else times


def _points(terms: Iterable[Term]) -> list[tuple[str, str, str, str]]:
    return [(term.criterion, f"{term.score:.3f}", f"{term.weight:g}", f"{term.score * term.weight:.3f}") for term in terms]


def _shown(names: Iterable[str]) -> list[str]:
    """The names for which there is room, the ones that people look for first."""

    def rank(name: str) -> tuple[int, str]:
        return (METRICS_FIRST.index(name) if name in METRICS_FIRST else len(METRICS_FIRST)), name

    return sorted(names, key=rank)[:METRICS_SHOWN_MAX]


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
