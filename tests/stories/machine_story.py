"""A whole federation as real processes on this machine, an app in its own environment, and what the log says of a run on it."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Set
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedplane.cli import requests, runs
from fedplane.cli.download import save
from fedplane.cli.federation import Up, federation
from fedplane.runtime.nats import NatsBus, open_bus
from fedplane.runtime.ports import Recorded
from fedplane.schemas.facts import Advertised, Cancelled, Completed, Failed, all_facts_of
from fedplane.schemas.views import RunView

REPOSITORY = Path(__file__).parents[2]
TINY_APP = REPOSITORY / "tests" / "apps" / "tiny"
CLUSTERS = ("alpha", "beta", "gamma")
RUN_SECONDS = 90.0


def app_python() -> Path:
    """The Python that has flwr: the example's own environment. Without one, skip on a laptop and fail in CI."""
    python = Path(os.environ.get("FEDPLANE_TEST_APP_PYTHON", REPOSITORY / "examples" / "01-mnist" / ".venv" / "bin" / "python"))
    if not python.exists():
        if os.environ.get("CI") == "true":
            pytest.fail("the example has no environment; `make app` makes it")
        pytest.skip("the example has no environment; `make app` makes it")
    return python


@dataclass
class Machine:
    """A federation that runs, and a connection to its bus."""

    up: Up
    bus: NatsBus
    directory: Path
    log: list[Recorded] = field(default_factory=list)

    async def whole(self, names: Set[str]) -> None:
        """Wait until all of these processes run: one that was killed is started again a moment later."""
        async with asyncio.timeout(RUN_SECONDS):
            while not names <= self.up.pids.keys():
                await asyncio.sleep(0.02)

    async def submit(self, *, app: Path = TINY_APP, **spec: Any) -> str:
        file = self.directory / "run.yaml"
        file.write_text(resource_yaml(app=app, **spec))
        run, _ = await runs.submit(self.bus, requests.read(file), _now())
        return run

    async def until(self, run: str, happened: Callable[[Recorded], bool], seconds: float = RUN_SECONDS) -> Recorded:
        """The first fact of the run of which this is true; `log` then has the facts up to it."""
        self.log = []
        async with asyncio.timeout(seconds):
            async for batch in self.bus.log.tail([all_facts_of(run)]):
                for record in batch.records:
                    self.log.append(record)
                    if happened(record):
                        return record
        raise AssertionError("the log ended")

    async def end_of(self, run: str, seconds: float = RUN_SECONDS) -> Completed | Failed | Cancelled:
        record = await self.until(run, lambda record: isinstance(record.fact, Completed | Failed | Cancelled), seconds)
        assert isinstance(record.fact, Completed | Failed | Cancelled)
        return record.fact

    async def model_of(self, completed: Completed) -> bytes:
        path = self.directory / f"{completed.run}.safetensors"
        await save(self.bus.bulk, completed.model, path)
        return path.read_bytes()

    async def view_at_end(self, run: str) -> RunView:
        async with asyncio.timeout(30):
            async for view in runs.follow(self.bus, run):
                last = view
        return last


@asynccontextmanager
async def machine(directory: Path, clusters: tuple[str, ...] = CLUSTERS, insecure: bool = True, **options: Any) -> AsyncIterator[Machine]:
    """Everything up, with small shards and chunks so that a fold and an upload take many steps.

    Without certificates, since most tests are about something else, and one process less starts sooner.
    """
    file = _clusters_file(directory, clusters)
    async with (
        federation(directory / "state", clusters=file, port=0, insecure=insecure, **options) as up,
        open_bus(up.nats_url, name="test", source="/test", credentials=up.credentials) as bus,
    ):
        await _advertised(bus, set(clusters))
        yield Machine(up, bus, directory)


Lend = Callable[[Path], Awaitable[Machine]]
"""What gives each test of a file the machine that they share, with a directory of its own for what it writes."""


@asynccontextmanager
async def lasting_machine(directory: Path, **options: Any) -> AsyncIterator[Lend]:
    """One machine for the tests of a file, since starting one takes longer than most runs.

    Each test asks for it with a directory of its own, and has it when everything runs again that an earlier one has killed.
    """
    with pytest.MonkeyPatch.context() as monkeypatch:
        settle_environment(monkeypatch)
        async with machine(directory, **options) as it:
            names = frozenset(it.up.pids)

            async def lend(directory: Path) -> Machine:
                await it.whole(names)
                return Machine(it.up, it.bus, directory)

            yield lend


def _clusters_file(directory: Path, clusters: tuple[str, ...]) -> Path:
    directory.mkdir(exist_ok=True)
    file = directory / "clusters.yaml"
    offered = [{"name": name, "claims": {"data": f"/data/{name}"}, "allocatable": {"cpu": "1", "memory": "1Gi"}} for name in clusters]
    file.write_text(yaml.safe_dump({"clusters": offered}))
    return file


async def _advertised(bus: NatsBus, clusters: set[str]) -> None:
    """Wait until every cluster has spoken: a run takes those that are there when it is scheduled."""
    async with asyncio.timeout(30):
        async for batch in bus.log.tail([Advertised.pattern()]):
            clusters -= {record.fact.cluster for record in batch.records if isinstance(record.fact, Advertised)}
            if not clusters:
                return


def resource_yaml(name: str = "tiny", app: Path = TINY_APP, **spec: Any) -> str:
    spec = {"framework": "flower", "server": {"rounds": 2, "minAvailableClients": 3}, "data": {"claim": "data"}, **spec}
    return json.dumps(
        {
            "apiVersion": "federation-ai.open-cluster-management.io/v1alpha1",
            "kind": "FederatedLearning",
            "metadata": {"name": name, "annotations": {"fedplane.io/app": str(app)}},
            "spec": spec,
        }
    )


def settle_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the processes of a machine are told: where flwr is, and pieces so small that everything takes many steps."""
    monkeypatch.setenv("FEDPLANE_PYTHON", str(app_python()))
    monkeypatch.setenv("FEDPLANE_SHARD_BYTES", "80000")
    monkeypatch.setenv("FEDPLANE_CHUNK_BYTES", "8000")
    monkeypatch.setenv("FEDPLANE_WORK_LEASE_SECONDS", "2")


def _now() -> datetime:
    return datetime.now(UTC)
