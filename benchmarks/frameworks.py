"""The same Flower app on Flower's own federation and on ours: what a round takes, what it comes to, what the servers hold, what survives.

Both sides have two clients as processes of their own on loopback, keep nothing encrypted, and run the app in the same environment.
A round is one to train and one to evaluate, timed by the app's ServerApp there and by the log's facts here.
Flower gives every message a new process, and its parts ask each other every one to three seconds whether there is something to do.
We keep the app's process for a run, and nobody asks in turns. That, and not the arithmetic, is most of the difference.
So Flower is measured a second time with its sleeps cut: what is left is one warm process for a run against a process for each message.

On our side the app runs twice: by our strategy, and by its own ServerApp, unmodified, as on Flower's.
"""

import asyncio
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import uvloop
from aggregation import FLOWER_PYTHON
from flwr_federation import FlowerFederation
from measuring import Report, options, scratch
from our_federation import CLUSTERS, our_federation
from played import Played, difference
from simulated import quiet
from watching import Peaks, watched

AS_INSTALLED, SLEEPS_CUT = "SuperLink", "SuperLink, its sleeps cut"
OUR_STRATEGY, OWN_SERVER = "ours, our strategy", "ours, the app's ServerApp"

THEIR_SERVERS = ("SuperLink", "ServerApp")
OUR_SERVERS = ("nats-server", "scheduler", "aggregator", "status")
OUR_SERVERS_WITH_DRIVER = (*OUR_SERVERS, "driver", "ServerApp")
"""What a federation has once, whatever the number of clients. Flower's SuperExec is left out, which only starts processes."""


@dataclass(frozen=True, slots=True)
class Case:
    """A model's size, and how many rounds: as many on both sides to compare the weights, and more on ours to time them.

    `times` is how many times as fast as an unchanged SuperLink we must be.
    """

    kilobytes: int
    rounds: int
    timed: int
    theirs: tuple[str, ...]
    times: float

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.kilobytes // 1_000} MB" if self.kilobytes >= 1_000 else f"{self.kilobytes} kB"


CASES_SMOKE = (Case(16, 1, 5, (SLEEPS_CUT,), 100),)
CASES_QUICK = (Case(16, 1, 30, (AS_INSTALLED,), 100),)
CASES = (
    Case(16, 3, 100, (AS_INSTALLED, SLEEPS_CUT), 100),
    Case(10_000, 3, 9, (AS_INSTALLED,), 10),
    Case(100_000, 3, 5, (AS_INSTALLED,), 10),
)
"""A round of an unchanged SuperLink takes six seconds at least."""

PLAY_SECONDS_MAX = 300.0
"""How long either side may take for all its rounds of a case."""

BAR_DIFFERENCE = 1e-6
"""Relative: eight roundings of float32. A round moves numbers half the way, so what earlier rounds rounded away is halved each time."""

BAR_MEGABYTES = 250.0
"""Of one aggregator, whatever the model's size."""

BAR_SERVERS = 0.25
BAR_SERVERS_KILOBYTES = 100_000
"""Of what Flower's servers hold, and from which size on: with a small model both sides hold Python and little else."""

KILLED = ("driver", "nats-server")
THEIR_KILLED = ("ServerApp", "SuperLink")
"""Flower's counterparts. It is asked in a full run only: it needs a minute to see that a ServerApp is gone."""

SURVIVAL_KILOBYTES = 16
SURVIVAL_ROUNDS = 3
SURVIVAL_PAUSE_SECONDS = 0.2
"""How long clients of the runs with a kill take to train: a round of milliseconds would be over before anything is killed."""


def theirs(directory: Path, pace: str, case: Case) -> tuple[Played, Peaks]:
    """The run on a SuperLink with two SuperNodes, and what the processes held."""
    with (
        FlowerFederation(directory, sleepless=pace == SLEEPS_CUT).running(len(CLUSTERS)) as flower,
        watched(lambda: flower.pids, _role_of_theirs) as peaks,
    ):
        return flower.play(case.kilobytes, case.rounds, PLAY_SECONDS_MAX), peaks


def _role_of_theirs(name: str, command: str) -> str:
    for program, role in (("flwr-serverapp", "ServerApp"), ("flwr-clientapp", "ClientApp"), ("flower-superexec", "SuperExec")):
        if program in command:
            return role
    return "SuperLink" if name == "superlink" else "SuperNode"


async def ours(directory: Path, way: str, case: Case) -> tuple[Played, list[float], Peaks]:
    """The run on our services and two collaborators, the rounds' times of a longer one, and what the processes held."""
    async with asyncio.timeout(PLAY_SECONDS_MAX), our_federation(directory, restart=False) as up:
        with watched(lambda: up.pids, _role_of_ours) as peaks:
            played = await up.play(case.kilobytes, case.rounds, own_server=way == OWN_SERVER)
            timed = await up.play(case.kilobytes, case.timed, own_server=way == OWN_SERVER)
            return played, timed.rounds, peaks


def _role_of_ours(name: str, command: str) -> str:
    if name.startswith("collaborator"):
        return "collaborator" if "fedplane.collaborator" in command else "app"
    if name == "driver":
        return "driver" if "fedplane.collaborator.driver" in command else "ServerApp"
    return name.partition("-0")[0]


async def survivals(directory: Path) -> dict[str, tuple[float, float]]:
    """For each process that is killed in the midst of a run: seconds that the run took longer, and how far its weights are away."""
    found = {}
    async with asyncio.timeout(PLAY_SECONDS_MAX), our_federation(directory, restart=True) as up:
        begun = time.monotonic()
        undisturbed = await up.play(SURVIVAL_KILOBYTES, SURVIVAL_ROUNDS, own_server=True, pause_seconds=SURVIVAL_PAUSE_SECONDS)
        usual_seconds = time.monotonic() - begun
        for name in KILLED:
            begun = time.monotonic()
            survivor = await up.play(SURVIVAL_KILOBYTES, SURVIVAL_ROUNDS, own_server=True, pause_seconds=SURVIVAL_PAUSE_SECONDS, kill=name)
            found[name] = (time.monotonic() - begun - usual_seconds, difference(survivor, undisturbed))
    return found


def fates(directory: Path) -> dict[str, tuple[str, float]]:
    """For each of Flower's servers that is killed in the midst of a run: what Flower says became of the run, and after how many seconds."""
    found = {}
    for name in THEIR_KILLED:
        with FlowerFederation(directory / name, database=True).running(len(CLUSTERS)) as flower:
            found[name] = flower.fate(name, SURVIVAL_KILOBYTES, SURVIVAL_ROUNDS, PLAY_SECONDS_MAX)
    return found


def compare(report: Report, folder: Path, case: Case) -> list[list[object]]:
    """Play one case on all sides and say how they compare. Returns the rows of its memory."""
    flower = {pace: theirs(folder / f"theirs-{number}", pace, case) for number, pace in enumerate(case.theirs)}
    own = {way: uvloop.run(ours(folder / f"ours-{number}", way, case)) for number, way in enumerate((OUR_STRATEGY, OWN_SERVER))}
    _times(report, case, {pace: played.rounds for pace, (played, _) in flower.items()}, {way: timed for way, (_, timed, _) in own.items()})
    reference, their_peaks = flower[case.theirs[0]]
    together = sum(their_peaks.get(role, 0.0) for role in THEIR_SERVERS)
    for way, (played, _, peaks) in own.items():
        report.bar(f"weights apart from SuperLink's, {case.name}, {way}", difference(played, reference), at_most=BAR_DIFFERENCE)
        report.bar(f"aggregator, {case.name}, {way}, peak MB", peaks["aggregator"], at_most=BAR_MEGABYTES)
        counted = OUR_SERVERS if way == OUR_STRATEGY else OUR_SERVERS_WITH_DRIVER
        part = sum(peaks[role] for role in counted) / together
        ours_alone = part - peaks["nats-server"] / together
        said = f"{', '.join(counted)} hold {part:.2f} of what {' and '.join(THEIR_SERVERS)} hold, {ours_alone:.2f} without nats-server"
        report.note(f"{case.name}, {way}: {said}")
        if way == OUR_STRATEGY and case.kilobytes >= BAR_SERVERS_KILOBYTES:
            report.bar(f"servers' memory, {case.name}, part of SuperLink's", part, at_most=BAR_SERVERS)
    every = {**{pace: peaks for pace, (_, peaks) in flower.items()}, **{way: peaks for way, (_, _, peaks) in own.items()}}
    return [[f"{case.name}, {side}: {role}", peak] for side, peaks in every.items() for role, peak in peaks.items()]


def _times(report: Report, case: Case, flower: Mapping[str, list[float]], own: Mapping[str, list[float]]) -> None:
    """The table of a case's times, and its bars."""
    medians = {side: statistics.median(rounds) for side, rounds in [*flower.items(), *own.items()]}
    rows = [
        [side, len(rounds), medians[side], min(rounds), max(rounds), *(medians[side] / medians[way] for way in own)]
        for side, rounds in [*flower.items(), *own.items()]
    ]
    columns = ["", "rounds", "median s", "min s", "max s", *(f"times {way}" for way in own)]
    report.table(f"{case.name}, {len(CLUSTERS)} clients: a round, train and evaluate", columns, rows)
    for way in own:
        if AS_INSTALLED in flower:
            report.bar(f"times as fast as SuperLink, {case.name}, {way}", medians[AS_INSTALLED] / medians[way], at_least=case.times)


def kill(report: Report, quick: bool) -> None:
    """Kill servers on our side, and in a full run on Flower's, and say what became of the runs."""
    with scratch() as folder:
        found = uvloop.run(survivals(folder / "ours"))
        for name, (status, after) in ({} if quick else fates(folder)).items():
            report.note(f"after a kill -9 of Flower's {name} in the first round, Flower said {after:.0f} s later of the run: {status}")
    rows = [[f"kill -9 of the {name}", longer, apart] for name, (longer, apart) in found.items()]
    report.table("a run of the app's ServerApp with a kill in its second round", ["", "s longer", "weights apart"], rows)
    for name, (_, apart) in found.items():
        report.bar(f"weights apart after a kill of the {name}", apart, at_most=BAR_DIFFERENCE)


def main() -> None:
    """Measure and report."""
    told = options(__doc__ or "")
    if not FLOWER_PYTHON.exists():
        sys.exit(f"there is no {FLOWER_PYTHON}; `make app` makes the environment with Flower")
    report = Report(
        "frameworks",
        "the network, TLS and disks; training; more than two clients; Flower's simulation, which is one process; what our server keeps in"
        " files, which are in memory here but not counted as its memory",
    )
    quiet()
    held = []
    for case in CASES_SMOKE if told.smoke else CASES_QUICK if told.quick else CASES:
        with scratch() as folder:
            held += compare(report, folder, case)
    report.table("the largest process of each role", ["", "peak MB"], held)
    kill(report, told.quick)
    report.finish(told)


if __name__ == "__main__":
    main()
