"""The one loop: every service is this loop around a pure core.

    tail the log -> evolve the state -> decide -> carry out what was decided -> the outcome is a fact in the log -> ...

A core is two functions. `evolve(state, record)` says what a fact means; `decide(state, now)` says what should be done about the state.
It says all of it every time, so nothing has to remember what was decided before.
The loop only spares the bus the repetitions: an action that was carried out is not carried out again while it is still decided.
What is decided no more is not remembered either, so a run whose id is used again is no run that is done already.
Replicas need no coordination. Two that decide the same state the same fact, and the log keeps one of them.

Rules that keep this file honest:
1. The state is the core's; the loop never looks into it.
2. Nothing is decided before the log has been read to its end, so that a fresh replica does not act on history.
3. What fails because of the bus is tried again at the next turn.
   A fact that can never be stated is an error in the log of this process: it concerns one run, and the others go on.
   What fails for any other reason ends the service, and its supervisor starts a fresh one that reads the log again.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, Protocol, TypeVar

import structlog

from fedplane.runtime.errors import BusError, Corrupt
from fedplane.runtime.metrics import LOG_LAG
from fedplane.runtime.ports import Batch, Fence, Log, Recorded, Stated, Timers, Work
from fedplane.runtime.spans import traceparent_of
from fedplane.runtime.telemetry import observed
from fedplane.schemas.envelope import Unreadable
from fedplane.schemas.facts import Fact

__all__ = ["Action", "Core", "Offer", "Perform", "Remind", "Replica", "State"]

S = TypeVar("S")

STATED_AT_ONCE_MAX = 64
"""How many facts may be on their way to the log at a time: enough to hide the round trip, few enough not to crowd out other clients."""

TURNS_MAX = 16
"""How many batches may wait for a decision; readers wait when deciding is slower than reading."""

RETRY_SECONDS = 1.0
"""How long to wait before deciding again when the bus failed: the server needs about that to restart."""


@dataclass(frozen=True, slots=True)
class State:
    """State this fact, if the fence allows it."""

    fact: Fact
    fence: Fence | None = None


@dataclass(frozen=True, slots=True)
class Remind:
    """Let the bus state this fact at that time."""

    fact: Fact
    when: datetime


@dataclass(frozen=True, slots=True)
class Offer:
    """Put up a task for whoever is free. `subject` names it."""

    subject: str


@dataclass(frozen=True, slots=True)
class Perform:
    """Have the shell do something; its outcome is a fact again. `key` tells one effect from another."""

    key: Hashable
    effect: object


Action = State | Remind | Offer | Perform


class Core(Protocol[S]):
    """A service's pure part."""

    @property
    def patterns(self) -> tuple[tuple[str, ...], ...]:
        """What it reads: one tuple of patterns per stream."""
        ...

    @property
    def tick_seconds(self) -> float | None:
        """How often time alone may change a decision; None if it never does."""
        ...

    def initial(self) -> S:
        """The state before the first fact."""
        ...

    def evolve(self, state: S, record: Recorded) -> S:
        """What the fact means. Total: a fact that comes late or makes no sense leaves the state as it is."""
        ...

    def decide(self, state: S, now: datetime) -> Sequence[Action]:
        """Everything that should be done about the state at that time."""
        ...


class Replica(Generic[S]):
    """One process's copy of a service."""

    def __init__(
        self,
        core: Core[S],
        log: Log,
        *,
        timers: Timers | None = None,
        work: Work | None = None,
        perform: Callable[[object], Awaitable[None]] | None = None,
        stated: Callable[[Stated], None] = lambda outcome: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.core = core
        self.log = log
        self.timers = timers
        self.work = work
        self.perform = perform
        self.stated = stated
        self.clock = clock
        self.state = core.initial()
        self.live = asyncio.Event()
        self.changed = asyncio.Condition()
        self._behind = len(core.patterns)
        self._carried_out: set[Hashable] = set()
        self._effects: dict[asyncio.Task[None], Hashable] = {}
        self._turns: asyncio.Queue[Batch] = asyncio.Queue(TURNS_MAX)
        self._unread = [0] * len(core.patterns)
        self._unfolded = 0
        self._logger = structlog.get_logger(core=type(core).__name__)

    async def run(self) -> None:
        """Read, decide and act until cancelled."""
        about = {"fedplane.core": type(self.core).__name__.lower()}
        with observed(LOG_LAG, lambda: ((self.lag, about),)):
            await self._run()

    @property
    def lag(self) -> int:
        """How many facts are stored and not folded yet, as far as the server has said."""
        return sum(self._unread) + self._unfolded

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for number, patterns in enumerate(self.core.patterns):
                tasks.create_task(self._read(number, self.log.tail(patterns)))
            try:
                await self._decide_for_ever()
            finally:
                for effect in self._effects:
                    effect.cancel()

    async def _read(self, number: int, batches: AsyncIterator[Batch]) -> None:
        live = False
        async for batch in batches:
            self._unread[number] = batch.pending
            self._unfolded += len(batch.records)
            live, was_live = live or batch.live, live
            await self._turns.put(Batch(batch.records, live and not was_live))

    async def _decide_for_ever(self) -> None:
        failed = False
        while True:
            try:
                async with asyncio.timeout(RETRY_SECONDS if failed else self.core.tick_seconds):
                    batch = await self._turns.get()
                await self._absorb(batch)
                while not self._turns.empty():
                    await self._absorb(self._turns.get_nowait())
            except TimeoutError:
                pass  # time has passed: that alone may change what is to be done
            self._raise_failed_effects()
            if self._behind == 0:
                failed = not await self._carry_out(self.core.decide(self.state, self.clock()))
                self.live.set()

    async def _absorb(self, batch: Batch) -> None:
        for record in batch.records:
            self.state = self.core.evolve(self.state, record)
        self._unfolded -= len(batch.records)
        if batch.live:
            self._behind -= 1
        async with self.changed:
            self.changed.notify_all()

    async def _carry_out(self, actions: Sequence[Action]) -> bool:
        """Whether everything that was to be done is done or under way."""
        keyed = [(_key(action), action) for action in actions]
        self._carried_out &= {*(key for key, _ in keyed), *self._effects.values()}  # an effect under way is not begun a second time
        fresh = [(key, action) for key, action in keyed if key not in self._carried_out]
        succeeded = True
        for begin in range(0, len(fresh), STATED_AT_ONCE_MAX):
            some = fresh[begin : begin + STATED_AT_ONCE_MAX]
            outcomes = await asyncio.gather(*(self._act(action) for _, action in some), return_exceptions=True)
            for (key, _), outcome in zip(some, outcomes, strict=True):
                if outcome is None:
                    self._carried_out.add(key)
                elif isinstance(outcome, Unreadable | Corrupt):
                    self._logger.error("can never be carried out", action=str(key), error=str(outcome))
                    self._carried_out.add(key)
                elif isinstance(outcome, BusError):
                    self._logger.warning("not carried out, will try again", action=str(key), error=str(outcome))
                    succeeded = False
                else:
                    raise outcome
        return succeeded

    async def _act(self, action: Action) -> None:
        match action:
            case State(fact, fence):
                outcome = await self.log.state(fact, fence=fence, traceparent=traceparent_of(fact))
                if outcome.mine:
                    self._logger.info("stated", subject=fact.subject)
                self.stated(outcome)
            case Remind(fact, when):
                assert self.timers is not None, f"{type(self.core).__name__} sets timers, but none were given to its replica"
                await self.timers.remind(fact, when, traceparent_of(fact))
            case Offer(subject):
                assert self.work is not None, f"{type(self.core).__name__} offers work, but no queue was given to its replica"
                await self.work.offer(subject)
            case Perform(key, effect):
                assert self.perform is not None, f"{type(self.core).__name__} has effects, but its replica cannot perform any"
                task = asyncio.create_task(self._perform(effect), name=str(key))
                self._effects[task] = _key(action)
                task.add_done_callback(self.wake)

    async def _perform(self, effect: object) -> None:
        assert self.perform is not None
        await self.perform(effect)

    def wake(self, *_: object) -> None:
        """An effect is over, or what the core knows beside the log has changed: decide now. If turns are waiting, that happens anyway."""
        if not self._turns.full():
            self._turns.put_nowait(Batch((), live=False))

    def _raise_failed_effects(self) -> None:
        for task in [task for task in self._effects if task.done()]:
            del self._effects[task]
            task.result()


def _key(action: Action) -> Hashable:
    match action:
        case State(fact, fence):
            return ("state", fact.subject, fence)
        case Remind(fact, _):
            return ("remind", fact.subject)
        case Offer(subject):
            return ("offer", subject)
        case Perform(key, _):
            return ("perform", key)
