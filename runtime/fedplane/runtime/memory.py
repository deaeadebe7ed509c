"""The whole bus in one process: every port, with the semantics of the real one and none of its servers.

It is product code: simulations run a federation on it in milliseconds, and the tests that the real bus passes hold for it too.
Nothing is durable, and nothing crosses the process.
"""

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from fedplane.runtime.errors import BusFull, Corrupt
from fedplane.runtime.headroom import check_room
from fedplane.runtime.memory_subscriptions import MemorySubscriptions
from fedplane.runtime.ports import Backlog, Batch, Begin, Fence, Lease, Letter, Recorded, Stated, Usage, Viewed
from fedplane.schemas import envelope
from fedplane.schemas.digests import Hashing, digest
from fedplane.schemas.facts import Fact, Submitted
from fedplane.schemas.models import Piece
from fedplane.schemas.patterns import matches

__all__ = ["MemoryBulk", "MemoryBus", "MemoryLetters", "MemoryLog", "MemoryTimers", "MemoryViews", "MemoryWork", "matches"]

BATCH_FACTS_MAX = 256
"""As many facts as the real log hands over at once."""


class MemoryLog:
    """Registers in one order, some of which hold the last fact instead of the first. A fact passes through its wire form.

    `bytes_max` bounds what it takes of runs, so that a full log can be played.
    """

    def __init__(self, source: str, bytes_max: int = 1 << 40) -> None:
        self.source = source
        self.records: list[Recorded] = []
        self.bytes_max = bytes_max
        self._sequence = 0
        self._registers: dict[str, Recorded] = {}
        self._sizes: dict[str, int] = {}
        self._bytes = 0
        self._taken: dict[int, datetime] = {}
        self._grown = asyncio.Condition()

    async def state(self, fact: Fact, *, fence: Fence | None = None, traceparent: str | None = None) -> Stated:
        """See `Log.state`."""
        wire = envelope.write(fact, self.source, traceparent)
        held = self._registers.get(wire.subject)
        if held is not None and not fact.replaces:
            return Stated(held, held.id == wire.id)
        if isinstance(fact, Submitted):
            check_room(fact, await self.usage())
        if fence is not None and any(matches(fence.subject, r.fact.subject) and r.sequence > fence.sequence for r in self.records):
            return Stated(None, False)
        self._take_room(wire, fact)
        self._sequence += 1
        self._taken[self._sequence] = datetime.now(UTC)
        read = envelope.read(wire.subject, wire.headers, wire.body)
        record = Recorded(read, self._sequence, wire.id, traceparent, self.source, wire.body)
        self.records.append(record)
        self._registers[wire.subject] = record
        async with self._grown:
            self._grown.notify_all()
        return Stated(record, True)

    async def tail(self, patterns: Sequence[str], after: Begin | None = 0) -> AsyncIterator[Batch]:
        """See `Log.tail`."""
        at, end, first = self._place(after), self._sequence, True
        while True:
            begin = bisect_right(self.records, at, key=lambda record: record.sequence)
            fresh, before = self.records[begin : begin + BATCH_FACTS_MAX], at
            at = fresh[-1].sequence if len(fresh) == BATCH_FACTS_MAX else max(at, self._sequence)
            wanted = tuple(r for r in fresh if any(matches(pattern, r.fact.subject) for pattern in patterns) and self._is_last(r))
            if wanted or first or at >= end > before:
                first = False
                yield Batch(wanted, live=at >= end, sequence=wanted[-1].sequence if wanted else 0)
            async with self._grown:
                while at >= self._sequence:
                    await self._grown.wait()

    def _place(self, begin: Begin | None) -> int:
        if begin is None:
            return self._sequence
        if isinstance(begin, datetime):
            return max((sequence for sequence, at in self._taken.items() if at < begin), default=0)
        return begin

    def _is_last(self, record: Recorded) -> bool:
        return not record.fact.replaces or self._registers[record.fact.subject] is record

    async def read(self, subject: str) -> Recorded | None:
        """See `Log.read`."""
        return self._registers.get(subject)

    async def purge(self, pattern: str, before: int | None = None) -> None:
        """See `Log.purge`."""
        gone = {r.fact.subject for r in self.records if matches(pattern, r.fact.subject) and (before is None or r.sequence < before)}
        self.records = [record for record in self.records if record.fact.subject not in gone]
        for subject in gone:
            del self._registers[subject]
            self._bytes -= self._sizes.pop(subject, 0)

    async def usage(self) -> Usage:
        """See `Log.usage`."""
        return Usage(self._bytes, self.bytes_max)

    def _take_room(self, wire: envelope.Wire, fact: Fact) -> None:
        if fact.replaces:
            return
        size = len(wire.body) + sum(len(name) + len(value) for name, value in wire.headers.items())
        if self._bytes + size > self.bytes_max:
            raise BusFull(f"could not state {wire.subject}: the log is full; {self.bytes_max} bytes are all there is")
        self._sizes[wire.subject] = size
        self._bytes += size


class MemoryTimers:
    """Timers that fire while somebody keeps them."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._set: dict[str, tuple[datetime, Fact, str | None]] = {}
        self._changed = asyncio.Event()

    async def remind(self, fact: Fact, at: datetime, traceparent: str | None = None) -> None:
        """See `Timers.remind`."""
        self._set.setdefault(fact.subject, (at, fact, traceparent))
        self._changed.set()

    async def keep(self) -> None:
        """See `Timers.keep`."""
        while True:
            now = datetime.now(UTC)
            for subject, (at, fact, traceparent) in sorted(self._set.items()):
                if at <= now:
                    await self._log.state(fact, traceparent=traceparent)
                    self._set.pop(subject, None)
            soonest = min((at for at, _, _ in self._set.values()), default=None)
            self._changed.clear()
            try:
                async with asyncio.timeout(None if soonest is None else max(0.0, (soonest - now).total_seconds())):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def purge(self, pattern: str) -> None:
        """See `Timers.purge`."""
        self._set = {subject: timer for subject, timer in self._set.items() if not matches(pattern, subject)}


@dataclass
class _Held:
    subject: str
    traceparent: str | None
    _work: "MemoryWork"
    deliveries: int = 0
    leased: bool = False
    finished: bool = False
    not_before: float = 0.0

    async def done(self) -> None:
        """See `Lease.done`."""
        self.finished = True
        self._work.tasks.pop(self.subject, None)

    async def again(self, delay_seconds: float) -> None:
        """See `Lease.again`."""
        self.finished = True
        self.leased = False
        self.not_before = asyncio.get_running_loop().time() + delay_seconds


class MemoryWork:
    """Tasks in the order in which they were offered."""

    def __init__(self) -> None:
        self.tasks: dict[str, _Held] = {}

    async def offer(self, subject: str, traceparent: str | None = None) -> None:
        """See `Work.offer`."""
        self.tasks.setdefault(subject, _Held(subject, traceparent, self))

    @asynccontextmanager
    async def lease(self, wait_seconds: float) -> AsyncIterator[Lease | None]:
        """See `Work.lease`."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + wait_seconds
        while (held := self._free(loop.time())) is None and loop.time() < give_up:
            await asyncio.sleep(0.001)
        if held is None:
            yield None
            return
        held.leased, held.finished = True, False
        held.deliveries += 1
        try:
            yield held
        finally:
            if not held.finished:
                held.leased = False

    async def backlog(self) -> Backlog:
        """See `Work.backlog`."""
        given = sum(task.leased or task.not_before > 0 for task in self.tasks.values())
        return Backlog(len(self.tasks) - given, given)

    def _free(self, now: float) -> _Held | None:
        return next((task for task in self.tasks.values() if not task.leased and task.not_before <= now), None)


class MemoryBulk:
    """Chunks by subject. `bytes_max` bounds them, so that a full bus can be played."""

    def __init__(self, bytes_max: int = 1 << 40) -> None:
        self.chunks: dict[str, bytes] = {}
        self.bytes_max = bytes_max

    async def write(self, subject: str, data: memoryview, chunk_bytes: int) -> Piece:
        """See `Bulk.write`."""
        piece = Piece(subject=subject, bytes=len(data), chunk_bytes=chunk_bytes, digest=digest(data))
        for chunk in range(piece.chunks):
            part = bytes(data[chunk * chunk_bytes : (chunk + 1) * chunk_bytes])
            if sum(map(len, self.chunks.values())) + len(part) > self.bytes_max:
                raise BusFull(f"no room for {subject}.{chunk}: {self.bytes_max} bytes are all there is")
            self.chunks[f"{subject}.{chunk}"] = part
        return piece

    async def read(self, piece: Piece) -> AsyncIterator[tuple[int, memoryview]]:
        """See `Bulk.read`."""
        hashing = Hashing()
        for index in range(piece.chunks):
            part = await self.chunk(piece, index)
            hashing.update(part)
            yield index * piece.chunk_bytes, part
        if hashing.digest != piece.digest:
            raise Corrupt(f"the bytes of {piece.subject} are not those that were stored")

    async def chunk(self, piece: Piece, index: int) -> memoryview:
        """See `Bulk.chunk`."""
        part = self.chunks.get(f"{piece.subject}.{index}")
        if part is None:
            raise Corrupt(f"{piece.subject}.{index} is missing")
        begin, end = piece.extent(index)
        if len(part) != end - begin:
            raise Corrupt(f"{piece.subject}.{index} has {len(part)} bytes instead of {end - begin}")
        return memoryview(part)

    async def purge(self, pattern: str) -> None:
        """See `Bulk.purge`."""
        self.chunks = {subject: part for subject, part in self.chunks.items() if not matches(pattern, subject)}

    async def stored(self, pattern: str) -> frozenset[str]:
        """See `Bulk.stored`."""
        return frozenset(subject for subject in self.chunks if matches(pattern, subject))


class MemoryViews:
    """The last view under each key."""

    def __init__(self) -> None:
        self.views: dict[str, Viewed] = {}
        self._changed = asyncio.Condition()

    async def put(self, view: Viewed) -> None:
        """See `Views.put`."""
        held = self.views.get(view.key)
        if held is None or held.sequence < view.sequence:
            self.views[view.key] = view
            async with self._changed:
                self._changed.notify_all()

    async def get(self, key: str) -> Viewed | None:
        """See `Views.get`."""
        return self.views.get(key)

    async def all(self) -> list[Viewed]:
        """See `Views.all`."""
        return [self.views[key] for key in sorted(self.views)]

    async def watch(self, key: str) -> AsyncIterator[Viewed]:
        """See `Views.watch`."""
        seen = -1
        while True:
            async with self._changed:
                while (view := self.views.get(key)) is None or view.sequence <= seen:
                    await self._changed.wait()
            seen = view.sequence
            yield view

    async def remove(self, key: str) -> None:
        """See `Views.remove`."""
        self.views.pop(key, None)


class MemoryLetters:
    """Dead letters by reader and place."""

    def __init__(self) -> None:
        self._dead: dict[str, dict[int, Letter]] = {}

    async def bury(self, reader: str, letter: Letter) -> None:
        """See `Letters.bury`."""
        self._dead.setdefault(reader, {})[letter.record.sequence] = letter

    async def of(self, reader: str) -> AsyncIterator[Letter]:
        """See `Letters.of`."""
        for _, letter in sorted(self._dead.get(reader, {}).items()):
            yield letter

    async def settle(self, reader: str, sequence: int) -> None:
        """See `Letters.settle`."""
        self._dead.get(reader, {}).pop(sequence, None)


@dataclass
class MemoryBus:
    """All ports on one memory, as `open_bus` gives them on a server."""

    source: str = "/memory"
    log: MemoryLog = field(init=False)
    subscriptions: MemorySubscriptions = field(init=False)
    timers: MemoryTimers = field(init=False)
    work: MemoryWork = field(default_factory=MemoryWork)
    bulk: MemoryBulk = field(default_factory=MemoryBulk)
    views: MemoryViews = field(default_factory=MemoryViews)
    letters: MemoryLetters = field(default_factory=MemoryLetters)
    connected: bool = True

    def is_connected(self) -> bool:
        """See `Bus.is_connected`. A memory is always there, unless a story has it otherwise."""
        return self.connected

    def __post_init__(self) -> None:
        self.log = MemoryLog(self.source)
        self.subscriptions = MemorySubscriptions(self.log)
        self.timers = MemoryTimers(self.log)
