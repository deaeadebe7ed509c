"""A collaborator's process on the bus in memory, with apps that are played in this process."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from fedplane.collaborator.apps import Answer
from fedplane.collaborator.main import collaborate
from fedplane.collaborator.settings import CollaboratorSettings
from fedplane.runtime.memory import MemoryBus
from fedplane.schemas.facts import Advertised, Contributed, Declined, Evaluated, Fact, Invited
from fedplane.schemas.models import Model, Piece, Task, model_digest
from fedplane.schemas.subjects import model_piece

NOW = datetime.now(UTC)
MODEL = save({"w": np.arange(6, dtype=np.float32), "b": np.array([7.0])}, {"order": '["w", "b"]'})
TRAINED = save({"w": np.arange(6, dtype=np.float32) / 2, "b": np.array([8.0])}, {"order": '["w", "b"]'})
HEADER_BYTES = 8 + int.from_bytes(MODEL[:8], "little")

Work = Callable[[Path], Awaitable[Answer]]


SAID = Answer(weight=10.0, metrics={"loss": 0.5})


@dataclass
class PlayedApp:
    """An app whose work is a function of the directory."""

    framework: str
    app: Path
    work: Work
    asked: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    closed: bool = False

    async def ask(self, directory: Path, deadline_seconds: float) -> Answer:
        self.asked.append(directory.name)
        self.seconds.append(deadline_seconds)
        return await self.work(directory)

    async def close(self) -> None:
        self.closed = True


@dataclass
class Apps:
    """Starts played apps and remembers them."""

    work: Work
    started: list[PlayedApp] = field(default_factory=list)

    def __call__(self, framework: str, app: Path, workdir: Path) -> PlayedApp:
        assert workdir.is_dir()
        self.started.append(PlayedApp(framework, app, self.work))
        return self.started[-1]

    @property
    def asked(self) -> list[list[str]]:
        return [app.asked for app in self.started]


async def train(directory: Path) -> Answer:
    (directory / "update.safetensors").write_bytes(TRAINED)
    return SAID


def held(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


async def hang(directory: Path) -> Answer:
    await asyncio.Event().wait()
    raise AssertionError("nobody sets that event")


async def model_on(bus: MemoryBus, round_: int = 0) -> Model:
    flat = memoryview(MODEL)[HEADER_BYTES:]
    layout = await bus.bulk.write(model_piece("r1", round_, "a", "layout"), memoryview(MODEL)[:HEADER_BYTES], 8)
    shards = tuple([await bus.bulk.write(model_piece("r1", round_, "a", k), flat[k * 16 : k * 16 + 16], 8) for k in range(2)])
    return Model(run="r1", round=round_, bytes=len(flat), layout=layout, shards=shards, digest=model_digest(layout, shards))


def invited(round_: int = 1, task: Task = Task.TRAIN, model: Model | None = None, **changed: Any) -> Invited:
    told = {
        "run": "r1", "round": round_, "at": NOW, "cluster": "c1", "task": task, "training_round": 1, "framework": "flower", "app": "/app",
        "data": "digits", "configuration": {"lr": 0.1}, "run_configuration": {"epochs": 2}, "deadline": NOW + timedelta(days=1),
        "shard_bytes": 16, "chunk_bytes": 8, "position": 1, "clusters": 3, "model": model,
    }  # fmt: skip
    return Invited(**{**told, **changed})


@asynccontextmanager
async def collaborating(bus: MemoryBus, apps: Apps, workdir: Path, **settings: Any) -> AsyncIterator[None]:
    """A collaborator runs meanwhile."""
    settings = {"cluster": "c1", "workdir": workdir, "update_bytes_max": 1000, **settings}
    running = asyncio.create_task(collaborate(bus, CollaboratorSettings(**settings), apps))
    try:
        yield
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


def said(bus: MemoryBus) -> list[Fact]:
    """What the log says about runs."""
    return [record.fact for record in bus.log.records if not isinstance(record.fact, Advertised)]


async def answer_to(bus: MemoryBus, invitation: Invited) -> Fact:
    """What the collaborator says about the round of the invitation."""
    names = {"run": invitation.run, "round": invitation.round, "cluster": "c1"}
    async with asyncio.timeout(20):
        async for batch in bus.log.tail([kind.pattern(**names) for kind in (Contributed, Evaluated, Declined)]):
            if batch.records:
                return batch.records[0].fact
    raise AssertionError("a log's tail does not end")


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


async def asked_once(bus: MemoryBus, invitation: Invited, apps: Apps, workdir: Path, **settings: Any) -> Fact:
    """The answer of a fresh collaborator to one invitation."""
    async with collaborating(bus, apps, workdir, **settings):
        await bus.log.state(invitation)
        return await answer_to(bus, invitation)


async def bytes_of(bus: MemoryBus, *pieces: Piece) -> bytes:
    return b"".join([bytes(chunk) for piece in pieces async for _, chunk in bus.bulk.read(piece)])
