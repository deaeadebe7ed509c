"""A model several times larger than an aggregator may be: 2 GB of parameters, and the kernel grants it half a GB.

The limit is on data (`RLIMIT_DATA`): the heap and everything else that is the process's own and can be written.
Going above it is no delay but a failed allocation, with which the aggregator would end and the benchmark with it.
What is resident at most is read from the kernel besides; it has the mapped files in it, that is programs and libraries.

The updates and the model are the server's and lie in its store, on this machine in a memory disk.
They count on the machine, and on no process: on a server with a disk they would lie there.
"""

import uvloop
from measuring import MB, RawCopy, Report, Server, options, scratch
from plane import MEMORY_SHARE, Case, fits, play
from simulated import quiet

LIMIT_MEGABYTES = 512

CASE_SMOKE = Case(1, 2, 1)
CASE_QUICK = Case(600, 2, 1)
CASE = Case(2_000, 2, 1)
"""Neither an update nor the model would fit the limit. The quick one is as large as is quickly done, and does not fit either."""


def main() -> None:
    """Measure and report."""
    told = options(__doc__ or "")
    raw = RawCopy()
    report = Report("limited", "the server's memory and store, and the clusters'; strategies that remember something or compare updates")
    quiet()
    case = CASE_SMOKE if told.smoke else CASE_QUICK if told.quick else CASE
    if fits(case):
        with scratch() as folder, Server(folder / "nats").running() as server:
            played = uvloop.run(play(server, case, raw, folder, data_bytes_max=LIMIT_MEGABYTES * MB))
        held = played.held["aggregators"]
        row = [case.name, LIMIT_MEGABYTES, held.peak_megabytes, held.own_megabytes, played.median("fold", lambda p: p.seconds)]
        report.table("an aggregator with a hard limit", ["", "limit MB", "resident at most MB", "own at the end MB", "fold s"], [row])
        report.bar(f"resident at most, {case.name}, MB", held.peak_megabytes, at_most=LIMIT_MEGABYTES)
    else:
        report.note(f"skipped {case.name}: it takes more than {MEMORY_SHARE:.0%} of the free memory")
    report.finish(told)


if __name__ == "__main__":
    main()
