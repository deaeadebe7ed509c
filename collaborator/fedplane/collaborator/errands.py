"""One question under way: until when it may be, and in which round its answer is wanted now.

Work takes as long as it takes, and rounds open and close meanwhile.
So an errand outlives the round that asked for it if a later one may carry it, and is told of each round that wants its answer.
A masked round has steps besides, in which the hub says something and we answer; an errand hands on what was said to whoever waits for it.
What the work is and how an answer is sent is not its business.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import TypeVar

from fedplane.collaborator.tasks import Step
from fedplane.collaborator.work import last_moment
from fedplane.schemas.facts import Invited, RoundFact

__all__ = ["GRACE_SECONDS", "STEP_GRACE_SECONDS", "Errand"]

S = TypeVar("S", bound=Step)

GRACE_SECONDS = 10.0
"""How long after its deadline a round may keep us: the app is stopped at the deadline, and why it was not done is still to be said.
Stopping takes a few seconds at most.
"""

STEP_GRACE_SECONDS = 300.0
"""How long after the time of a masked round's step what comes of it is waited for. Services that are down then say it when they are back,
and whoever has stopped waiting has lost its secrets. Waiting takes a file on disk; a round that is over ends it at once.
"""


class Errand:
    """The work on one question, in whose scope everything for it is done.

    `given_up` is whether no answer is of use any more. Something that is being stated at that moment is stated to the end:
    the log's fence says whether it counts.
    """

    def __init__(self, question: Invited, scope: asyncio.Timeout, clock: Callable[[], datetime]) -> None:
        self.question = question
        self.given_up = False
        self._scope = scope
        self._clock = clock
        self._wanted: tuple[Invited, str | None] | None = None
        self._is_wanted = asyncio.Event()
        self._sending: asyncio.Timeout | None = None
        self._is_stating = False
        self._end = last_moment(question)
        self._heard = dict[type[RoundFact], Step]()
        self._has_heard = asyncio.Event()

    def want(self, invited: Invited, traceparent: str | None) -> None:
        """A round wants the answer; `traceparent` is the trace in which it asked."""
        self._wanted = (invited, traceparent)
        self._is_wanted.set()
        self._settle_end()

    def unwant(self, before: int) -> None:
        """Rounds before this one want no answer any more."""
        if self._wanted is not None and self._wanted[0].round < before:
            self._wanted = None
            self._is_wanted.clear()
            self._settle_end()
            if self._sending is not None and not self._sending.expired():
                self._sending.reschedule(_loop_now())

    def hear(self, step: Step) -> None:
        """A step of the masked round is done; the first word of each kind counts."""
        self._heard.setdefault(type(step), step)
        self._has_heard.set()

    async def heard(self, kind: type[S]) -> S:
        """What the hub says when a step is done. Waiting ends with the errand."""
        while not isinstance(step := self._heard.get(kind), kind):
            self._has_heard.clear()
            await self._has_heard.wait()
        return step

    def lasts(self, until: datetime) -> None:
        """A step of the masked round has time until then, and the errand a while longer."""
        self._end = until + timedelta(seconds=STEP_GRACE_SECONDS)
        self._settle_end()

    def give_up(self) -> None:
        """End all of it."""
        self.given_up = True
        if not self._is_stating and not self._scope.expired():
            self._scope.reschedule(_loop_now())

    async def wanted(self) -> tuple[Invited, str | None]:
        """The invitation to be answered, and its trace, as soon as there is one."""
        while self._wanted is None:  # once more, if it was wanted for a moment only
            await self._is_wanted.wait()
        return self._wanted

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[asyncio.Timeout]:
        """What is done in the block is of use only to the round that wants the answer now. Raises TimeoutError when that is over."""
        try:
            async with asyncio.timeout(None) as self._sending:
                yield self._sending
        finally:
            self._sending = None

    @asynccontextmanager
    async def stating(self) -> AsyncIterator[None]:
        """What is done in the block is not to be given up."""
        self._is_stating = True
        try:
            yield
        finally:
            self._is_stating = False

    def _settle_end(self) -> None:
        end = self._end
        if self._wanted is not None:
            end = max(end, self._wanted[0].deadline)
        if not self.given_up and not self._scope.expired():
            left = end + timedelta(seconds=GRACE_SECONDS) - self._clock()
            self._scope.reschedule(_loop_now() + left.total_seconds())


def _loop_now() -> float:
    return asyncio.get_running_loop().time()
