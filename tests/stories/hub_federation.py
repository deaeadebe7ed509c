"""A whole federation on a hub, with everything real but kubelets: API server, bus, services as processes, and the apps' own environments.

Agents (`work_agent`) play the clusters, and the hub's nodes. People use `kubectl`.
"""

import asyncio
import json
import os
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apiserver import Server
from conftest import NatsServer
from deployed_story import Deployed
from hub_story import LABEL, health, make_set, said
from manifest_story import KUBECTL
from pod_story import Image, images
from process_story import processes_of
from work_agent import JobAgent, WorkAgent, agent
from work_story import until

from fedplane.cli.access import issue
from fedplane.cli.credentials import read_bundle
from fedplane.runtime.errors import Conflict
from fedplane.runtime.kinds import FEDERATED_LEARNING, JOB, MANAGED_CLUSTER, MANIFEST_WORK, NAMESPACE, PLACEMENT, PLACEMENT_DECISION
from fedplane.runtime.kubernetes import KubernetesCluster, open_cluster
from fedplane.runtime.nats import Limits, NatsBus, open_bus
from fedplane.runtime.objects import Object
from fedplane.scheduler.credentials import BUNDLE, CERTIFICATE_SECRET, DRIVER_SECRET, KEEPER_SECRET
from fedplane.scheduler.drivers import DRIVER_LABELS
from fedplane.scheduler.wishes import wish
from fedplane.scheduler.works import RUN_LABEL
from fedplane.schemas.facts import Fact, RunFact, all_facts_of
from fedplane.schemas.resources import API_VERSION, KIND
from fedplane.schemas.roles import Role
from fedplane.schemas.subjects import bulk_of_round

OURS, CLI, TINY = "ours:1", "cli:1", "tiny:1"
ROLES = ("scheduler", "aggregator", "status")
RUN_SECONDS, STOP_SECONDS = 90, 30
LOG_CHARACTERS = 5_000
"""Of what a service has said, when a test fails."""
LIFE = ("", "Waiting", "Running", "Completed", "Failed")


@dataclass
class HubFederation:
    """A federation that runs. `phases` are those that were seen of each object, in order, each only when it is another one."""

    directory: Path
    kubeconfig: Path
    bus: NatsBus
    hub: KubernetesCluster
    space: str
    environment: Mapping[str, str]
    keys: Path | None
    services: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    phases: dict[str, list[str]] = field(default_factory=dict)

    async def start(self, *names: str) -> None:
        """Start services. A name is a role, perhaps with a number, as `status-2`."""
        for name in names:
            role = name.partition("-")[0]
            known = {"FEDPLANE_TLS_CERTIFICATE": str(self.keys / f"{role}.pem")} if self.keys else {"FEDPLANE_INSECURE": "true"}
            with (self.directory / f"{name}.log").open("ab") as log:
                self.services[name] = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", f"fedplane.{role}.main", env={**os.environ, **self.environment, **known}, stderr=log
                )

    async def kill(self, *names: str) -> None:
        for name in names:
            service = self.services.pop(name)
            service.kill()
            await service.wait()

    async def kubectl(self, *arguments: str, given: str = "") -> str:
        """What a person sees who types this, in the namespace of the test."""
        typed = ["--kubeconfig", self.kubeconfig, "--cache-dir", self.directory / "kubectl", "--namespace", self.space, *arguments]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(KUBECTL, *typed, stdin=pipe, stdout=pipe, stderr=pipe)
        async with asyncio.timeout(RUN_SECONDS):
            out, err = await process.communicate(given.encode())
        assert process.returncode == 0, f"kubectl {' '.join(arguments)}: {err.decode()}"
        return out.decode()

    async def apply(self, name: str = "tiny", **spec: Any) -> str:
        """Apply an object that asks for a run of the tests' app; the run's id."""
        asked = {"framework": "flower", "data": {"claim": "data"}, "client": {"image": TINY}, **spec}
        body = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": asked}
        await self.kubectl("apply", "--filename", "-", given=json.dumps(body))
        return await self.run_of(name)

    async def run_of(self, name: str) -> str:
        return wish(await self.seen(name)).run

    async def seen(self, name: str) -> Object:
        """The object as the hub has it."""
        found: Object = json.loads(await self.kubectl("get", "federatedlearnings", name, "--output", "json"))
        return found

    async def until_phase(self, name: str, phase: str) -> Object:
        """Wait as a script would; the object then."""
        await self.kubectl("wait", f"federatedlearning/{name}", f"--for=jsonpath={{.status.phase}}={phase}", f"--timeout={RUN_SECONDS}s")
        assert phase in await self.kubectl("get", "federatedlearnings", name)
        return await self.seen(name)

    async def happened(self, run: str, what: Callable[[Any], bool]) -> list[Fact]:
        """The run's facts up to the first of which this is true, as soon as there is one."""
        facts: list[Fact] = []
        async with asyncio.timeout(RUN_SECONDS):
            async for batch in self.bus.log.tail([all_facts_of(run)]):
                for record in batch.records:
                    facts.append(record.fact)
                    if what(record.fact):
                        return facts
        raise AssertionError("the log ended")

    async def facts(self, run: str) -> list[Fact]:
        """What the log has of a run now."""
        return await said(self.bus.log, run, RunFact)

    async def events(self, name: str) -> dict[str, tuple[int, str]]:
        """How often each thing happened to the object, and what was last said of it."""
        about = f"involvedObject.kind={KIND},involvedObject.name={name}"
        found = json.loads(await self.kubectl("get", "events", "--field-selector", about, "--output", "json"))["items"]
        return {each["reason"]: (each["count"], each["message"]) for each in found}

    async def works(self, run: str) -> list[str]:
        """The clusters that have a work of the run."""
        return [each["metadata"]["namespace"] for each in await self.hub.all(MANIFEST_WORK, labels={RUN_LABEL: run})]

    async def until_works(self, run: str, *clusters: str) -> None:
        await until(lambda: self.works(run), list(clusters))

    async def left(self, run: str) -> dict[str, list[str]]:
        """What there still is of a run but its facts and models: objects on the hub, updates on the bus, processes on clusters."""
        labels = {RUN_LABEL: run}
        found = {kind.kind: await self.hub.all(kind, labels=labels) for kind in (MANIFEST_WORK, PLACEMENT, PLACEMENT_DECISION)}
        found["drivers"] = await self.hub.all(JOB, self.space, {**DRIVER_LABELS, **labels})
        found[KIND] = [each for each in await self.hub.all(FEDERATED_LEARNING, self.space) if wish(each).run == run]
        return {
            **{kind: [each["metadata"]["name"] for each in bodies] for kind, bodies in found.items()},
            "chunks": sorted(await self.bus.bulk.stored(bulk_of_round(run, "*", "update"))),
            "processes": [*processes_of(f"/{run}/"), *processes_of(f"/driver-{run}-")],
        }

    async def processes(self, cluster: str) -> list[str]:
        """What runs on a cluster."""
        return processes_of(self.directory / cluster)

    async def until_nothing_is_left(self, run: str) -> None:
        found = await self.left(run)
        await until(lambda: self.left(run), {what: [] for what in found})

    def never_went_back(self, name: str) -> bool:
        """Whether the object's phases were seen in the only order that there may be."""
        return self.phases[name] == [phase for phase in LIFE if phase in self.phases[name]]

    async def watch(self) -> None:
        """See the phases of all objects until cancelled."""
        async for change in self.hub.watch(FEDERATED_LEARNING, self.space):
            if change.object:
                seen = self.phases.setdefault(change.object["metadata"]["name"], [])
                phase = change.object.get("status", {}).get("phase", "")
                if seen[-1:] != [phase]:
                    seen.append(phase)

    async def join(self, cluster: str, **claims: str) -> None:
        """A cluster that the hub has accepted, of the set that the test's namespace may use."""
        with suppress(Conflict):  # of an earlier test: nobody behind this API server removes namespaces
            await self.hub.create(NAMESPACE, {"metadata": {"name": cluster}})
        head = {"name": cluster, "labels": {LABEL: self.space}}
        await self.hub.create(MANAGED_CLUSTER, {"metadata": head, "spec": {"hubAcceptsClient": True}})
        await self.hub.merge(MANAGED_CLUSTER, cluster, {"status": health(**claims)}, subresource="status")


@asynccontextmanager
async def hub_federation(
    server: Server,
    bus_server: NatsServer | Deployed,
    clusters: Mapping[str, Mapping[str, str]],
    *services: str,
    further: Mapping[str, Image] | None = None,
    **settings: str,
) -> AsyncIterator[HubFederation]:
    """The federation with these clusters, each with its claims. Whatever service or agent dies of itself is a failure.

    On a bus as it is deployed everybody has certificates, made with its keys; elsewhere nobody has.
    """
    space = f"test-{uuid.uuid4().hex[:8]}"
    told = {
        "nats_url": bus_server.url, "kubernetes": str(server.kubeconfig), "namespace": space,
        "collaborator_image": OURS, "outside_url": bus_server.url, "cli_image": CLI, "inside_url": bus_server.url,
        "work_lease_seconds": "2", "shard_bytes": "80000", "chunk_bytes": "8000", **settings,
    }  # fmt: skip
    at_hand = {**images(), **(further or {})}
    keys = bus_server.directory / "keys" if isinstance(bus_server, Deployed) else None
    known = read_bundle(keys / "scheduler.pem") if keys else None
    async with AsyncExitStack() as everything:
        directory = Path(everything.enter_context(tempfile.TemporaryDirectory(prefix="fp")))  # a short path: sockets are in it
        hub = await everything.enter_async_context(open_cluster(str(server.kubeconfig)))
        bus = await everything.enter_async_context(
            open_bus(bus_server.url, name="test", source="/test", limits=Limits(), credentials=known)
        )
        environment = {f"FEDPLANE_{name.upper()}": value for name, value in told.items()}
        it = HubFederation(directory, server.kubeconfig, bus, hub, space, environment, keys)
        await hub.create(NAMESPACE, {"metadata": {"name": space}})
        await make_set(hub, space, space)
        for cluster, claims in clusters.items():
            await it.join(cluster, **claims)
            everything.push_async_callback(hub.delete, MANAGED_CLUSTER, cluster)
            await everything.enter_async_context(
                agent(WorkAgent(hub, cluster, directory / cluster, at_hand, files=of_cluster(keys, cluster)))
            )
        nodes = JobAgent(
            hub, space, directory / "jobs", {CLI: at_hand[OURS], **at_hand}, directory / "disk", files=of_namespace(keys, space)
        )
        await everything.enter_async_context(agent(nodes))
        await everything.enter_async_context(_serving(it, services or ROLES))
        yield it


def of_cluster(keys: Path | None, cluster: str) -> dict[str, dict[str, str]]:
    """The Secret that the add-on makes on a cluster."""
    if keys is None:
        return {}
    bundle = issued(keys, Role.COLLABORATOR, cluster)
    return {CERTIFICATE_SECRET: {"tls.crt": bundle, "tls.key": bundle}}


def of_namespace(keys: Path | None, space: str) -> dict[str, dict[str, str]]:
    """The Secrets that an operator makes in a namespace."""
    if keys is None:
        return {}
    return {secret: {BUNDLE: issued(keys, role, space)} for secret, role in ((DRIVER_SECRET, Role.DRIVER), (KEEPER_SECRET, Role.OPERATOR))}


def issued(keys: Path, role: Role, name: str) -> str:
    """The bundle of `fedplane access issue`."""
    issue(role, name, output=keys / f"{role}-{name}.pem", authority=keys)
    return (keys / f"{role}-{name}.pem").read_text()


@asynccontextmanager
async def _serving(it: HubFederation, services: Sequence[str]) -> AsyncIterator[None]:
    watching = asyncio.create_task(it.watch())
    try:
        await it.start(*services)
        yield
        assert {name: service.returncode for name, service in it.services.items() if service.returncode is not None} == {}
        assert not watching.done()
    except BaseException as error:
        for name in sorted({*services, *it.services}):
            error.add_note(f"{name}: {(it.directory / f'{name}.log').read_text()[-LOG_CHARACTERS:]}")
        raise
    finally:
        watching.cancel()
        for service in it.services.values():
            with suppress(ProcessLookupError):  # it has died by itself, which is said above
                service.terminate()
        async with asyncio.timeout(STOP_SECONDS):
            codes = {name: await service.wait() for name, service in it.services.items()}
    assert codes == dict.fromkeys(codes, 0)
