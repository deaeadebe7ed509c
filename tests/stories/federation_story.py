"""A whole federation in one process: every service's own code on one bus, and an app that is a few lines of numpy."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from fedplane.aggregator.main import aggregate
from fedplane.aggregator.settings import AggregatorSettings
from fedplane.collaborator.apps import Attend
from fedplane.collaborator.driver.main import drive
from fedplane.collaborator.driver.settings import DriverSettings
from fedplane.collaborator.main import collaborate
from fedplane.collaborator.settings import CollaboratorSettings
from fedplane.runtime.errors import AppFailed
from fedplane.runtime.ports import Bus
from fedplane.runtime.replica import Replica
from fedplane.scheduler.runs import Scheduler
from fedplane.schemas.facts import Cancelled, Completed, Fact, Failed, Submitted, all_facts_of
from fedplane.schemas.models import Model
from fedplane.schemas.names import run_id
from fedplane.schemas.resources import FederatedLearning
from fedplane.status.phases import Phases
from fedplane.status.showing import Showing

TINY = {"w": (7, 5), "b": (3,)}

END_SECONDS = 40.0
"""A service that is told to end does so in milliseconds; longer than anything in it waits for the bus, it never will."""

FORGERS = {"flips the sign": -5.0, "has a huge norm": 1e6}
"""What a cluster that means harm multiplies its change of the model by."""


@dataclass
class Answer:
    weight: float
    metrics: dict[str, float]
    configuration: dict[str, Any] = field(default_factory=dict)


@dataclass
class NumpyApp:
    """Moves every weight towards the cluster's own target; what it does depends on the model, the round and the cluster alone."""

    trouble: str | None = None

    async def ask(self, directory: Path, deadline: datetime) -> Answer:
        asked = json.loads((directory / "invitation.json").read_text())
        position = asked["position"] + 1
        if asked["task"] == "initialize":
            random = np.random.default_rng(0)
            save_file(
                {name: random.standard_normal(shape).astype(np.float32) for name, shape in TINY.items()}, directory / "update.safetensors"
            )
            return Answer(1, {}, {"lr": 0.5})
        model = load_file(directory / "model.safetensors")
        kind = asked["instruction"]["kind"] if asked["task"] == "reply" else asked["task"]
        if self.trouble == "raises":
            raise AppFailed("app-raised", "the app raised ZeroDivisionError", "Traceback: ...")
        if self.trouble == "hangs":
            await asyncio.sleep(3600)
        loss = float(sum(np.square(values - position).sum() for values in model.values()))
        if kind == "evaluate":
            if asked["task"] == "reply":
                save_file({"none": np.zeros(0)}, directory / "update.safetensors")
            return Answer(position * 10, {"loss": loss})
        lr = asked["configuration"].get("lr", 0.5)
        moved = {name: (values - np.float32(lr / 3) * (values - np.float32(position))) for name, values in model.items()}
        if self.trouble == "NaN":
            moved["b"][1] = np.nan
        if self.trouble == "poisons":
            moved = {name: values * np.float32(-1000) for name, values in moved.items()}
        if self.trouble in FORGERS:
            moved = {name: model[name] + np.float32(FORGERS[self.trouble]) * (values - model[name]) for name, values in moved.items()}
        if self.trouble == "wrong shapes":
            moved["b"] = moved["b"][:2]
        save_file(moved, directory / "update.safetensors")
        return Answer(position * 10, {"loss": loss})

    async def close(self) -> None:
        pass


@dataclass
class NumpyServer:
    """An app's own server: two training rounds, each with an evaluation; it takes the mean of what it is given, by examples."""

    timeout_seconds: float | None = None
    given: list[int] = field(default_factory=list)

    async def drive(self, directory: Path, attend: Attend) -> Answer:
        random = np.random.default_rng(0)
        model = {name: random.standard_normal(shape).astype(np.float32) for name, shape in TINY.items()}
        for number in range(1, 5):
            replies = await self._ask(directory / f"asked-{number}", number, model, attend)
            self.given.append(len(replies))
            if number % 2:
                got = [(load_file(directory / f"asked-{number}" / each["content"]), each["instruction"] + 1) for each in replies]
                total = sum(weight for _, weight in got)
                model = {
                    name: (sum(update[name].astype(np.float64) * weight for update, weight in got) / total).astype(np.float32)
                    for name in TINY
                }
        save_file(model, directory / "update.safetensors")
        return Answer(1, {"central": float(model["b"].sum())})

    async def _ask(self, here: Path, number: int, model: dict[str, Any], attend: Attend) -> list[dict[str, Any]]:
        kind, round_ = "train" if number % 2 else "evaluate", (number + 1) // 2
        sent = [{"position": position, "kind": kind, "group": str(round_), "content": 0} for position in range(3)]
        asked = {"training_round": round_, "timeout_seconds": self.timeout_seconds, "contents": 1, "instructions": sent}
        lay_out_ask(here, model, json.dumps(asked))
        await attend(number)
        replies = json.loads((here / "replies.json").read_text())["replies"]
        return [reply for reply in replies if "content" in reply]


def lay_out_ask(here: Path, content: dict[str, Any], asked: str) -> None:
    """What the runner of a server leaves when it asks something with one content."""
    here.mkdir()
    save_file(content, here / "content-0.safetensors")
    (here / "asked.json").write_text(asked)


def learning(name: str = "tiny", **spec: Any) -> FederatedLearning:
    spec = {"framework": "flower", "server": {"rounds": 2, "minAvailableClients": 3}, "data": {"claim": "data"}, **spec}
    metadata = {"name": name, "uid": "0123456789", "annotations": {"fedplane.io/app": "app"}}
    return FederatedLearning.model_validate(
        {"apiVersion": "federation-ai.open-cluster-management.io/v1alpha1", "kind": "FederatedLearning", "metadata": metadata, "spec": spec}
    )


async def submit(bus: Bus, resource: FederatedLearning) -> str:
    run = run_id(resource.metadata.name, resource.metadata.uid)
    await bus.log.state(Submitted(run=run, at=datetime.now(UTC), resource=resource))
    return run


async def ended(bus: Bus, run: str, seconds: float = 30) -> list[Fact]:
    """All facts of a run, once it has ended."""
    facts: list[Fact] = []
    async with asyncio.timeout(seconds):
        async for batch in bus.log.tail([all_facts_of(run)]):
            facts += [record.fact for record in batch.records]
            if any(isinstance(fact, Completed | Failed | Cancelled) for fact in facts):
                return facts
    raise AssertionError("the log ended")


async def model_bytes(bus: Bus, model: Model) -> bytes:
    out = b""
    for piece in (model.layout, *model.shards):
        async for _, chunk in bus.bulk.read(piece):
            out += bytes(chunk)
    return out


@dataclass
class Federation:
    """Services as tasks, by name, so that a test can kill one and start it again.

    `buses` are those of services that have one of their own, `papers` what a cluster's collaborator is told of certificates.
    """

    bus: Bus
    workdir: Path
    apps: dict[str, NumpyApp]
    buses: Mapping[str, Bus] = field(default_factory=dict)
    papers: Mapping[str, dict[str, Path]] = field(default_factory=dict)
    shard_bytes: int = 64
    server: NumpyServer = field(default_factory=NumpyServer)
    running: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    def start(self, name: str) -> None:
        role, _, which = name.partition(" ")
        bus = self.buses.get(name, self.bus)
        body = {
            "scheduler": lambda: Replica(Scheduler(0.05), bus.log).run(),
            "status": lambda: Replica(Phases(100), bus.log, perform=Showing(bus.views)).run(),
            "aggregator": lambda: aggregate(bus, self._aggregator()),
            "driver": lambda: self._drive(which),
            "collaborator": lambda: self._collaborate(which, bus),
        }[role]
        self.running[name] = asyncio.create_task(body(), name=name)

    def _aggregator(self) -> AggregatorSettings:
        self.workdir.mkdir(parents=True, exist_ok=True)
        secret = self.workdir / "noise.secret"
        secret.write_text("s" * 32)
        return AggregatorSettings(shard_bytes=self.shard_bytes, chunk_bytes=16, noise_secret=secret)

    async def _collaborate(self, cluster: str, bus: Bus) -> None:
        settings = CollaboratorSettings(
            cluster=cluster, claims={"data": f"/{cluster}"}, cpu="1", memory="1Gi", workdir=self.workdir / cluster, lease_seconds=5,
            **self.papers.get(cluster, {}),
        )  # fmt: skip
        await collaborate(bus, settings, lambda framework, directory, workdir: self.apps[cluster])

    async def _drive(self, which: str) -> None:
        settings = DriverSettings(workdir=self.workdir / f"driver-{which}", shard_bytes=self.shard_bytes, chunk_bytes=16)
        await drive(self.bus, settings, lambda framework, directory, workdir: self.server)

    async def kill(self, name: str) -> None:
        await _end(self.running.pop(name))

    def check(self) -> None:
        """Raise what a service died of."""
        for task in self.running.values():
            if task.done():
                task.result()


async def _end(service: asyncio.Task[None]) -> None:
    """Cancel it, and fail with what is still under way if it does not end."""
    service.cancel()
    _, pending = await asyncio.wait({service}, timeout=END_SECONDS)
    if pending:
        raise AssertionError(f"{service.get_name()} does not end; under way are " + "\n".join(map(_whereabouts, asyncio.all_tasks())))
    with contextlib.suppress(asyncio.CancelledError):
        service.result()


def _whereabouts(task: asyncio.Task[Any]) -> str:
    """The task's name, and the lines in which it waits, the outermost first."""
    found, waits = [], task.get_coro()
    while waits is not None:
        frame = getattr(waits, "cr_frame", None) or getattr(waits, "ag_frame", None)
        found += [f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"] if frame else [repr(waits)]
        waits = getattr(waits, "cr_await", None) or getattr(waits, "ag_await", None)
    return f"{task.get_name()}: {' '.join(found)}"


@asynccontextmanager
async def federation(
    bus: Bus, workdir: Path, clusters: str = "abc", *, buses: Mapping[str, Bus] | None = None,
    papers: Mapping[str, dict[str, Path]] | None = None, **trouble: str,
) -> AsyncIterator[Federation]:  # fmt: skip
    it = Federation(bus, workdir, {cluster: NumpyApp(trouble.get(cluster)) for cluster in clusters}, buses or {}, papers or {})
    for name in ("scheduler", "status", "aggregator 1", "aggregator 2", *(f"collaborator {cluster}" for cluster in clusters)):
        it.start(name)
    try:
        yield it
        it.check()
    finally:
        for name in list(it.running):
            await it.kill(name)
