"""The first example's digits, learnt by as many clusters as are wanted, with the noise of central differential privacy.

The server, the scheduler and the aggregator are real, and so are the app's network, its training and its digits.
Clusters are tasks of one process (`simulated`), whose updates one process of the app makes, one after the other (`digits_clients`).
What the accuracies are compared with is the business of `privacy`.
"""

import asyncio
import json
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aggregation import FLOWER_PYTHON
from measuring import Server
from simulated import answer_all, bus_of, facts_of, hub, learning, submit

from fedplane.aggregator.main import aggregate
from fedplane.aggregator.settings import AggregatorSettings
from fedplane.cli.download import chunks
from fedplane.runtime.nats import NatsBus
from fedplane.schemas.facts import Aggregated, Completed, Invited
from fedplane.schemas.models import Model
from fedplane.schemas.privacy_terms import Spent

__all__ = ["DELTA", "App", "Learnt", "Lesson", "app", "learn"]

DELTA = 1e-5
"""The resource's default, far less than one by the number of clusters."""

LESSON_SECONDS_MAX = 600
"""The longest takes half a minute."""

EXAMPLE = FLOWER_PYTHON.parents[2]

ELEMENTS = 55_338
"""Of the example's network."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """So many clusters with so many digits each learn for so many rounds, by batches of that size and with that rate.

    `noise` is what the resource asks for; none for no noise, and no clip.
    """

    clusters: int
    each: int
    rounds: int
    batch: int
    rate: float
    noise: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Learnt:
    """What came of a run: the share of the digits held out that is recognised, and what the noise has cost."""

    accuracy: float
    spent: Spent | None


class App:
    """The app's process, and the files that it shares with us. It does one thing at a time, for the tasks of one event loop."""

    def __init__(self, directory: Path) -> None:
        self._model, self._made, self._turn = directory / "model", directory / "made", asyncio.Lock()
        self._process = subprocess.Popen(
            [FLOWER_PYTHON, Path(__file__).parent / "digits_clients.py", directory],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self._held: str | None = None

    async def update(self, bus: NatsBus, lesson: Lesson, asked: Invited) -> memoryview:
        """What the cluster makes of the model that it is sent, or a first model, if it is asked for one."""
        async with self._turn:
            question: dict[str, Any] = {"model": None, "into": str(self._made)}
            if asked.model is not None:
                told = {"clusters": lesson.clusters, "each": lesson.each, "batch": lesson.batch, "rate": lesson.rate, "seed": asked.round}
                question |= {"model": await self._fetched(bus, asked.model), "train": {"cluster": int(asked.cluster[-4:]), **told}}
            await asyncio.to_thread(self._ask, question)
            return memoryview(self._made.read_bytes())

    async def accuracy(self, bus: NatsBus, model: Model) -> float:
        """How good that model is."""
        async with self._turn:
            found = await asyncio.to_thread(self._ask, {"model": await self._fetched(bus, model)})
            assert isinstance(found, float), "a model is judged by a number"
            return found

    async def _fetched(self, bus: NatsBus, model: Model) -> str:
        if self._held != model.digest:
            parts = [bytes(chunk) async for chunk in chunks(bus.bulk, model)]
            self._model.write_bytes(b"".join(parts[1:]))  # without the layout
            self._held = model.digest
        return str(self._model)

    def _ask(self, question: dict[str, Any]) -> object:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the app's process has ended; to see why, ask digits_clients.py by hand")
        return json.loads(answer)

    def end(self) -> None:
        self._process.communicate()


@contextmanager
def app(directory: Path) -> Iterator[App]:
    """The app's process for the time of a block."""
    directory.mkdir()
    subprocess.run([FLOWER_PYTHON, EXAMPLE / "shards.py", directory], check=True, capture_output=True)
    running = App(directory)
    try:
        yield running
    finally:
        running.end()


async def learn(server: Server, digits: App, lesson: Lesson) -> Learnt:
    """Play a run to its end, on a server that nobody has used. Raises TimeoutError if that takes far too long."""
    secret = server.directory / "noise-secret"
    secret.write_text(secrets.token_hex(32))
    settings = AggregatorSettings(noise_secret=secret)
    privacy = {"differentialPrivacy": {"central": {"delta": DELTA, **lesson.noise}}} if lesson.noise else None
    spent: Spent | None = None
    async with (
        asyncio.timeout(LESSON_SECONDS_MAX),
        bus_of(server, "hub") as bus,
        bus_of(server, "aggregator") as aggregator,
        bus_of(server, "clusters") as crowd,
        hub(
            bus,
            aggregate(aggregator, settings),
            answer_all(crowd, 4 * ELEMENTS, lambda asked: digits.update(crowd, lesson, asked)),
        ),
    ):
        run = await submit(bus, learning("digits", lesson.clusters, rounds=lesson.rounds, evaluate=False, privacy=privacy))
        async for fact in facts_of(bus, run):
            match fact:
                case Aggregated():
                    spent = fact.privacy or spent
                case Completed():
                    return Learnt(await digits.accuracy(bus, fact.model), spent)
    raise AssertionError("the log of a run ends with its end")
