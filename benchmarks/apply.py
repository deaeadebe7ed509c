"""What `kubectl apply` waits for: from the object on the hub to the first invitation on the bus, and what it costs the API server.

A real API server, a real bus, and the real scheduler and aggregator as processes; clusters are objects that nobody is behind.
One object after the other: made, awaited until its first round invites a cluster, deleted, awaited until it is gone.
Requests are counted by the API server itself (apiserver_request_total), watches excepted, and ours for making, looking and deleting.

KUBEBUILDER_ASSETS and OCM_CRDS name the folders with the server and the definitions; see CONTRIBUTING.md.
"""

import asyncio
import os
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvloop
import yaml
from measuring import Options, Report, Server, options, scratch
from simulated import bus_of

from fedplane.runtime.kinds import FEDERATED_LEARNING, MANAGED_CLUSTER, NAMESPACE
from fedplane.runtime.kubernetes import open_cluster
from fedplane.runtime.nats import NatsBus
from fedplane.runtime.objects import Objects
from fedplane.schemas.crd import CRD_NAME
from fedplane.schemas.facts import Advertised, Invited

ROOT = Path(__file__).parents[1]
sys.path += [str(ROOT / "tests"), str(ROOT / "tests" / "stories")]

from apiserver import ApiServer  # noqa: E402 -- the tests' own server
from hub_story import ask, enlist, make_set  # noqa: E402

__all__ = ["main"]

CASES_SMOKE = {2: 2}
CASES_QUICK = {2: 7}
CASES = {2: 15, 100: 5}
"""How many objects are measured, by the number of clusters."""

BAR_MILLISECONDS = 500.0
"""A person who applies an object and looks at it should find it under way."""

BAR_REQUESTS = 16.0
"""Of a whole life, besides the two for each work: the object held and let go, a Placement and a decision made and deleted."""

WAIT_SECONDS = 60.0
SETTLE_SECONDS = 2.0

COUNTED = re.compile(r"^apiserver_request_total\{([^}]*)\} ([\d.e+]+)$", re.MULTILINE)
KINDS = {"federatedlearnings", "placements", "placementdecisions", "manifestworks"}


def requests(server: ApiServer) -> Counter[str]:
    """How often the server was asked, by verb and kind."""
    counted: Counter[str] = Counter()
    for labels, value in COUNTED.findall(server.request("GET", "/metrics", accept="text/plain")):
        told = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        if told.get("resource") in KINDS and told["verb"] not in ("WATCH", "CONNECT"):
            below = f"/{told['subresource']}" if told.get("subresource") else ""
            verb = "GET" if told["verb"] == "LIST" else told["verb"]  # servers count getting one custom object as listing, too
            counted[f"{verb} {told['resource']}{below}"] += round(float(value))
    return counted


@contextmanager
def processes(server: Server, hub: ApiServer) -> Iterator[None]:
    """The scheduler and the aggregator."""
    told = {
        "FEDPLANE_NATS_URL": server.url, "FEDPLANE_INSECURE": "true", "FEDPLANE_KUBERNETES": str(hub.kubeconfig),
        "FEDPLANE_LOG_LEVEL": "error", "FEDPLANE_COLLABORATOR_IMAGE": "collaborator:1",
        "FEDPLANE_OUTSIDE_URL": "nats://outside.example.org:4222",
    }  # fmt: skip
    running = [
        subprocess.Popen([sys.executable, "-m", f"fedplane.{service}.main"], env={**os.environ, **told})
        for service in ("scheduler", "aggregator")
    ]
    try:
        yield
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


async def invited(bus: NatsBus, run: str) -> None:
    """Wait for the run's first invitation."""
    async with asyncio.timeout(WAIT_SECONDS):
        async for batch in bus.log.tail([Invited.pattern(run=run)]):
            if batch.records:
                return


async def advertised(bus: NatsBus, clusters: int) -> None:
    """Wait until the fleet has that many clusters."""
    heard: set[str] = set()
    async with asyncio.timeout(WAIT_SECONDS):
        async for batch in bus.log.tail([Advertised.pattern()]):
            heard.update(record.fact.cluster for record in batch.records if isinstance(record.fact, Advertised))
            if len(heard) >= clusters:
                return


async def lives(hub: Objects, bus: NatsBus, server: ApiServer, objects: int) -> tuple[list[float], list[float], Counter[str]]:
    """So many lives of an object: seconds until its first invitation, seconds until it is gone, and what they took of the server."""
    until_invited, until_gone, looks = [], [], 0
    before = await asyncio.to_thread(requests, server)
    for number in range(objects):
        begun = time.perf_counter()
        run = await ask(hub, f"r{number}")
        await invited(bus, run)
        until_invited.append(time.perf_counter() - begun)
        await asyncio.sleep(SETTLE_SECONDS)  # works and decisions are written beside
        begun = time.perf_counter()
        await hub.delete(FEDERATED_LEARNING, f"r{number}", "default")
        while await hub.get(FEDERATED_LEARNING, f"r{number}", "default") is not None:
            looks += 1
            await asyncio.sleep(0.02)
        until_gone.append(time.perf_counter() - begun)
    taken = await asyncio.to_thread(requests, server)
    taken.subtract(before)
    taken.subtract({"POST federatedlearnings": objects, "DELETE federatedlearnings": objects, "GET federatedlearnings": looks + objects})
    return until_invited, until_gone, taken


async def measure(server: Server, hub_server: ApiServer, clusters: int, objects: int) -> tuple[list[float], list[float], Counter[str]]:
    """Make the clusters and live through the objects."""
    names = [f"c{clusters}-{number}" for number in range(clusters)]
    async with open_cluster(str(hub_server.kubeconfig)) as hub, bus_of(server, "bench") as bus:
        for name in ("default", *names):
            if await hub.get(NAMESPACE, name) is None:
                await hub.create(NAMESPACE, {"metadata": {"name": name}})
        await make_set(hub)
        await enlist(hub, *names)
        with processes(server, hub_server):
            await advertised(bus, clusters)
            warm = await ask(hub, "warm")
            await invited(bus, warm)
            await hub.delete(FEDERATED_LEARNING, "warm", "default")
            while await hub.get(FEDERATED_LEARNING, "warm", "default") is not None:
                await asyncio.sleep(0.1)
            found = await lives(hub, bus, hub_server, objects)
        for name in names:
            await hub.delete(MANAGED_CLUSTER, name)
    return found


def hub_in(directory: Path) -> ApiServer:
    """An API server with every kind."""
    for variable in ("KUBEBUILDER_ASSETS", "OCM_CRDS"):
        if not os.environ.get(variable):
            sys.exit(f"{variable} does not name a folder; see CONTRIBUTING.md")
    server = ApiServer(directory / "kubernetes", Path(os.environ["KUBEBUILDER_ASSETS"]))
    server.start()
    definitions = [yaml.safe_load(path.read_text()) for path in sorted(Path(os.environ["OCM_CRDS"]).glob("*.yaml"))]
    ours = yaml.safe_load((ROOT / "deploy" / "crds" / f"{CRD_NAME}.yaml").read_text())
    server.install({each["metadata"]["name"]: each for each in definitions} | {CRD_NAME: ours})
    return server


def run_all(told: Options, report: Report) -> None:
    """Every case, on a bus and a hub of its own."""
    rows: list[list[object]] = []
    asked: list[list[object]] = []
    for clusters, objects in (CASES_SMOKE if told.smoke else CASES_QUICK if told.quick else CASES).items():
        with scratch() as directory, Server(directory / "bus").running() as server:
            hub = hub_in(directory)
            try:
                begun, gone, taken = uvloop.run(measure(server, hub, clusters, objects))
            finally:
                hub.stop()
        each = sum(taken.values()) / objects
        milliseconds = [1e3 * value for value in begun]
        median = statistics.median(milliseconds)
        rows.append([f"{clusters} clusters", objects, median, min(milliseconds), max(milliseconds), 1e3 * statistics.median(gone), each])
        asked += [[f"{what}, {clusters} clusters", count / objects] for what, count in sorted(taken.items()) if count]
        report.bar(f"from the object to the first invitation, {clusters} clusters, ms", median, at_most=BAR_MILLISECONDS)
        report.bar(f"requests of a life besides works, {clusters} clusters", each - 2 * clusters, at_most=BAR_REQUESTS)
    columns = ("", "objects", "median ms", "min ms", "max ms", "deleted to gone ms", "requests each")
    report.table("from an object to its first invitation", columns, rows)
    report.table("what the API server was asked, per object", ("", "times"), asked)


def main() -> None:
    """Measure and report."""
    told = options(__doc__)
    report = Report("apply", "the network; pods; the status service, which writes beside; a second scheduler")
    run_all(told, report)
    report.finish(told)


if __name__ == "__main__":
    main()
