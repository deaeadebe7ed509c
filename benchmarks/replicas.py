"""What more aggregators bring: the fold of the same updates with one, two and four of them, and how far more could go.

Each takes shards from the queue as it gets done with one, so no assignment has to be right beforehand.
Here they share a machine's cores with each other and with the server, so the gain ends where the cores do.

The limit is computed from what a GB that moves costs, measured with one aggregator:

    seconds of a fold = GB * max(seconds of one / aggregators, CPU seconds of the server and of the aggregators / cores)

A GB is read by one aggregator, so bytes in and out of each are divided by their number, while the server sends and stores all of them.
With aggregators on machines of their own, the server's CPU alone is divided by its cores.
What the network then does is not in it: the table says what passes through it.
"""

import os
from functools import partial

import uvloop
from measuring import RawCopy, Report, Server, options, scratch
from plane import Case, Played, play
from simulated import quiet

REPLICAS_SMOKE = (1, 2)
REPLICAS = (1, 2, 4)
REPLICAS_COMPUTED = (1, 2, 4, 8, 16)

CASE_SMOKE = Case(1, 2, 1)
CASE_QUICK = Case(100, 4, 2)
CASE = Case(100, 8, 7)

BAR_ERROR = 1.5
"""By what factor the computed time of a fold may be wrong: the model has no queues, no caches and no other users of the machine."""


class Limit:
    """The model, from the fold of one aggregator."""

    def __init__(self, case: Case, alone: Played) -> None:
        cores = os.cpu_count() or 1
        self._case = case
        self._gigabytes = (case.clusters + 1) * case.megabytes / 1e3
        self._one = alone.median("fold", lambda p: p.seconds) / self._gigabytes
        self._raw = alone.median("fold", lambda p: p.raw)
        self._server = alone.cpu_per_gigabyte("fold", "server") / cores
        self._here = self._server + alone.cpu_per_gigabyte("fold", "aggregators") / cores

    def seconds(self, replicas: int) -> float:
        """A fold on this machine."""
        return self._gigabytes * max(self._one / replicas, self._here)

    def share(self, replicas: int) -> float:
        """The same as a share of raw TCP, which can be compared with a fold of other minutes, when others left us more or less."""
        return 1e3 * self._gigabytes / self.seconds(replicas) / self._raw

    def seconds_apart(self, replicas: int) -> float:
        """A fold whose aggregators have machines of their own, and the server this one."""
        return self._gigabytes * max(self._one / replicas, self._server)

    def megabytes(self, replicas: int) -> tuple[float, float]:
        """In and out of one aggregator."""
        return self._case.clusters * self._case.megabytes / replicas, self._case.megabytes / replicas


def report_on(report: Report, case: Case, played: dict[int, Played]) -> None:
    """What was measured, and what the model says of that and of more."""
    rows = []
    for replicas, each in played.items():
        seconds = partial(each.median, "fold")
        rows.append(
            [
                _named(replicas), seconds(lambda p: p.seconds), seconds(lambda p: p.rate), seconds(lambda p: p.share),
                played[1].median("fold", lambda p: p.seconds) / seconds(lambda p: p.seconds),
                seconds(lambda p: p.cpu["server"]), seconds(lambda p: p.cpu["aggregators"]), each.held["aggregators"].peak_megabytes,
            ]
        )  # fmt: skip
    columns = ["", "fold s", "MB/s", "of raw", "speed-up", "server CPU s", "aggregators CPU s", "peak MB of one"]
    report.table(f"the fold of {case.name}: medians of {case.rounds} rounds", columns, rows)
    limit = Limit(case, played[1])
    computed: list[list[object]] = []
    for replicas in REPLICAS_COMPUTED:
        here = limit.share(replicas)
        row: list[object] = [_named(replicas), *limit.megabytes(replicas), limit.seconds_apart(replicas), limit.seconds(replicas), here]
        if replicas in played:
            measured = played[replicas].median("fold", lambda p: p.share)
            computed.append([*row, measured, measured / here])
            if replicas > 1:
                report.bar(f"error of the model, {_named(replicas)}, times", max(measured / here, here / measured), at_most=BAR_ERROR)
        else:
            computed.append([*row, "", ""])
    columns = [
        "",
        "MB into each",
        "MB out of each",
        "computed s, own machines",
        "computed s",
        "of raw",
        "measured of raw",
        "measured/computed",
    ]
    report.table(f"the limit of {case.name}", columns, computed)


def _named(replicas: int) -> str:
    return f"{replicas} aggregator{'s' if replicas > 1 else ''}"


def main() -> None:
    """Measure and report."""
    told = options(__doc__ or "")
    raw = RawCopy()
    report = Report("replicas", "aggregators on machines of their own (computed only); a cluster of servers, which would share the reading")
    quiet()
    case = CASE_SMOKE if told.smoke else CASE_QUICK if told.quick else CASE
    played: dict[int, Played] = {}
    for replicas in REPLICAS_SMOKE if told.smoke else REPLICAS:
        with scratch() as folder, Server(folder / "nats").running() as server:
            played[replicas] = uvloop.run(play(server, case, raw, folder, replicas))
    report_on(report, case, played)
    report.finish(told)


if __name__ == "__main__":
    main()
