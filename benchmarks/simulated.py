"""A federation without users' apps: clusters that have their answers ready, on a real server, with the real services.

Clusters here are tasks of one process. They answer as a collaborator does, in its words and with its fence, but train nothing.
So what is left is what the control plane and the bus cost. What is measured of it is the programs' business.
"""

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from resource import RLIMIT_DATA, prlimit
from typing import Any

import structlog
from measuring import Server

from fedplane.cli.orphans import die_with_parent
from fedplane.collaborator.tasks import unless_closed
from fedplane.runtime.nats import Limits, NatsBus, open_bus
from fedplane.runtime.ports import Bus
from fedplane.runtime.replica import Replica
from fedplane.scheduler.runs import Scheduler
from fedplane.schemas.facts import Advertised, Contributed, Evaluated, Fact, Failed, Invited, RoundFailed, Submitted, all_facts_of
from fedplane.schemas.models import Task
from fedplane.schemas.names import run_id
from fedplane.schemas.resources import FederatedLearning
from fedplane.schemas.subjects import update_piece

__all__ = [
    "Aggregators", "aggregators", "answer_all", "bus_at", "bus_of", "facts_of", "hub", "learning", "model_header", "quiet", "submit",
    "until_either_ends",
]  # fmt: skip

BULK_BYTES = 60_000_000_000
"""More than any benchmark stores; the server reserves nothing in advance."""

LEASE_SECONDS = 3600.0
"""Longer than any benchmark: the clusters advertise themselves once."""

END_SECONDS = 1.0
"""How long a service may take to end before it is told again."""

WATCH_SECONDS = 0.2
"""How often to look whether the aggregators are still there."""

Make = Callable[[Invited], Awaitable[memoryview]]
"""What makes the update that an invitation asks for."""

ANSWERS_AT_ONCE_MAX = 64
"""How many clusters are in the middle of an answer at a time: real ones are as many processes, and this is one."""


def quiet() -> None:
    """Log what goes wrong and nothing else."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING), logger_factory=structlog.PrintLoggerFactory(sys.stderr)
    )


@asynccontextmanager
async def bus_of(server: Server, name: str) -> AsyncIterator[NatsBus]:
    """A connection for one process or cluster. The streams are made if they are missing."""
    async with open_bus(server.url, name=name, source=f"/bench/{name}", limits=Limits(bulk_bytes=BULK_BYTES)) as bus:
        yield bus


@asynccontextmanager
async def bus_at(url: str, name: str) -> AsyncIterator[NatsBus]:
    """A connection to a federation whose streams are there already."""
    async with open_bus(url, name=name, source=f"/bench/{name}") as bus:
        yield bus


@asynccontextmanager
async def hub(bus: Bus, *services: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """A scheduler and other services as tasks of this process."""
    tasks = [asyncio.create_task(Replica(Scheduler(), bus.log).run()), *(asyncio.create_task(service) for service in services)]
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()
    finally:
        await _end(tasks)


async def until_either_ends(*work: Coroutine[Any, Any, None]) -> None:
    """Run all until one has ended, well or not; the others are given up."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        await _end(tasks)


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel the tasks, and at last whatever of theirs did not hear; see `runtime.service` for why a cancellation may be forgotten."""
    for task in tasks:
        task.cancel()
    while (await asyncio.wait(tasks, timeout=END_SECONDS))[1]:
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()


class Aggregators:
    """Aggregators as processes of their own."""

    def __init__(self, server: Server, count: int, data_bytes_max: int | None) -> None:
        self._processes = [_aggregator(server, replica) for replica in range(count)]
        if data_bytes_max is not None:
            for pid in self.pids:
                prlimit(pid, RLIMIT_DATA, (data_bytes_max, data_bytes_max))

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes]

    async def watch(self) -> None:
        """Wait for ever. Raises RuntimeError when one of them has ended, since without it nobody would ever go on."""
        while all(process.poll() is None for process in self._processes):
            await asyncio.sleep(WATCH_SECONDS)
        raise RuntimeError("an aggregator has ended in the middle of a measurement; why is on standard error")

    def end(self) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            process.wait()


@contextmanager
def aggregators(server: Server, count: int, data_bytes_max: int | None = None) -> Iterator[Aggregators]:
    """So many aggregators for the time of a block; the kernel refuses each of them more data than that, if it is given."""
    running = Aggregators(server, count, data_bytes_max)
    try:
        yield running
    finally:
        running.end()


def _aggregator(server: Server, replica: int) -> subprocess.Popen[bytes]:
    told = {"FEDPLANE_NATS_URL": server.url, "FEDPLANE_INSECURE": "true", "FEDPLANE_REPLICA": str(replica), "FEDPLANE_LOG_LEVEL": "error"}
    command = [sys.executable, "-m", "fedplane.aggregator.main"]
    return subprocess.Popen(command, env={**os.environ, **told}, preexec_fn=die_with_parent())  # noqa: PLW1509 -- asks, and does nothing else


def learning(name: str, clusters: int, *, rounds: int, evaluate: bool, privacy: dict[str, Any] | None = None) -> FederatedLearning:
    """A run of so many training rounds on that many clusters. `privacy` is what the resource says of it, if it says anything."""
    return FederatedLearning.model_validate(
        {
            "apiVersion": "federation-ai.open-cluster-management.io/v1alpha1",
            "kind": "FederatedLearning",
            "metadata": {"name": name, "uid": "0123456789", "annotations": {"fedplane.io/app": "none"}},
            "spec": {
                "framework": "flower",
                "server": {"rounds": rounds, "minAvailableClients": clusters},
                "rounds": {"evaluate": evaluate, "attempts": 1},
                "data": {"claim": name},
                **({"privacy": privacy} if privacy else {}),
            },
        }
    )


async def submit(bus: Bus, resource: FederatedLearning) -> str:
    """Advertise the clusters that the resource asks for, and submit it. Its claim is theirs alone, so earlier ones take no part."""
    claim = resource.spec.data.claim
    clusters = [f"{claim}-{number:04}" for number in range(resource.spec.server.min_available_clients)]
    offered: dict[str, Any] = {"lease_seconds": LEASE_SECONDS, "claims": {claim: "none"}, "allocatable": {"cpu": "1", "memory": "1Gi"}}
    for cluster in clusters:
        await bus.log.state(Advertised(cluster=cluster, at=datetime.now(UTC), **offered))
    run = run_id(resource.metadata.name, resource.metadata.uid)
    await bus.log.state(Submitted(run=run, at=datetime.now(UTC), resource=resource))
    return run


async def facts_of(bus: Bus, run: str) -> AsyncIterator[Fact]:
    """A run's facts as they are stated. Raises when something fails: nothing may in a benchmark."""
    async for batch in bus.log.tail([all_facts_of(run)]):
        for record in batch.records:
            match record.fact:
                case Failed(message=message) | RoundFailed(message=message):
                    raise RuntimeError(f"{run} failed: {message}")
                case fact:
                    yield fact


def model_header(size: int) -> bytes:
    """The layout of a model that is one float32 tensor of so many bytes, as safetensors write it."""
    described = json.dumps({"w": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}).encode()
    return len(described).to_bytes(8, "little") + described


async def answer_all(bus: Bus, size: int, make: Make | None = None) -> None:
    """Answer every invitation, whichever cluster's, at once and with an update of so many bytes, for ever: zeros, or what is made."""
    room, answering = asyncio.Semaphore(ANSWERS_AT_ONCE_MAX), set[asyncio.Task[None]]()

    async def answer(invited: Invited) -> None:
        async with room:
            await _answer(bus, invited, size, make)

    async for batch in bus.log.tail([Invited.pattern()]):
        for record in batch.records:
            assert isinstance(record.fact, Invited), "nothing else was asked for"
            task = asyncio.create_task(answer(record.fact))
            answering.add(task)
            task.add_done_callback(answering.discard)


async def _answer(bus: Bus, invited: Invited, size: int, make: Make | None) -> None:
    whose: dict[str, Any] = {"run": invited.run, "round": invited.round, "cluster": invited.cluster}
    fact: Contributed | Evaluated
    if invited.task is Task.EVALUATE:
        fact = Evaluated(**whose, at=datetime.now(UTC), weight=1, metrics={"loss": 1.0})
    else:
        place = [update_piece(invited.run, invited.round, invited.cluster, "a", what) for what in ("layout", 0)]
        update = memoryview(bytes(size)) if make is None else await make(invited)
        layout = await bus.bulk.write(place[0], memoryview(model_header(size)), invited.chunk_bytes)
        shard = await bus.bulk.write(place[1], update, invited.chunk_bytes)
        fact = Contributed(**whose, at=datetime.now(UTC), weight=1, metrics={"loss": 1.0}, attempt="a", layout=layout, shards=(shard,))
    await bus.log.state(fact, fence=unless_closed(invited.run, invited.round))
