"""What operators are told of the runs that go on: how many there are, and what the app of each measured last.

Pure. The views have it, and so every replica of the status service says the same; whoever adds replicas up is told so in the table.
A run that has ended is not told any more, which is what bounds the series that an operator's store has to keep at a time.
"""

from collections import Counter
from collections.abc import Iterator, Mapping

from fedplane.runtime.metrics import METRICS_SHOWN_MAX, RUNS_SHOWN_MAX
from fedplane.schemas.views import Phase, RunView

__all__ = ["active_runs", "run_metrics"]

Values = Iterator[tuple[float, Mapping[str, str]]]


def active_runs(views: Mapping[str, RunView]) -> Values:
    """How many runs wait and how many run. Zero is said, too: nothing at all would mean that nobody looks."""
    phases = Counter(view.phase for view in views.values())
    yield from ((phases[phase], {"fedplane.phase": phase.value}) for phase in (Phase.WAITING, Phase.RUNNING))


def run_metrics(views: Mapping[str, RunView]) -> Values:
    """The last value of each metric of the runs that go on, the latest runs first, as many as are shown."""
    going_on = [view for view in reversed(list(views.values())) if not view.ended]
    for view in going_on[:RUNS_SHOWN_MAX]:
        latest = {name: value for round_ in view.rounds for name, value in round_.metrics.items()}
        for name in sorted(latest)[:METRICS_SHOWN_MAX]:
            yield latest[name], {"fedplane.run": view.run, "fedplane.metric": name}
