"""What a round costs when there is nothing to move and nothing to train: the control plane itself.

A model of a few bytes goes through training rounds, each followed by an evaluation, on a real server with a real scheduler and aggregator.
Many simulated collaborators answer at once, so a round's time grows with what each of them costs: the line through the sizes says how much.
"""

import os
import statistics
from datetime import datetime
from itertools import pairwise

import uvloop
from measuring import Report, Server, fit, options, scratch, usage
from simulated import answer_all, bus_of, facts_of, hub, learning, quiet, submit

from fedplane.aggregator.main import aggregate
from fedplane.aggregator.settings import AggregatorSettings
from fedplane.schemas.facts import Completed, Opened
from fedplane.schemas.models import Task

ROUNDS_SMOKE = {2: 5, 4: 5}
ROUNDS_QUICK = {2: 200, 10: 100, 100: 20}
ROUNDS = {2: 400, 10: 200, 30: 100, 100: 40, 300: 20, 1_000: 9}
"""How many training rounds are measured, by the number of clusters: about the same time for each."""

TINY_BYTES = 64
"""One tensor of sixteen floats."""

BAR_MILLISECONDS = 50.0
"""Of a round, train and evaluate, with two clusters: what people wait for besides training must be less than they notice."""

BAR_GROWTH = 1.5
"""What one answer may cost more when there are several times as many: a round's time has to be a line and no parabola."""


async def measure(server: Server, clusters: int, rounds: int) -> list[float]:
    """How long each training round took with its evaluation, in seconds. The first one is not counted."""
    begun: list[datetime] = []
    async with (
        bus_of(server, "hub") as bus,
        bus_of(server, "aggregator") as aggregator,
        bus_of(server, "clusters") as crowd,
        hub(bus, aggregate(aggregator, AggregatorSettings()), answer_all(crowd, TINY_BYTES)),
    ):
        run = await submit(bus, learning(f"c{clusters}", clusters, rounds=rounds + 1, evaluate=True))
        async for fact in facts_of(bus, run):
            match fact:
                case Opened(task=Task.TRAIN):
                    begun.append(fact.at)
                case Completed():
                    begun.append(fact.at)
                    break
    return [(after - before).total_seconds() for before, after in pairwise(begun[1:])]


def report_on(report: Report, measured: dict[int, list[float]], cpu: dict[int, float]) -> None:
    """The table, what grows with the clusters, and the bar."""
    medians = {clusters: statistics.median(times) for clusters, times in measured.items()}
    rows = [
        (
            f"{clusters} clusters", len(times), 1 / medians[clusters], 1e3 * medians[clusters], 1e3 * min(times), 1e3 * max(times),
            1e3 * medians[clusters] / (2 * clusters), 1e3 * cpu[clusters],
        )
        for clusters, times in measured.items()
    ]  # fmt: skip
    columns = ("", "rounds", "rounds/s", "median ms", "min ms", "max ms", "ms per answer", "CPU ms")
    report.table("a training round with its evaluation", columns, rows)
    line = fit([(2 * clusters, seconds) for clusters, seconds in medians.items()])
    grown = f"a round costs {1e3 * line.fixed:.1f} ms, and each answer in it {1e3 * line.each:.2f} ms"
    report.note(f"{grown} (least squares over the medians, relative to their size)")
    report.bar("a round with two clusters, ms", 1e3 * medians[2], at_most=BAR_MILLISECONDS)
    few, many = sorted(medians)[-2:]
    growth = (medians[many] / many) / (medians[few] / few)
    report.bar(f"an answer of {many} clusters, times one of {few}", growth, at_most=BAR_GROWTH)


def main() -> None:
    """Measure and report."""
    told = options(__doc__ or "")
    report = Report(
        "control",
        "the network; apps; one process per collaborator with a tail of its own (one tail serves them all here); aggregator, scheduler and"
        " clusters share one process and its interpreter lock, so a round with many clusters takes longer here than with real ones",
    )
    quiet()
    measured: dict[int, list[float]] = {}
    cpu: dict[int, float] = {}
    with scratch() as directory:
        for clusters, rounds in (ROUNDS_SMOKE if told.smoke else ROUNDS_QUICK if told.quick else ROUNDS).items():
            with Server(directory / str(clusters)).running() as server:
                before = _cpu(server)
                measured[clusters] = uvloop.run(measure(server, clusters, rounds))
                cpu[clusters] = (_cpu(server) - before) / (rounds + 1)
    report_on(report, measured, cpu)
    report.finish(told)


def _cpu(server: Server) -> float:
    return sum(usage(pid).cpu_seconds for pid in (server.pid, os.getpid()))


if __name__ == "__main__":
    main()
