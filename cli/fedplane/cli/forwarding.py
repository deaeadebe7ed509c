"""Forwarding facts to a webhook: at least once, each run's in the order of the log, from where this forwarder left when it last ran.

A run's facts go one after the other, and the next one waits until the one before is delivered or dead; several runs go side by side.
The bus remembers what is not settled. Whoever is killed gets it again, in the log's order and before anything that is newer.
What was delivered in the last moment is then sent a second time, with the same event id, by which a receiver knows it.
What to do after an answer is decided in `verdicts`; what is sent, and how, is the business of `posting`.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import structlog

from fedplane.cli.verdicts import GONE, Again, Answered, Dead, Delivered, Outcome, Patience, Verdict, judge
from fedplane.runtime.errors import BadInput, BusError, FedplaneError
from fedplane.runtime.ports import Begin, Bus, Handed, Letter, Recorded, Subscription

__all__ = ["AT_ONCE", "OWNER", "Post", "Told", "forward", "send_again"]

AT_ONCE = 4
"""How many facts are on their way at a time: enough to hide a receiver's own waits, few enough not to be an attack on it."""

OWNER = "fedplane-forward"
"""Whose the forwarders' durable subscriptions are, so that nobody prints under a forwarder's name by accident, and takes its facts."""

OPEN_MAX = 256
"""How many facts may be read and not settled. Reading waits then, so a receiver that is away costs half a megabyte and no more."""

RETRY_SECONDS = 1.0
"""How long to wait before the bus is asked again when it failed: the server needs about that to restart."""

PATIENCE = Patience()

Post = Callable[[Recorded], Awaitable[Outcome]]
"""Sends a fact once."""

Told = Callable[[Recorded, Verdict, int], None]
"""Hears of every attempt: the fact, what comes of it, and which attempt it was."""


async def forward(
    bus: Bus, name: str, patterns: Sequence[str], post: Post, told: Told, *,
    begin: Begin | None = None, once: bool = False, patience: Patience = PATIENCE, at_once: int = AT_ONCE,
) -> None:  # fmt: skip
    """Forward what is on the log under these patterns as the reader of that name. One that is new begins there, or with what comes next.

    It ends by BadInput when the receiver is gone; with `once`, when everything that is there is settled.
    """
    await bus.subscriptions.make(Subscription(name, tuple(patterns), OWNER, begin))
    forwarder = _Forwarder(bus, name, post, told, patience, at_once)
    try:
        async with asyncio.TaskGroup() as lanes:
            await forwarder.read(lanes, once)
    except* (FedplaneError, OSError) as group:  # OSError: nobody reads any more what is told
        raise _first(group) from group


async def send_again(bus: Bus, name: str, post: Post, told: Told, patience: Patience) -> tuple[int, int]:
    """Send the dead letters of that name once more, in the log's order: how many were delivered, and how many stay dead.

    It ends by BadInput when the receiver is gone.
    """
    letters = [letter async for letter in bus.letters.of(name)]
    delivered = 0
    for letter in sorted(letters, key=lambda each: each.record.sequence):
        dead = await _settled(letter.record, post, told, patience, _Gate())
        if dead is None:
            await bus.letters.settle(name, letter.record.sequence)
            delivered += 1
        else:
            await bus.letters.bury(name, replace(dead, attempts=letter.attempts + dead.attempts))
            _check_gone(dead)
    return delivered, len(letters) - delivered


class _Gate:
    """Lets a number of attempts through at a time, and none before the receiver wants any."""

    def __init__(self, at_once: int = 1) -> None:
        self.not_before = datetime.min.replace(tzinfo=UTC)
        self._free = asyncio.Semaphore(at_once)

    async def pass_one(self, post: Post, record: Recorded) -> Outcome:
        async with self._free:
            while (wait := (self.not_before - datetime.now(UTC)).total_seconds()) > 0:
                await asyncio.sleep(wait)
            return await post(record)


@dataclass(frozen=True, slots=True)
class _Open:
    """A fact that was read and is not settled."""

    record: Recorded
    handed: Handed


class _Forwarder:
    """A queue for each run that has facts which are not settled, and a task that empties it: a lane."""

    def __init__(self, bus: Bus, name: str, post: Post, told: Told, patience: Patience, at_once: int) -> None:
        self._bus = bus
        self._name = name
        self._post, self._told, self._patience = post, told, patience
        self._gate = _Gate(at_once)
        self._room = asyncio.Semaphore(OPEN_MAX)
        self._queues: dict[str, deque[_Open]] = {}
        self._lanes: set[asyncio.Task[None]] = set()
        self._open: set[int] = set()

    async def read(self, lanes: asyncio.TaskGroup, once: bool) -> None:
        """Queue what comes, for ever; with `once`, what is there, until it is settled."""
        async with aclosing(self._bus.subscriptions.read(self._name)) as handed_over:
            async for handed in handed_over:
                record = handed.record
                if record is not None and record.sequence not in self._open:  # what waits for long is handed over again
                    await self._room.acquire()
                    self._queue(_Open(record, handed), lanes)
                if once and handed.live:
                    await asyncio.gather(*self._lanes)  # whoever leaves before has the bus hand it to the next one
                    return

    def _queue(self, item: _Open, lanes: asyncio.TaskGroup) -> None:
        run = str(getattr(item.record.fact, "run", ""))
        self._open.add(item.record.sequence)
        if run in self._queues:
            self._queues[run].append(item)
        else:
            self._queues[run] = deque([item])
            lane = lanes.create_task(self._empty(run))
            self._lanes.add(lane)
            lane.add_done_callback(self._lanes.discard)

    async def _empty(self, run: str) -> None:
        queue = self._queues[run]
        while queue:
            await self._settle(queue[0])
            self._open.discard(queue.popleft().record.sequence)
            self._room.release()
        del self._queues[run]

    async def _settle(self, item: _Open) -> None:
        letter = await _settled(item.record, self._post, self._told, self._patience, self._gate)
        if letter is not None:
            await self._bury(letter)
        try:
            await item.handed.done()
        except BusError as error:  # then it is handed over again, and done with by that
            structlog.get_logger().info("what is settled is not acknowledged yet", subject=item.record.fact.subject, why=str(error))
        _check_gone(letter)

    async def _bury(self, letter: Letter) -> None:
        while True:
            try:
                return await self._bus.letters.bury(self._name, letter)
            except BusError as error:
                structlog.get_logger().warning("a dead letter is not kept yet", subject=letter.record.fact.subject, why=str(error))
                await asyncio.sleep(RETRY_SECONDS)


async def _settled(record: Recorded, post: Post, told: Told, patience: Patience, gate: _Gate) -> Letter | None:
    """Send the fact until it is delivered (None) or dead."""
    attempts = 0
    while True:
        outcome = await gate.pass_one(post, record)
        attempts += 1
        now = datetime.now(UTC)
        verdict = judge(outcome, attempts, now, random.random(), patience)
        told(record, verdict, attempts)
        match verdict:
            case Delivered():
                return None
            case Dead():
                status = outcome.status if isinstance(outcome, Answered) else None
                return Letter(record, verdict.reason, status, attempts, now)
            case Again():
                if verdict.for_all:
                    gate.not_before = max(gate.not_before, verdict.at)
                await asyncio.sleep((verdict.at - now).total_seconds())


def _check_gone(letter: Letter | None) -> None:
    """Raises BadInput when nothing more should be sent."""
    if letter is not None and letter.status == GONE:
        raise BadInput(f"the receiver is gone for good ({letter.reason}); forward to another address, or not at all")


def _first(group: BaseExceptionGroup[FedplaneError | OSError]) -> FedplaneError | OSError:
    """One of the errors that ended the lanes; it stands for all."""
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
