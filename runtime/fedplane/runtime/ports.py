"""What services need of the outside world, each port as small as its users allow.

Two implementations pass the same tests (`tests/contract`):
`fedplane.runtime.nats`, the real one, and `fedplane.runtime.memory`, the whole bus in one process, for simulations.
A port speaks of facts, pieces and tasks; subjects' prefixes, streams, headers and acknowledgements are the implementation's business.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from fedplane.schemas.facts import Fact
from fedplane.schemas.models import Piece

__all__ = [
    "Backlog", "Batch", "Begin", "Bulk", "Bus", "Fence", "Handed", "Lease", "Letter", "Letters", "Log", "Recorded", "Stated",
    "Subscription", "Subscriptions", "Timers", "Usage", "Viewed", "Views", "Work",
]  # fmt: skip

Begin = int | datetime
"""Where a reader begins: behind a place on the log, or with what the log took since a time."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A fact as the log has it: its place in the log's order, the trace in which it was stated, and the process that stated it.

    `body` is what it was read from, as JSON, with whatever a later version says in it; empty if it was not read.
    """

    fact: Fact
    sequence: int
    id: str = ""
    traceparent: str | None = None
    source: str = ""
    body: bytes = field(default=b"", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Fence:
    """State the fact only if nothing that matches `subject` came after `sequence` (0: nothing at all)."""

    subject: str
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class Stated:
    """What became of stating a fact.

    `record` is what the register holds now, whoever wrote it; None means that the fence refused the fact and the register is empty.
    `mine` is whether it is the fact that was to be stated.
    """

    record: Recorded | None
    mine: bool


@dataclass(frozen=True, slots=True)
class Batch:
    """Facts in log order. `live` is whether the reader has now seen everything that was in the log when it began to read.

    `sequence` is the place of the last thing that was read, be it a fact or what could not be read as one; 0 if there was nothing.
    `skipped` counts what could not be read as a fact, `pending` what is still to be read, as far as is known.
    """

    records: tuple[Recorded, ...]
    live: bool
    sequence: int = 0
    skipped: int = 0
    pending: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Usage:
    """How full the log of runs is. Without `bytes_max` it has no limit of its own."""

    bytes: int
    bytes_max: int | None


class Log(Protocol):
    """The facts: write-once registers in one order."""

    async def state(self, fact: Fact, *, fence: Fence | None = None, traceparent: str | None = None) -> Stated:
        """Write the fact into its register unless somebody has, and say what the register holds. Safe to repeat.

        Raises Unreachable, BusFull or Denied; whether the fact was written is then unknown, and stating it again settles it.
        Raises Corrupt when the register is taken by what is no fact.
        A run is not `submitted` when the log has only the room that is kept for runs that go on: that is BusFull, too; see `headroom`.
        """
        ...

    def tail(self, patterns: Sequence[str], after: Begin | None = 0) -> AsyncIterator[Batch]:
        """Every fact that matches a pattern, from the first one after `after`, for ever; None: after all that there is now.

        The patterns are of one stream, runs' or fleet's. The reader sees gapless log order across restarts of the server.
        The first batch comes even if it is empty, so that a reader of an empty log learns that it is live.
        Facts that cannot be read are skipped with a warning.

        A process that may make no reader of its own has one made for it, with the facts that it may know. It may be given facts a second
        time, in the log's order from the beginning on: when its rights have changed, or its reader was lost. So whoever reads has to
        bear repetition.
        Such a reader does not begin at the end of the log (BadInput), and there is none of the fleet's facts (Denied).
        """
        ...

    async def read(self, subject: str) -> Recorded | None:
        """What a register holds; None if nothing. Raises Corrupt when that is no fact.

        It is the stream's leader who says so. To a process that may not ask him, a copy says it, which may be late by milliseconds.
        """
        ...

    async def purge(self, pattern: str, before: int | None = None) -> None:
        """Forget the facts that match, or those of them that came before that place. Their registers can then be written again.

        It is for runs that have ended: of one that goes on, registers would be empty and fences wrong.
        """
        ...

    async def usage(self) -> Usage:
        """How full the log of runs is."""
        ...


@dataclass(frozen=True, slots=True)
class Subscription:
    """What is heard under a name, whose name it is, and where it began; without a `begin`, with what came after it was made."""

    name: str
    patterns: tuple[str, ...]
    owner: str
    begin: Begin | None = field(default=None, compare=False)


class Handed(Protocol):
    """What a subscription hands over. It hands it over again some day, unless it is told that it is done with; not what it was told of.

    Without a record, it only says that it is `live`: nothing more is there to be handed over now.
    """

    record: Recorded | None
    live: bool

    async def done(self) -> None:
        """It need not come again."""
        ...


class Subscriptions(Protocol):
    """Readers whose place on the log the bus remembers, so that they miss nothing that the log still has when they come back."""

    async def make(self, wanted: Subscription) -> bool:
        """Have the bus remember the subscription; whether it did not before. Then it goes on where it was.

        Raises BadInput when the name is taken by what is not the same; see `subscribing`.
        """
        ...

    def read(self, name: str) -> AsyncGenerator[Handed, None]:
        """What it has not handed over yet, or was not done with, in the log's order, for ever. Facts that cannot be read are skipped.

        Raises BadInput when there is none of that name, or another process reads it.
        """
        ...

    async def forget(self, name: str, owner: str) -> None:
        """Remember it no longer. Raises BadInput when there is none of that name, or it is another's."""
        ...

    async def every(self) -> list[Subscription]:
        """All that are remembered, by name."""
        ...


class Timers(Protocol):
    """Facts for later. The bus keeps them though every process of ours be dead; they are stated as soon as one keeps the timers."""

    async def remind(self, fact: Fact, at: datetime, traceparent: str | None = None) -> None:
        """State the fact at that time (seconds' resolution). Repeating it changes nothing."""
        ...

    async def keep(self) -> None:
        """Turn due timers into facts, for ever. Any number of processes may do so at once."""
        ...

    async def purge(self, pattern: str) -> None:
        """Forget the timers of facts that match. One that is being stated at that moment may be stated all the same."""
        ...


class Lease(Protocol):
    """A task that this process holds for now. A lease is a hint of who does the work, never the truth about it."""

    subject: str
    deliveries: int
    traceparent: str | None

    async def done(self) -> None:
        """The task needs no doing any more."""
        ...

    async def again(self, delay_seconds: float) -> None:
        """Somebody should try it once more, after a while."""
        ...


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many tasks wait for somebody, and how many somebody has leased or given back for a while."""

    waiting: int
    leased: int


class Work(Protocol):
    """Tasks that one process at a time should do."""

    async def offer(self, subject: str, traceparent: str | None = None) -> None:
        """Put a task up unless it is up already."""
        ...

    def lease(self, wait_seconds: float) -> AbstractAsyncContextManager[Lease | None]:
        """The next task, or None if there is none for so long. The lease is kept alive while the block runs, and given up when it ends."""
        ...

    async def backlog(self) -> Backlog:
        """How long the queue is."""
        ...


class Bulk(Protocol):
    """Bytes that are too many for facts."""

    async def write(self, subject: str, data: memoryview, chunk_bytes: int) -> Piece:
        """Store the bytes in chunks, each acknowledged. Raises BusFull when there is no room."""
        ...

    def read(self, piece: Piece) -> AsyncIterator[tuple[int, memoryview]]:
        """The piece's chunks with their offsets, in order, at most one window of them in memory.

        Raises Corrupt when a chunk is missing or the digest differs, at the latest after the last chunk.
        """
        ...

    async def chunk(self, piece: Piece, index: int) -> memoryview:
        """One chunk by itself. Nothing vouches for its bytes: a digest is that of a whole piece.

        Raises Corrupt when it is missing or not of the size that the piece says.
        """
        ...

    async def purge(self, pattern: str) -> None:
        """Forget everything that matches."""
        ...

    async def stored(self, pattern: str) -> frozenset[str]:
        """The subjects of the chunks that match. For patterns that match few: they come in one answer."""
        ...


@dataclass(frozen=True, slots=True)
class Viewed:
    """One outward view: a JSON document, and the log sequence that it reflects."""

    key: str
    body: bytes
    sequence: int


class Views(Protocol):
    """Latest-value documents for people and programs that only want to look."""

    async def put(self, view: Viewed) -> None:
        """Store the view unless a later one is there."""
        ...

    async def get(self, key: str) -> Viewed | None:
        """One view."""
        ...

    async def all(self) -> list[Viewed]:
        """Every view, by key."""
        ...

    def watch(self, key: str) -> AsyncIterator[Viewed]:
        """The view now, if there is one, and whenever it changes."""
        ...

    async def remove(self, key: str) -> None:
        """Forget the view, if there is one. Who watches it hears nothing more."""
        ...


@dataclass(frozen=True, slots=True)
class Letter:
    """A fact with which its reader could do nothing: why, what was answered last if anything was, how often it was tried, and when."""

    record: Recorded
    reason: str
    status: int | None
    attempts: int
    at: datetime


class Letters(Protocol):
    """What readers of the log could do nothing with, kept until somebody looks."""

    async def bury(self, reader: str, letter: Letter) -> None:
        """Keep a dead letter, in place of an older one of the same fact. Raises BusFull when there is no room."""
        ...

    def of(self, reader: str) -> AsyncIterator[Letter]:
        """The dead letters of that name that are there now."""
        ...

    async def settle(self, reader: str, sequence: int) -> None:
        """Forget the dead letter of the fact at that place on the log, if there is one."""
        ...


class Bus(Protocol):
    """All ports together: what a service's `main` is given."""

    @property
    def log(self) -> Log:
        """The facts."""
        ...

    @property
    def subscriptions(self) -> Subscriptions:
        """Readers of facts whose place is remembered."""
        ...

    @property
    def timers(self) -> Timers:
        """Facts for later."""
        ...

    @property
    def work(self) -> Work:
        """Tasks."""
        ...

    @property
    def bulk(self) -> Bulk:
        """Bytes."""
        ...

    @property
    def views(self) -> Views:
        """What people look at."""
        ...

    @property
    def letters(self) -> Letters:
        """Dead letters."""
        ...

    def is_connected(self) -> bool:
        """Whether the server can be heard. For one that cannot, ports wait and say nothing; whoever shows something says so."""
        ...
