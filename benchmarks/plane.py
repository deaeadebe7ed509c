"""What it costs to move a model through a round: updates up, folded into the next model, and that one down again.

Aggregators are processes of their own, as in production.
The clusters are tasks of this process, each on its own connection, with the collaborator's own upload and download, to and from files.
Every rate stands beside that of a raw TCP copy taken right before, and counts the bytes that move: a fold's go in and out.
"""

import asyncio
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import uvloop
from measuring import MB, RawCopy, Report, Server, Usage, free_megabytes, options, scratch, usage
from simulated import aggregators, bus_of, facts_of, hub, learning, model_header, quiet, submit, until_either_ends

from fedplane.collaborator.fetching import fetch
from fedplane.collaborator.tasks import unless_closed
from fedplane.collaborator.transfers import Stored, Update, check_update, remove, upload
from fedplane.runtime.errors import Corrupt
from fedplane.runtime.ports import Bus
from fedplane.schemas.facts import Aggregated, Closed, Completed, Contributed, Invited, Opened
from fedplane.schemas.models import Model, Task

__all__ = ["MEMORY_SHARE", "Case", "Phase", "Played", "fits", "play"]

BAR_SHARE = 0.15
"""Of raw TCP on one machine: a durable store in between, acknowledgements, digests and arithmetic may cost six times the copy."""

BAR_MEGABYTES = 250.0
"""What an aggregator may hold, whatever it folds: what it needs must not grow with the model or its members."""

RAW_BYTES = 200 * MB
"""As much as is copied by raw TCP at a time: enough to be steady, and over in a twentieth of a second."""

MEMORY_SHARE = 0.75
"""Of the memory that is free, what a case may take with its store and files."""


@dataclass(frozen=True, slots=True)
class Case:
    """A model's size, how many clusters, and how many training rounds."""

    megabytes: int
    clusters: int
    rounds: int

    @property
    def name(self) -> str:
        return f"{self.megabytes} MB, {self.clusters} clusters"


ALONE_SMOKE = (1, 1)
ALONE_QUICK = (100, 5)
ALONE = (400, 7)
"""What one connection writes and reads by itself: megabytes, and how often."""

CASES_SMOKE = (Case(1, 2, 1),)
CASES_QUICK = (Case(10, 2, 9), Case(10, 8, 5), Case(100, 2, 5), Case(100, 8, 2))
CASES = (
    *CASES_QUICK, Case(10, 32, 5), Case(100, 32, 3), Case(400, 2, 3), Case(400, 8, 3), Case(400, 32, 1),
    Case(2_000, 2, 2), Case(2_000, 8, 1), Case(2_000, 32, 1),
)  # fmt: skip

BAR_CASE_MEGABYTES = 100
"""Smaller models are moved in tens of milliseconds, in which a round's facts count as much as its bytes."""

PURGED_SECONDS = 120.0
"""How long to wait until the members' updates are removed: the server looks at every chunk, and 4 GB took it more than five seconds."""


@dataclass(frozen=True, slots=True)
class Phase:
    """Bytes that moved, how long it took, what raw TCP did then, and the CPU seconds that each role spent."""

    megabytes: float
    seconds: float
    raw: float
    cpu: dict[str, float]

    @property
    def rate(self) -> float:
        return self.megabytes / self.seconds

    @property
    def share(self) -> float:
        return self.rate / self.raw


@dataclass
class Played:
    """What was measured: phases by name, once for each round, and what each role's processes held."""

    phases: dict[str, list[Phase]] = field(default_factory=dict)
    held: dict[str, Usage] = field(default_factory=dict)

    def median(self, phase: str, of: Callable[[Phase], float]) -> float:
        return statistics.median(of(each) for each in self.phases[phase])

    def cpu_per_gigabyte(self, phase: str, role: str) -> float:
        return self.median(phase, lambda each: 1e3 * each.cpu[role] / each.megabytes)


class Meter:
    """Takes the phases' times and CPU seconds."""

    def __init__(self, raw: RawCopy, sample: memoryview, pids: dict[str, list[int]]) -> None:
        self.played = Played()
        self._raw, self._sample, self._pids = raw, sample, pids
        self._rate = 0.0
        self._before = self._cpu()

    def compare(self) -> None:
        """See how fast raw TCP is now; what follows is compared with that."""
        self._rate = statistics.median(self._raw.megabytes_per_second(self._sample) for _ in range(3))

    def begin(self) -> None:
        """From here on CPU seconds count for the next phase."""
        self._before = self._cpu()

    def add(self, phase: str, megabytes: float, seconds: float) -> None:
        """The phase has ended."""
        cpu = {role: after - self._before[role] for role, after in self._cpu().items()}
        self.played.phases.setdefault(phase, []).append(Phase(megabytes, seconds, self._rate, cpu))
        usages = {role: [usage(pid) for pid in pids] for role, pids in self._pids.items()}
        self.played.held = {role: max(each, key=lambda used: used.peak_megabytes) for role, each in usages.items()}

    @contextmanager
    def phase(self, name: str, megabytes: float) -> Iterator[None]:
        """Measure a block."""
        self.begin()
        begun = time.perf_counter()
        yield
        self.add(name, megabytes, time.perf_counter() - begun)

    def _cpu(self) -> dict[str, float]:
        return {role: sum(usage(pid).cpu_seconds for pid in pids) for role, pids in self._pids.items()}


async def move(server: Server, raw: RawCopy, megabytes: int, times: int) -> Played:
    """Write and read one piece on one connection."""
    data = memoryview(np.random.default_rng(0).bytes(megabytes * MB))
    meter = Meter(raw, data[:RAW_BYTES], {"server": [server.pid], "client": [os.getpid()]})
    async with bus_of(server, "alone") as bus:
        for _ in range(times):
            meter.compare()
            with meter.phase("write", megabytes):
                piece = await bus.bulk.write("bulk.fed.v1.alone", data, MB)
            with meter.phase("read", megabytes):
                async for _, chunk in bus.bulk.read(piece):
                    assert chunk, "a chunk has bytes"
            await bus.bulk.purge("bulk.fed.v1.alone.*")
    return meter.played


class Clusters:
    """All clusters of a run: they do everything at the same time."""

    def __init__(self, buses: Sequence[Bus], update: Update, folder: Path, meter: Meter) -> None:
        self._buses, self._update, self._folder, self._meter = buses, update, folder, meter
        self._stored: list[Stored] = []
        self._megabytes = update.bytes / MB

    async def contribute(self, invited: Sequence[Invited]) -> None:
        """Those that are invited upload; when all are done, all say so. The initialization, by one of them, is not measured."""
        asked = list(zip(self._buses, invited, strict=False))
        if invited[0].task is Task.TRAIN:
            self._meter.compare()
            with self._meter.phase("upload", len(asked) * self._megabytes):
                stored = await asyncio.gather(*(upload(bus.bulk, self._update, each) for bus, each in asked))
        else:
            stored = [await upload(bus.bulk, self._update, each) for bus, each in asked]
        self._stored = stored
        self._meter.begin()
        await asyncio.gather(*(_state(bus, each, what) for (bus, each), what in zip(asked, stored, strict=True)))

    def folded(self, closed: Closed, done: Aggregated) -> None:
        """The aggregators have made the next model, in the time that the facts tell."""
        self._meter.add("fold", (len(self._buses) + 1) * self._megabytes, (done.at - closed.at).total_seconds())

    async def download(self, model: Model) -> None:
        """All clusters fetch the model, each into a file of its own."""
        async with asyncio.timeout(PURGED_SECONDS):
            await self._purged()
        folders = [self._folder / str(number) for number in range(len(self._buses))]
        with self._meter.phase("download", len(folders) * self._megabytes):
            await asyncio.gather(*(fetch(bus.bulk, model, folder) for bus, folder in zip(self._buses, folders, strict=True)))
        for folder in folders:
            remove(folder)

    async def _purged(self) -> None:
        """Wait until the updates are gone: else they and everyone's downloads would have to be in memory at the same time."""
        for bus, stored in zip(self._buses, self._stored, strict=True):
            last = stored.shards[-1]
            while True:
                try:
                    await bus.bulk.chunk(last, last.chunks - 1)
                except Corrupt:
                    break  # it is missing, as it should be
                await asyncio.sleep(0.01)


async def _state(bus: Bus, invited: Invited, stored: Stored) -> None:
    whose: dict[str, Any] = {"run": invited.run, "round": invited.round, "cluster": invited.cluster}
    where: dict[str, Any] = {"attempt": stored.attempt, "layout": stored.layout, "shards": stored.shards}
    fact = Contributed(**whose, **where, at=invited.at, weight=1, metrics={"loss": 1.0})
    await bus.log.state(fact, fence=unless_closed(invited.run, invited.round))


async def play(server: Server, case: Case, raw: RawCopy, folder: Path, replicas: int = 1, data_bytes_max: int | None = None) -> Played:
    """A run of that many training rounds, with so many aggregators, each with at most so much data."""
    update = _update(folder / "update.safetensors", case.megabytes * MB)
    with update.path.open("rb") as file:
        sample = memoryview(file.read(RAW_BYTES))
    with aggregators(server, replicas, data_bytes_max) as folding:
        async with AsyncExitStack() as stack:
            bus = await stack.enter_async_context(bus_of(server, "hub"))
            buses = [await stack.enter_async_context(bus_of(server, f"cluster {number}")) for number in range(case.clusters)]
            meter = Meter(raw, sample, {"server": [server.pid], "aggregators": folding.pids, "clusters": [os.getpid()]})
            await stack.enter_async_context(hub(bus))
            clusters = Clusters(buses, update, folder, meter)
            name = f"m{case.megabytes}-c{case.clusters}-a{replicas}"
            run = await submit(bus, learning(name, case.clusters, rounds=case.rounds, evaluate=False))
            await until_either_ends(_play(bus, run, clusters), folding.watch())
    return meter.played


async def _play(bus: Bus, run: str, clusters: Clusters) -> None:
    opened: Opened | None = None
    closed: Closed | None = None
    invited: list[Invited] = []
    async for fact in facts_of(bus, run):
        match fact:
            case Opened():
                opened, invited = fact, []
            case Invited():
                invited.append(fact)
                if opened is not None and len(invited) == len(opened.clusters):
                    await clusters.contribute(invited)
            case Closed():
                closed = fact
            case Aggregated(task=Task.TRAIN, model=Model() as model) if closed is not None:
                clusters.folded(closed, fact)
                await clusters.download(model)
            case Completed():
                return


def _update(path: Path, size: int) -> Update:
    random = np.random.default_rng(0)
    with path.open("wb") as file:
        file.write(model_header(size))
        for begin in range(0, size, 10 * MB):
            file.write(random.standard_normal(min(10 * MB, size - begin) // 4, np.float32).tobytes())
    return check_update(path, None, size + MB)


def fits(case: Case) -> bool:
    """Whether the machine has room: everyone's update or download, the file of the update, and three models in the store."""
    return (case.clusters + 4) * case.megabytes < MEMORY_SHARE * free_megabytes()


def report_on(report: Report, title: str, played: dict[str, Played], roles: Mapping[str, tuple[str, ...]]) -> None:
    """Rates, CPU seconds and memory. `roles` says who works in each phase."""
    parts: dict[str, Callable[[Phase], float]] = {"s": lambda p: p.seconds, "MB/s": lambda p: p.rate, "of raw": lambda p: p.share}
    columns = ["", *(f"{phase} {what}" for phase in roles for what in parts), "raw MB/s"]
    rows = [
        [name, *(each.median(phase, of) for phase in roles for of in parts.values()), each.median(next(iter(roles)), lambda p: p.raw)]
        for name, each in played.items()
    ]
    report.table(f"{title}: medians", columns, rows)
    pairs = [(phase, role) for phase, working in roles.items() for role in working]
    spent = [[name, *(each.cpu_per_gigabyte(phase, role) for phase, role in pairs)] for name, each in played.items()]
    report.table(f"{title}: CPU seconds for a GB that moves", ["", *(f"{phase}: {role}" for phase, role in pairs)], spent)
    holding = list(dict.fromkeys(role for _, role in pairs))
    held = [[name, *(what for role in holding for what in _memory(each.held[role]))] for name, each in played.items()]
    report.table(f"{title}: memory, MB", ["", *(f"{role} {what}" for role in holding for what in ("peak", "own"))], held)


def _memory(used: Usage) -> tuple[float, float]:
    return used.peak_megabytes, used.own_megabytes


def main() -> None:
    """Measure and report."""
    told = options(__doc__ or "")
    raw = RawCopy()
    report = Report(
        "plane",
        "the network and the disk; apps; clusters as processes of their own, so their memory is that of all of them, and a file that each"
        " has mapped counts once for each in the peak; an aggregation without a fold is a fact (see control)",
    )
    quiet()
    megabytes, times = ALONE_SMOKE if told.smoke else ALONE_QUICK if told.quick else ALONE
    with scratch() as folder, Server(folder / "nats").running() as server:
        alone = uvloop.run(move(server, raw, megabytes, times))
    report_on(report, "one connection", {f"{megabytes} MB": alone}, {"write": ("server", "client"), "read": ("server", "client")})
    for phase in alone.phases:
        report.bar(f"{phase} {megabytes} MB, share of raw TCP", alone.median(phase, lambda p: p.share), at_least=BAR_SHARE)
    played: dict[str, tuple[Case, Played]] = {}
    for case in CASES_SMOKE if told.smoke else CASES_QUICK if told.quick else CASES:
        if fits(case):
            with scratch() as folder, Server(folder / "nats").running() as server:
                played[case.name] = case, uvloop.run(play(server, case, raw, folder))
        else:
            report.note(f"skipped {case.name}: it takes more than {MEMORY_SHARE:.0%} of the free memory")
    working = {"upload": ("server", "clusters"), "fold": ("server", "aggregators"), "download": ("server", "clusters")}
    report_on(report, "a round", {name: each for name, (_, each) in played.items()}, working)
    for name, (case, each) in played.items():
        if case.megabytes >= BAR_CASE_MEGABYTES:
            for phase in ("upload", "fold"):
                report.bar(f"{phase}, {name}, share of raw TCP", each.median(phase, lambda p: p.share), at_least=BAR_SHARE)
    highest = max(each.held["aggregators"].peak_megabytes for _, each in played.values())
    report.bar("the largest aggregator, peak MB", highest, at_most=BAR_MEGABYTES)
    report.finish(told)


if __name__ == "__main__":
    main()
