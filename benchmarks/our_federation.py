"""Our own federation on this machine, and the runs of `apps/numbers` on it, undisturbed or with a process killed in their midst.

What a round took is read from the log's facts: from the question to train to the next one, or to the run's end.
What it is compared with is the business of `frameworks`.
"""

import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import count, pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from aggregation import FLOWER_PYTHON
from numpy.typing import NDArray
from played import APP, Played
from safetensors.numpy import load_file
from simulated import bus_at, facts_of

from fedplane.cli.download import save
from fedplane.cli.federation import Up, federation
from fedplane.cli.runs import submit
from fedplane.runtime.ports import Bus
from fedplane.schemas.facts import Advertised, Asked, Completed, Opened
from fedplane.schemas.models import Instruction, Task
from fedplane.schemas.resources import FederatedLearning

__all__ = ["CLUSTERS", "OurFederation", "our_federation"]

CLUSTERS = ("left", "right")

STORE_BYTES = 8_000_000_000

KILL_ROUND = 2
"""The training round in whose midst a process is killed: everything is running by then, and there is something to go on from."""


class OurFederation:
    """The services, a driver and two collaborators, all of them running."""

    def __init__(self, directory: Path, up: Up, bus: Bus, clusters: Sequence[str]) -> None:
        self._directory = directory
        self._clusters = clusters
        self._up = up
        self._bus = bus
        self._numbers = count(1)

    @property
    def pids(self) -> dict[str, int]:
        """The processes at this moment; the app's are below them."""
        return self._up.pids

    async def play(
        self,
        kilobytes: int,
        rounds: int,
        *,
        own_server: bool = False,
        pause_seconds: float = 0.0,
        kill: str | None = None,
        privacy: Mapping[str, Any] = MappingProxyType({}),
    ) -> Played:
        """Run the app to its end, with the app's own ServerApp or with our strategy. `kill` names a process that is killed on the way."""
        config = {"kilobytes": kilobytes, "rounds": rounds, "pause-seconds": pause_seconds}
        more = {"privacy": dict(privacy), **({"strategy": {"name": "app"}} if own_server else {})}
        resource = _resource(f"numbers-{next(self._numbers)}", config, len(self._clusters), more)
        run, _ = await submit(self._bus, resource, datetime.now(UTC))
        begun: list[datetime] = []
        async for fact in facts_of(self._bus, run):
            match fact:
                case Opened(task=Task.TRAIN) | Asked(instructions=(Instruction(kind="train"), *_)):
                    begun.append(fact.at)
                    if kill is not None and len(begun) == KILL_ROUND:
                        self._up.kill(kill)
                case Completed():
                    seconds = [(after - before).total_seconds() for before, after in pairwise([*begun, fact.at])]
                    return Played(seconds, await self._model(fact))
        raise AssertionError("the log of a run ends with its end")

    async def _model(self, completed: Completed) -> list[NDArray[np.float32]]:
        file = self._directory / f"{completed.run}.safetensors"
        await save(self._bus.bulk, completed.model, file)
        tensors = load_file(file)
        file.unlink()
        return [tensors[name] for name in sorted(tensors)]


@asynccontextmanager
async def our_federation(directory: Path, *, restart: bool, clusters: Sequence[str] = CLUSTERS) -> AsyncIterator[OurFederation]:
    """Start it, wait until its clusters have spoken, and end it. `restart` says whether what dies is started again."""
    os.environ["FEDPLANE_PYTHON"] = str(FLOWER_PYTHON)  # for the collaborators and the driver, which have our environment
    file = _clusters_file(directory, clusters)
    async with (
        federation(
            directory / "state", clusters=file, port=0, aggregators=1, store_bytes=STORE_BYTES, restart=restart, insecure=True
        ) as up,
        bus_at(up.nats_url, "benchmark") as bus,
    ):
        await _advertised(bus, set(clusters))
        yield OurFederation(directory, up, bus, clusters)


def _clusters_file(directory: Path, clusters: Sequence[str]) -> Path:
    offered = [{"name": name, "claims": {"numbers": "none"}, "allocatable": {"cpu": "1", "memory": "1Gi"}} for name in clusters]
    directory.mkdir()
    file = directory / "clusters.yaml"
    file.write_text(json.dumps({"clusters": offered}))  # JSON is YAML
    return file


async def _advertised(bus: Bus, missing: set[str]) -> None:
    async for batch in bus.log.tail([Advertised.pattern()]):
        missing -= {record.fact.cluster for record in batch.records if isinstance(record.fact, Advertised)}
        if not missing:
            return


def _resource(name: str, config: dict[str, Any], clusters: int, more: dict[str, Any]) -> FederatedLearning:
    return FederatedLearning.model_validate(
        {
            "apiVersion": "federation-ai.open-cluster-management.io/v1alpha1",
            "kind": "FederatedLearning",
            "metadata": {"name": name, "uid": "0123456789", "annotations": {"fedplane.io/app": str(APP)}},
            "spec": {
                "framework": "flower",
                "server": {"rounds": config["rounds"], "minAvailableClients": clusters},
                "rounds": {"evaluate": True, "attempts": 1},
                "data": {"claim": "numbers"},
                "config": config,
                **more,
            },
        }
    )
