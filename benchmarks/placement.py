"""What choosing clusters costs: one run over 10,000 clusters, and a hundred runs over 1,000, by our criteria and by placements.

Placement is pure, so this is one process, no server and no network: clusters are made first, and only `place` or `schedule` is timed.
Times are CPU times: there is nothing to wait for, and other users of the machine are not what is measured.
What was made before is kept from the collector of garbage (gc.freeze), so that it goes through what placing makes and nothing else.
A cluster has ten labels and ten claims. `placement` asks for a label and a claim, tolerates a taint and weighs four prioritizers.
`expression` asks for the same by an expression, which looks through the claims.
Left out: what a scheduler does besides, reading and storing facts; see the benchmark of the control plane.
"""

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from measuring import Report, fit, options

from fedplane.scheduler import fleet
from fedplane.scheduler.fleet import Cluster
from fedplane.scheduler.ocm.inventory import (
    EXCLUSIVE_LABEL,
    NO_HUB,
    AddOnPlacementScore,
    Binding,
    ClusterSet,
    Decision,
    Inventory,
    ManagedCluster,
    Taint,
)
from fedplane.scheduler.ocm.scheduling import schedule
from fedplane.scheduler.placement import place
from fedplane.scheduler.view import managed
from fedplane.schemas.facts import Advertised
from fedplane.schemas.resources import API_VERSION, KIND, FederatedLearning

__all__ = ["main"]

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
CHOSEN = 100
"""How many clusters a run takes: as many as one PlacementDecision holds."""

SIZES_SMOKE = (100, 300)
SIZES_QUICK = (1_000, 10_000)
SIZES = (1_000, 3_000, 10_000)
SOME = 1_000
RUNS_SMOKE, RUNS = 2, 100
TURNS_SMOKE, TURNS_QUICK, TURNS = 1, 3, 9

BAR_SECONDS = 1.0
"""Of one run over ten thousand clusters: a scheduler looks once a second."""

BAR_GROWTH = 2.0
"""What one cluster may cost more when there are ten times as many.

Sorting is the only step that is more than a line; besides, Python's collector of garbage goes through what is explained so far.
"""

LABELLED = {
    "labelSelector": {"matchLabels": {"zone": "north"}},
    "claimSelector": {"matchExpressions": [{"key": "data", "operator": "Exists"}]},
}
EXPRESSION = "managedCluster.metadata.labels.zone == 'north' && managedCluster.status.clusterClaims.exists(c, c.name == 'data')"
CONFIGURATIONS = [
    {"scoreCoordinate": {"builtIn": "ResourceAllocatableCPU"}, "weight": 2},
    {"scoreCoordinate": {"type": "AddOn", "addOn": {"resourceName": "usage", "scoreName": "gpu"}}, "weight": 3},
]


def resource(selector: dict[str, object] | None = None) -> FederatedLearning:
    """A run: by our criteria alone, or by a placement with this selector."""
    asked: dict[str, object] = {"numberOfClusters": CHOSEN}
    if selector is not None:
        asked |= {
            "predicates": [{"requiredClusterSelector": selector}],
            "prioritizerPolicy": {"configurations": CONFIGURATIONS},
            "tolerations": [{"key": "busy", "operator": "Exists", "tolerationSeconds": 3600}],
        }
    spec = {"client": {"placement": asked}, "data": {"claim": "data"}}
    return FederatedLearning.model_validate({"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "r"}, "spec": spec})


CASES = {
    "our criteria": resource(),
    "placement": resource(LABELLED),
    "expression": resource({"celSelector": {"celExpressions": [EXPRESSION]}}),
}


def clusters(count: int) -> list[Cluster]:
    """Clusters that differ in zone, capacity, and how busy they are; half of them are in the zone that is asked for."""
    made = []
    for number in range(count):
        labels = {f"label-{each}": str(number % (each + 2)) for each in range(8)}
        fact = Advertised(
            at=NOON,
            cluster=f"cluster-{number * 7919 % count:05}",
            lease_seconds=15,
            labels=labels | {"zone": "north" if number % 2 else "south", EXCLUSIVE_LABEL: "prod"},
            claims={f"claim-{each}": "x" for each in range(9)} | {"data": "/data"},
            allocatable={"cpu": str(1 + number % 64), "memory": f"{1 + number % 512}Gi"},
        )
        made.append(replace(fleet.fold({}, fact)[fact.cluster], live_runs=number % 4))
    return made


def hub_of(found: list[Cluster]) -> Inventory:
    """The same clusters as a hub has them, every tenth with a taint, every third in a decision of another placement."""
    known: dict[str, ManagedCluster] = {}
    for number, cluster in enumerate(found):
        tainted = (Taint("busy", added=NOON),) if number % 10 == 0 else ()
        known[cluster.name] = replace(managed(cluster, NO_HUB), taints=tainted)
    names = [cluster.name for cluster in found]
    return Inventory(
        clusters=known,
        sets={"prod": ClusterSet("prod")},
        bindings=(Binding("default", "prod"),),
        decisions=(Decision("other", "p", tuple(names[::3])), Decision("default", "r", tuple(names[:CHOSEN]))),
        scores={(name, "usage"): AddOnPlacementScore(name, "usage", (("gpu", number % 201 - 100),)) for number, name in enumerate(names)},
    )


def seconds(work: Callable[[], object], turns: int) -> float:
    """The median CPU time."""
    taken = []
    for _ in range(turns):
        gc.collect()
        gc.freeze()
        begun = time.process_time()
        work()
        taken.append(time.process_time() - begun)
    return statistics.median(taken)


def measure(report: Report, sizes: tuple[int, ...], turns: int) -> None:
    """One run over more and more clusters."""
    fleets = {size: clusters(size) for size in sizes}
    hubs = {size: hub_of(fleets[size]) for size in sizes}
    rows: list[list[object]] = []
    few, many = sizes[0], sizes[-1]
    for name, run in CASES.items():
        placement = run.spec.client.placement
        ways: dict[str, Callable[[int], object]] = {name: lambda size, run=run: place(run, fleets[size], NOON)}
        if placement.predicates:
            ways[f"{name}, hub"] = lambda size, run=run: place(run, fleets[size], NOON, hubs[size])
            ways[f"{name}, upstream's alone"] = lambda size, asked=placement: schedule(asked, "default", "r", hubs[size], NOON)
        for way, work in ways.items():
            taken = {size: seconds(lambda work=work, size=size: work(size), turns) for size in sizes}
            line = fit([(float(size), value) for size, value in taken.items()])
            rows.append([way, *(value * 1e3 for value in taken.values()), line.each * 1e6])
            report.bar(f"seconds for {many} clusters, {way}", taken[many], at_most=BAR_SECONDS)
            growth = (taken[many] / many) / (taken[few] / few)
            report.bar(f"times the cost of each cluster with {many} than with {few}, {way}", growth, at_most=BAR_GROWTH)
    report.table("one run, CPU milliseconds, medians", ["by", *(f"{size} clusters" for size in sizes), "us each"], rows)


def place_all(run: FederatedLearning, found: list[Cluster], runs: int) -> None:
    """So many placements, one after the other."""
    for _ in range(runs):
        place(run, found, NOON)


def main() -> None:
    told = options(__doc__)
    report = Report("placement", "reading and storing facts; several processes")
    turns = TURNS_SMOKE if told.smoke else TURNS_QUICK if told.quick else TURNS
    runs = RUNS_SMOKE if told.smoke else RUNS
    measure(report, SIZES_SMOKE if told.smoke else SIZES_QUICK if told.quick else SIZES, turns)
    some = clusters(SOME)
    rows: list[list[object]] = []
    for name, run in CASES.items():
        one = seconds(lambda run=run: place(run, some, NOON), turns)
        all_ = seconds(lambda run=run: place_all(run, some, runs), 1 if told.quick else turns)
        rows.append([name, one * 1e3, all_ * 1e3, all_ / one / runs])
        report.bar(f"times the cost of each run with {runs} than with 1, {name}", all_ / one / runs, at_most=BAR_GROWTH)
    report.table(f"runs over {SOME} clusters, CPU milliseconds, medians", ["by", "1 run", f"{runs} runs", "growth"], rows)
    report.finish(told)


if __name__ == "__main__":
    main()
