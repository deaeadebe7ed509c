"""What privacy costs: a client's work for secure aggregation beside Flower's SecAgg+, and the accuracy that central noise leaves.

Secure aggregation. Both sides play a whole round in one process each, ours (`our_secagg`) and Flower's, unmodified (`flwr_secagg`).
They have as many clients, and each client has as many neighbours and as large a threshold, on both sides: our defaults for so many.
Numbers become integers in both by a clip of 8. Of three clients all work is measured, and medians are taken.
With more clients than that, the others do all but masking: the work of a client does not depend on what others mask.
What is measured of a client is everything from its keys to its last share; of the server, from the masked sum to the mean.
A client of ours has one masked shard of 16 MB in memory here; a collaborator has two of them, while one is on its way.
Bytes are all that a client sends, against the float32 of its update; memory is what its work took at most beyond its update.

A whole federation. Real collaborators and services play rounds with masks and without (`our_federation`); a smoke run leaves that out.

Noise. Runs on real services, of the first example's app (`noised`).
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import uvloop
from aggregation import FLOWER_PYTHON
from cohort import Answer, Case, update
from measuring import Options, Report, Server, options, scratch
from noised import DELTA, Learnt, Lesson, app, learn
from our_federation import our_federation
from played import difference
from simulated import quiet

from fedplane.privacy import graph
from fedplane.schemas.digests import Hashing

__all__ = ["main"]

HERE = Path(__file__).parent
OURS, FLOWER = "ours", "Flower"
SIDES = {OURS: (Path(sys.executable), HERE / "our_secagg.py"), FLOWER: (FLOWER_PYTHON, HERE / "flwr_secagg.py")}

MEASURED = 3
"""Clients whose whole work is measured, of those who stay."""

PLAY_SECONDS_MAX = 1200
"""For 64 clients Flower takes two minutes, most of them to cut and join secrets."""

BAR_TIMES, BAR_BYTES, BAR_APART = 3.0, 2.2, 1e-6

CLIENT_COLUMNS = ("", "ours ms", "Flower ms", "Flower/ours", "ours ns", "Flower ns", "ours bytes", "Flower bytes", "ours MB", "Flower MB")
SERVER_COLUMNS = ("", "ours ms", "Flower ms", "Flower/ours", "missing", "ours ms then", "Flower ms then", "Flower/ours then")

NOISE_CLIP = 0.5
"""Of the lessons with noise: two thirds of what an update's length is without."""


@dataclass(frozen=True, slots=True)
class Size:
    """So many parameters and clients; `turns` of a round in which nobody is missing, and of one in which some are."""

    elements: int
    clients: int
    whole: int
    torn: int

    @property
    def name(self) -> str:
        return f"{self.elements / 1e6:g}M, {self.clients} clients"

    @property
    def missing(self) -> int:
        """Who drops out: one of sixteen, and one at least."""
        return max(1, self.clients // 16)

    def case(self, missing: int) -> Case:
        neighbours, threshold = graph.chosen(self.clients, None, None)
        return Case(self.elements, self.clients, neighbours, threshold, min(MEASURED, self.clients - missing), missing)


SIZES_SMOKE = (Size(200_000, 4, 0, 1),)
SIZES_QUICK = (Size(1_000_000, 4, 0, 1), Size(1_000_000, 16, 0, 1), Size(10_000_000, 4, 1, 0))
SIZES = (
    Size(1_000_000, 4, 3, 3), Size(1_000_000, 16, 3, 3), Size(1_000_000, 64, 1, 1),
    Size(10_000_000, 4, 3, 3), Size(10_000_000, 16, 1, 1), Size(10_000_000, 64, 0, 1),
)  # fmt: skip

FEW = Lesson(clusters=4, each=1000, rounds=10, batch=32, rate=0.03)
"""As in the example, but for another deal of digits, and none without."""
MANY = Lesson(clusters=400, each=10, rounds=10, batch=10, rate=0.1)
"""As many clusters as the digits allow. Batch and rate were chosen without noise, so that ten rounds get somewhere."""

FEDERATION = ("east", "north", "south", "west")
ROUNDS_QUICK = {16: 10, 10_000: 3}
ROUNDS = {16: 60, 10_000: 20, 40_000: 10}
"""Rounds with masks, and as many without, by the model's kilobytes."""

LESSONS_SMOKE = ((Lesson(clusters=4, each=10, rounds=1, batch=10, rate=0.1), (8,)),)
LESSONS_QUICK = ((replace(MANY, clusters=40, rounds=5), (None, 8)),)
LESSONS = ((FEW, (None, 8)), (MANY, (None, 8, 3, 1)))
"""Lessons, and the epsilon of each of their runs; none is without noise."""

Answers = dict[tuple[str, bool], list[Answer]]
"""By side, and by whether somebody was missing."""


def ask(side: str, case: Case) -> Answer:
    """One round on that side, in a process of its own."""
    python, program = SIDES[side]
    done = subprocess.run(
        [python, program, json.dumps(asdict(case))], capture_output=True, text=True, timeout=PLAY_SECONDS_MAX, check=False
    )
    if done.returncode:
        sys.exit(f"{program.name} failed: {done.stderr}")
    return Answer(**json.loads(done.stdout))


def play(size: Size) -> Answers:
    """All turns of a size, the sides one after the other."""
    answers: Answers = {(side, torn): [] for side in SIDES for torn in (False, True)}
    for turn in range(max(size.whole, size.torn)):
        for torn, turns in ((False, size.whole), (True, size.torn)):
            for side in SIDES if turn < turns else ():
                answers[side, torn].append(ask(side, size.case(size.missing if torn else 0)))
    return answers


def compare(report: Report, sizes: Sequence[Size]) -> None:
    """What a client and the server do in each size, on both sides."""
    clients: list[list[object]] = []
    servers: list[list[object]] = []
    for size in sizes:
        answers = play(size)
        ours, theirs = (answers[side, False] + answers[side, True] for side in SIDES)
        clients.append([size.name, *_clients(ours, theirs, size)])
        servers.append([size.name, *_servers(answers, size)])
        gain = _median(theirs, "client_seconds") / _median(ours, "client_seconds")
        report.bar(f"times Flower's speed of a client, {size.name}", gain, at_least=BAR_TIMES)
        report.bar(f"bytes of a client, times float32, {size.name}", _median(ours, "client_bytes") / (4 * size.elements), at_most=BAR_BYTES)
        apart = [max((each.apart for each in side if each.apart is not None), default=None) for side in (ours, theirs)]
        if apart[0] is not None:
            report.bar(f"weights apart from the right mean, {size.name}", apart[0], at_most=BAR_APART)
            report.note(f"{size.name}: the mean is {apart[0]:.1e} apart from the right one at most, and Flower's {apart[1]:.1e}")
    report.table("a client's work, in all and for a parameter; bytes as times float32; MB beyond its update", CLIENT_COLUMNS, clients)
    report.table("taking the masks off, with nobody missing, and with some", SERVER_COLUMNS, servers)


def _clients(ours: Sequence[Answer], theirs: Sequence[Answer], size: Size) -> Iterator[object]:
    taken = [_median(side, "client_seconds") for side in (ours, theirs)]
    yield from (1e3 * taken[0], 1e3 * taken[1], taken[1] / taken[0], 1e9 * taken[0] / size.elements, 1e9 * taken[1] / size.elements)
    yield from (_median(side, "client_bytes") / (4 * size.elements) for side in (ours, theirs))
    yield from (_median(side, "client_megabytes") for side in (ours, theirs))


def _servers(answers: Answers, size: Size) -> Iterator[object]:
    """Of both kinds of rounds; nothing of one that was not played."""
    for torn in (False, True):
        if torn:
            yield size.missing if size.torn else ""
        if answers[OURS, torn]:
            taken = [_median(answers[side, torn], "server_seconds") for side in SIDES]
            yield from (1e3 * taken[0], 1e3 * taken[1], taken[1] / taken[0])
        else:
            yield from ("", "", "")


def _median(answers: Sequence[Answer], name: str) -> float:
    return statistics.median(getattr(each, name) for each in answers)


def plain_seconds(elements: int) -> float:
    """What a client computes of an update without masks, besides sending it: its digest, which a masked update has as well."""
    data, begun = memoryview(update(0, elements)).cast("B"), time.perf_counter()
    Hashing().update(data)
    return time.perf_counter() - begun


async def rounds(report: Report, folder: Path, kilobytes: Mapping[int, int]) -> None:
    """What masks add to a round of a whole federation, train and evaluate; so many rounds of each size."""
    rows: list[list[object]] = []
    async with our_federation(folder, restart=False, clusters=FEDERATION) as up:
        for size, times in kilobytes.items():
            plain = await up.play(size, times)
            masked = await up.play(size, times, privacy={"secureAggregation": {}})
            taken = [1e3 * statistics.median(played.rounds) for played in (plain, masked)]
            name = f"{size} kB" if size < 1_000 else f"{size // 1_000} MB"
            rows.append([name, times, *taken, taken[1] / taken[0]])
            report.bar(f"weights apart from the plain run's, {name}", difference(masked, plain), at_most=BAR_APART)
    report.table(f"a round of {len(FEDERATION)} clusters", ["", "rounds", "plain ms", "masked ms", "masked/plain"], rows)


async def teach(folder: Path, told: Options) -> list[tuple[Lesson, float | None, Learnt]]:
    """Play every lesson with every noise."""
    found: list[tuple[Lesson, float | None, Learnt]] = []
    with app(folder / "digits") as digits:
        for lesson, epsilons in LESSONS_SMOKE if told.smoke else LESSONS_QUICK if told.quick else LESSONS:
            for epsilon in epsilons:
                noise = None if epsilon is None else {"epsilon": epsilon, "clip": NOISE_CLIP}
                with Server(folder / str(len(found))).running() as server:
                    found.append((lesson, epsilon, await learn(server, digits, replace(lesson, noise=noise))))
    return found


def show(report: Report, found: Sequence[tuple[Lesson, float | None, Learnt]]) -> None:
    """The accuracies, and whether each run has kept to its budget."""
    rows: list[list[object]] = []
    for lesson, epsilon, learnt in found:
        name = f"{lesson.clusters} clusters with {lesson.each} digits each, {f'epsilon {epsilon}' if epsilon else 'no noise'}"
        multiplier = learnt.spent.multiplier if learnt.spent else 0.0
        rows.append([name, lesson.rounds, learnt.accuracy, multiplier, multiplier * NOISE_CLIP / lesson.clusters])
        if epsilon and learnt.spent:
            report.bar(f"epsilon that was spent, {name}", learnt.spent.epsilon, at_most=float(epsilon))
    columns = ["", "rounds", "accuracy", "noise multiplier", "deviation in a weight"]
    report.table(f"the first example with central noise, clip {NOISE_CLIP:g}, delta {DELTA:g}", columns, rows)
    report.note("each run with noise was played once, and noise is drawn anew in each: with few clusters accuracies differ from run to run")


def main() -> None:
    """Measure and report."""
    told = options(__doc__ or "")
    if not FLOWER_PYTHON.exists():
        sys.exit(f"there is no {FLOWER_PYTHON}; `make app` makes the environment with Flower")
    quiet()
    report = Report(
        "privacy",
        "beside Flower, the bus and the network on both sides, so no waiting between steps, more than one thread, downloading the model;"
        " everywhere, signatures, hidden weights, distributed and local noise; in the runs with noise, clusters as processes of their own",
    )
    sizes = SIZES_SMOKE if told.smoke else SIZES_QUICK if told.quick else SIZES
    compare(report, sizes)
    for elements in sorted({size.elements for size in sizes}):
        taken = statistics.median(plain_seconds(elements) for _ in range(5))
        said = (
            f"before it sends {elements / 1e6:g}M parameters without masks, a client of ours computes their digest in {1e3 * taken:.1f} ms"
        )
        report.note(f"{said}; with masks it does that as well, and it is in no number above")
    report.note("Flower makes its masks with a Mersenne Twister and a seed of 32 bits (`pseudo_rand_gen`), we ours with AES-256")
    with scratch() as folder:
        if not told.smoke:
            uvloop.run(rounds(report, folder / "federation", ROUNDS_QUICK if told.quick else ROUNDS))
        show(report, uvloop.run(teach(folder, told)))
    report.finish(told)


if __name__ == "__main__":
    main()
