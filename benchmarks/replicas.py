"""What more aggregators bring: the fold of the same updates with one, two and four of them.

Each takes shards from the queue as it gets done with one, so no assignment has to be right beforehand.
They share this machine's cores with each other and with the server: with fewer cores than processes, the gain ends where the cores do.
"""

from functools import partial

import uvloop
from measuring import RawCopy, Report, Server, options, scratch
from plane import Case, Played, play
from simulated import quiet

REPLICAS = (1, 2, 4)
CASE = Case(100, 8, 4)
CASE_QUICK = Case(100, 8, 2)


def main() -> None:
    """Measure and report."""
    told = options(__doc__ or "")
    raw = RawCopy()
    report = Report("replicas", "aggregators on machines of their own; a cluster of servers, which would share the reading")
    quiet()
    case = CASE_QUICK if told.quick else CASE
    played: dict[int, Played] = {}
    for replicas in REPLICAS:
        with scratch() as folder, Server(folder / "nats").running() as server:
            played[replicas] = uvloop.run(play(server, case, raw, folder, replicas))
    rows = []
    for replicas, each in played.items():
        seconds = partial(each.median, "fold")
        rows.append(
            [
                f"{replicas} aggregator{'s' if replicas > 1 else ''}", seconds(lambda p: p.seconds), seconds(lambda p: p.rate),
                seconds(lambda p: p.share), played[1].median("fold", lambda p: p.seconds) / seconds(lambda p: p.seconds),
                seconds(lambda p: p.cpu["server"]), seconds(lambda p: p.cpu["aggregators"]), each.held["aggregators"].peak_megabytes,
            ]
        )  # fmt: skip
    columns = ["", "fold s", "MB/s", "of raw", "speed-up", "server CPU s", "aggregators CPU s", "peak MB of one"]
    report.table(f"the fold of {case.name}: medians of {case.rounds} rounds", columns, rows)
    report.finish(told.json)


if __name__ == "__main__":
    main()
