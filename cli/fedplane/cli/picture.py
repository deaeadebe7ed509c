"""All of a run on one screen: phase, progress, what each cluster does in this round, what came out of the last ones, and where it leads.

Pure: a view and the time in, something that rich can draw out. `watch` draws it several times a second, for a thousand clusters as well.
A screen has no room for so many. So of a large round it shows the counts and those that somebody would look for:
who was lost, who is still awaited, the ones first that were missing before, and who answered last.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fedplane.cli.display import STYLES, Cell, columns, plain, question, span, table
from fedplane.schemas.details import metrics_line, privacy_line, shown
from fedplane.schemas.models import Metrics, Task
from fedplane.schemas.views import RoundState, RoundView, RunView

__all__ = ["CLUSTERS_SHOWN_MAX", "progress", "sparkline"]

CLUSTERS_SHOWN_MAX = 20
"""How many clusters of a round are listed: they and the rest fit a screen of 50 lines."""

BESIDE_SHOWN_MAX = 5
"""How many of those are named whom the round does not ask: a line of them."""

ROUNDS_SHOWN_MAX = 12
"""How many of the last training rounds are listed, for the same reason."""

POINTS_MAX = 60
"""How many training rounds a sparkline has, a character each; with more, the last ones."""

BARS = "▁▂▃▄▅▆▇█"
BAR_COLUMNS = 40

ENDED = (RoundState.AGGREGATED, RoundState.FAILED)


def progress(view: RunView, now: datetime, *, wide: bool = False) -> RenderableType:
    """The run as it is now; `wide` lists every cluster, however many there are."""
    since = max(view.phases.values(), default=view.submitted_at)
    head = Text.assemble(
        (view.run, "bold"), "  ", (view.phase, STYLES[view.phase]), f" for {span((now - since).total_seconds())}" if not view.ended else ""
    )
    parts: list[RenderableType] = [head, _bars(view, now), Text(plain(view.said))]
    if view.rounds and not view.ended:
        parts += [Text(), *_clusters(view, now, len(view.rounds[-1].invited) if wide else CLUSTERS_SHOWN_MAX)]
    measured = _measured(view.rounds)
    if history := _history(view, measured):
        parts += [Text(), history]
    if sparks := _sparks(measured):
        parts += [Text(), sparks]
    if view.privacy:
        parts += [Text(), Text(f"privacy: {privacy_line(view.privacy)}, by {view.privacy.rounds} rounds with noise")]
    if view.metrics:
        parts += [Text(), Text(f"final: {plain(metrics_line(view.metrics))}", "bold")]
    return Group(*parts)


def _bars(view: RunView, now: datetime) -> Table:
    """How far the run is, and how far its round is: by those of whom nothing more will come."""
    bars = Table.grid(padding=(0, 1))
    bars.add_row(
        ProgressBar(total=view.training_rounds, completed=view.training_rounds_done, width=BAR_COLUMNS),
        f"{view.training_rounds_done} of {view.training_rounds} training rounds",
    )
    if view.rounds and not view.ended and view.rounds[-1].state is RoundState.OPEN:
        of = view.rounds[-1]
        left = span((of.deadline - now).total_seconds())
        done = len({*of.answered, *(decline.cluster for decline in (*of.declined, *of.rejected))})
        bars.add_row(
            ProgressBar(total=len(of.invited), completed=done, width=BAR_COLUMNS),
            f"{len(of.answered)} of {len(of.invited)} clusters have answered, {left} left",
        )
    return bars


def _clusters(view: RunView, now: datetime, most: int) -> list[RenderableType]:
    of = view.rounds[-1]
    title = Text(f"{question(of, view)}: {of.state.value.lower()}", "bold")
    lost = {decline.cluster: ("declined", decline) for decline in of.declined}
    lost |= {decline.cluster: ("rejected", decline) for decline in of.rejected}
    took = dict(zip(of.answered, of.answered_seconds, strict=False))  # a view of an earlier version has no times
    answered, missed = set(of.answered), _missed(view.rounds[:-1])
    awaited = "working" if of.state is RoundState.OPEN else "did not answer"
    for_seconds = f" for {span((now - of.opened_at).total_seconds())}" if of.state is RoundState.OPEN else ""
    rows: list[tuple[str, Cell]] = []
    for cluster in _of_interest(of, lost.keys(), took, missed, most):
        if cluster in lost:
            how, why = lost[cluster]
            rows.append((cluster, (f"{how}: {plain(why.reason)}: {plain(why.message)}", "red")))
        elif cluster in answered:
            rows.append((cluster, ("answered" + (f" after {took[cluster]:.1f}s" if cluster in took else ""), "green")))
        else:
            before = f", missing in {missed[cluster]} of the last rounds" if cluster in missed else ""
            rows.append((cluster, (f"{awaited}{for_seconds}{before}", "dim")))
    if len(of.invited) <= most:
        return [title, columns(rows), *_beside(of)]
    counts = Counter("lost" if cluster in lost else "answered" if cluster in answered else awaited for cluster in of.invited)
    said = ", ".join(f"{count:,} {state}" for state, count in sorted(counts.items()))
    return [title, Text(f"{len(of.invited):,} clusters: {said}; of interest:"), columns(rows), *_beside(of)]


def _beside(of: RoundView) -> Iterator[Text]:
    """Clusters of the run that the round does not ask: those that are at work on an earlier one, and those that were left out."""
    if of.carried:
        yield Text(f"still at work: {_some([f'{name} on round {number}' for name, number in sorted(of.carried.items())])}", "dim")
    if of.left_out:
        yield Text(f"not asked: {_some([f'{name} ({plain(why)})' for name, why in sorted(of.left_out.items())])}", "dim")


def _some(said: Sequence[str]) -> str:
    more = len(said) - BESIDE_SHOWN_MAX
    return ", ".join(said[:BESIDE_SHOWN_MAX]) + (f" and {more:,} more" if more > 0 else "")


def _of_interest(of: RoundView, lost: Collection[str], took: Mapping[str, float], missed: Mapping[str, int], most: int) -> Sequence[str]:
    """Everyone in the order of the round, if there is room. Else who is lost, who is awaited, and the slowest who answered.

    The lost have half of the room: however many they are, the awaited are seen, too.
    """
    if len(of.invited) <= most:
        return of.invited
    gone = sorted(cluster for cluster in of.invited if cluster in lost)
    answered = {cluster for cluster in of.answered if cluster not in lost}
    awaited = sorted(set(of.invited) - set(gone) - answered, key=lambda cluster: (-missed.get(cluster, 0), cluster))
    slowest = sorted(answered, key=lambda cluster: (-took.get(cluster, 0.0), cluster))
    return [*gone[: most // 2], *awaited, *slowest, *gone[most // 2 :]][:most]


def _missed(rounds: Sequence[RoundView]) -> Mapping[str, int]:
    """In how many of the rounds that are over each cluster was asked and did not answer in time."""
    return Counter(cluster for of in rounds if of.state in ENDED for cluster in set(of.invited) - set(of.answered))


def _measured(rounds: Sequence[RoundView]) -> dict[int, Metrics]:
    """What each training round that has a result measured, in training and evaluation, the latter where both did."""
    measured: dict[int, Metrics] = {}
    ended = [of for of in rounds if of.state in ENDED and of.task is not Task.INITIALIZE]
    for of in sorted(ended, key=lambda of: (of.training_round, of.task is Task.EVALUATE, of.round)):
        measured[of.training_round] = {**measured.get(of.training_round, {}), **of.metrics}
    return measured


def _history(view: RunView, measured: Mapping[int, Metrics]) -> Table | None:
    """The last training rounds that have a result, one a line."""
    if not measured:
        return None
    numbers = sorted(measured)[-ROUNDS_SHOWN_MAX:]
    names = shown({name for number in numbers for name in measured[number]})
    rows = table("ROUND", "CLUSTERS", "SECONDS", *(plain(name).upper() for name in names), "REMARK")
    ended = [of for of in view.rounds if of.state in ENDED and of.task is not Task.INITIALIZE]
    for number in numbers:
        tried = [of for of in ended if of.training_round == number]
        trained = [of for of in tried if of.task is not Task.EVALUATE]
        seconds = sum((of.ended_at - of.opened_at).total_seconds() for of in tried if of.ended_at)
        rows.add_row(
            str(number),
            f"{len(trained[-1].answered)}/{len(trained[-1].invited)}" if trained else "",
            f"{seconds:.1f}",
            *(f"{measured[number][name]:.4g}" if name in measured[number] else "" for name in names),
            Text(_remark(tried), "yellow"),
        )
    return rows


def _remark(tried: Sequence[RoundView]) -> str:
    """How often a training round failed, and why if it has not succeeded since."""
    failures = sum(of.state is RoundState.FAILED for of in tried)
    if not failures:
        return ""
    times = "failed once" if failures == 1 else f"failed {failures} times"
    return f"{times}, at last: {plain(tried[-1].message)}" if tried[-1].state is RoundState.FAILED else times


def _sparks(measured: Mapping[int, Metrics]) -> Table | None:
    """A line for each metric that was measured twice at least: how it went, and from where to where."""
    rows = Table.grid(padding=(0, 2))
    for name in shown({name for metrics in measured.values() for name in metrics}):
        values = [measured[number][name] for number in sorted(measured) if name in measured[number]][-POINTS_MAX:]
        if len(values) > 1:
            rows.add_row(plain(name), Text(sparkline(values), "cyan"), f"{values[0]:.4g} to {values[-1]:.4g}")
    return rows if rows.row_count else None


def sparkline(values: Sequence[float]) -> str:
    """Numbers as bars from the least to the greatest of them; equal ones in the middle."""
    least, most = min(values), max(values)
    if least == most:
        return BARS[len(BARS) // 2] * len(values)
    top = len(BARS) - 1
    return "".join(BARS[round((value - least) / (most - least) * top)] for value in values)
