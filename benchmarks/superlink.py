"""The same Flower app on Flower's own federation and on ours: what a round takes, train and evaluate, and what the servers hold.

Both sides have two clients as processes of their own on loopback, keep nothing encrypted, and run the app in the same environment.
A round is timed from the question to train to the end of its evaluation: by the app's ServerApp there, by the log's facts here.
Flower gives every message a new process, and its parts ask each other every one to three seconds whether there is something to do.
We keep the app's process for a run, and nobody asks in turns. That, and not the arithmetic, is most of the difference.
"""

import asyncio
import json
import os
import statistics
import sys
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import uvloop
from aggregation import FLOWER_PYTHON
from flwr_federation import FlowerFederation
from measuring import Report, options, scratch
from simulated import bus_at, facts_of, quiet
from watching import Peaks, watched

from fedplane.cli.federation import federation
from fedplane.cli.runs import submit
from fedplane.runtime.ports import Bus
from fedplane.schemas.facts import Advertised, Completed, Evaluated, Opened
from fedplane.schemas.models import Task
from fedplane.schemas.resources import FederatedLearning

APP = Path(__file__).parent / "apps" / "numbers"
CLUSTERS = ("left", "right")

CASES_SMOKE = ((1, 1, 1),)
CASES_QUICK = ((10, 1, 5),)
CASES = ((10, 3, 9), (100, 5, 9))
"""Megabytes of the model, and rounds on Flower's side and on ours. A round there takes nine seconds at least."""

PLAY_SECONDS_MAX = 300.0
"""How long either side may take for all its rounds."""

STORE_BYTES = 8_000_000_000

BAR_TIMES = 10.0
BAR_MEGABYTES = 250.0
"""Of one aggregator, whatever the model's size."""


def theirs(directory: Path, megabytes: int, rounds: int) -> tuple[list[float], Peaks]:
    """Seconds of each round on a SuperLink with two SuperNodes, and what the processes held."""
    with (
        FlowerFederation(directory).running(len(CLUSTERS)) as flower,
        watched(lambda: flower.pids, _role_of_theirs) as peaks,
    ):
        return flower.play(APP, rounds, megabytes, PLAY_SECONDS_MAX), peaks


def _role_of_theirs(name: str, command: str) -> str:
    for program, role in (("flwr-serverapp", "ServerApp"), ("flwr-clientapp", "ClientApp"), ("flower-superexec", "SuperExec")):
        if program in command:
            return role
    return "SuperLink" if name == "superlink" else "SuperNode"


async def ours(directory: Path, megabytes: int, rounds: int) -> tuple[list[float], Peaks]:
    """The same on our services and two collaborators."""
    os.environ["FEDPLANE_PYTHON"] = str(FLOWER_PYTHON)  # for the collaborators, which have our environment
    clusters = _clusters_file(directory)
    async with (
        asyncio.timeout(PLAY_SECONDS_MAX),
        federation(directory / "state", clusters=clusters, port=0, aggregators=1, store_bytes=STORE_BYTES, restart=False) as up,
        bus_at(up.nats_url, "benchmark") as bus,
    ):
        with watched(lambda: up.pids, _role_of_ours) as peaks:
            await _advertised(bus, set(CLUSTERS))
            run, _ = await submit(bus, _resource(megabytes, rounds), datetime.now(UTC))
            return await _rounds(bus, run), peaks


def _role_of_ours(name: str, command: str) -> str:
    if name.startswith("collaborator"):
        return "collaborator" if "fedplane.collaborator" in command else "app"
    return name.partition("-0")[0]


def _clusters_file(directory: Path) -> Path:
    offered = [{"name": name, "claims": {"numbers": "none"}, "allocatable": {"cpu": "1", "memory": "1Gi"}} for name in CLUSTERS]
    directory.mkdir()
    file = directory / "clusters.yaml"
    file.write_text(json.dumps({"clusters": offered}))  # JSON is YAML
    return file


def _resource(megabytes: int, rounds: int) -> FederatedLearning:
    return FederatedLearning.model_validate(
        {
            "apiVersion": "federation-ai.open-cluster-management.io/v1alpha1",
            "kind": "FederatedLearning",
            "metadata": {"name": f"numbers-{megabytes}", "uid": "0123456789", "annotations": {"fedplane.io/app": str(APP)}},
            "spec": {
                "framework": "flower",
                "server": {"rounds": rounds, "minAvailableClients": len(CLUSTERS)},
                "rounds": {"evaluate": True, "attempts": 1},
                "data": {"claim": "numbers"},
                "config": {"megabytes": megabytes, "rounds": rounds},
            },
        }
    )


async def _advertised(bus: Bus, missing: set[str]) -> None:
    async for batch in bus.log.tail([Advertised.pattern()]):
        missing -= {record.fact.cluster for record in batch.records if isinstance(record.fact, Advertised)}
        if not missing:
            return


async def _rounds(bus: Bus, run: str) -> list[float]:
    begun: list[datetime] = []
    async for fact in facts_of(bus, run):
        match fact:
            case Opened(task=Task.TRAIN):
                begun.append(fact.at)
            case Evaluated(metrics=metrics):
                assert metrics["first"] == len(begun), "each round adds one to every number"
            case Completed():
                begun.append(fact.at)
                break
    return [(after - before).total_seconds() for before, after in pairwise(begun)]


def main() -> None:
    """Measure and report."""
    told = options(__doc__ or "")
    if not FLOWER_PYTHON.exists():
        sys.exit(f"there is no {FLOWER_PYTHON}; `make app` makes the environment with Flower")
    report = Report("superlink", "the network, TLS and disks; training; more than two clients; Flower's simulation, which is one process")
    quiet()
    rows, held = [], []
    for megabytes, their_count, our_count in CASES_SMOKE if told.smoke else CASES_QUICK if told.quick else CASES:
        with scratch() as folder:
            our_rounds, our_peaks = uvloop.run(ours(folder / "ours", megabytes, our_count))
            their_rounds, their_peaks = theirs(folder / "theirs", megabytes, their_count)
        name = f"{megabytes} MB, {len(CLUSTERS)} clients"
        our_median, their_median = statistics.median(our_rounds), statistics.median(their_rounds)
        rows.append([name, len(their_rounds), their_median, len(our_rounds), our_median, max(our_rounds), their_median / our_median])
        held += [[f"{name}: Flower's {role}", peak] for role, peak in their_peaks.items()]
        held += [[f"{name}: our {role}", peak] for role, peak in our_peaks.items()]
        together = their_peaks["SuperLink"] + their_peaks["ServerApp"]
        report.note(f"{name}: SuperLink and ServerApp hold {together / our_peaks['aggregator']:.1f} times what our aggregator holds")
        report.bar(f"times as fast as SuperLink, {name}", their_median / our_median, at_least=BAR_TIMES)
        report.bar(f"aggregator, {name}, peak MB", our_peaks["aggregator"], at_most=BAR_MEGABYTES)
    columns = ["", "Flower's rounds", "Flower s", "our rounds", "ours s", "our slowest s", "Flower/ours"]
    report.table("a round, train and evaluate: medians", columns, rows)
    report.table("the largest process of each role", ["", "peak MB"], held)
    report.finish(told)


if __name__ == "__main__":
    main()
