"""Making readers of the log for collaborators, which may make none: a consumer each, with the filters of their grant.

Whoever asks is who the subject says, since nobody else may ask there. A reader is made anew each time, so it begins at the beginning.
What was made is remembered, since the replica that made it may have been behind: if its filters are not those of now, it is removed, and
its reader asks again. Others follow from rights that have changed, for which the connection is made anew.

A server forwards questions as fast as they are asked, and whoever answers them also answers who may connect.
So a question that is repeated too often has no answer, and a cluster that asks and asks is thrown out, before nobody else is heard.
"""

import json
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Protocol

import structlog

from fedplane.authorizer import grants
from fedplane.authorizer.grants import Listening
from fedplane.authorizer.identity import Identity, Refused
from fedplane.authorizer.standing import Known, judge
from fedplane.runtime.errors import BusError
from fedplane.schemas.roles import Role
from fedplane.schemas.subjects import parse_listen

__all__ = ["ANSWERED_MAX", "ASKED_MAX", "SPAN_SECONDS", "Listeners", "Readers"]

SPAN_SECONDS = 10
"""The spans of time in which questions are counted, by the clock."""

ANSWERED_MAX = 20
"""How often a reader is made anew in one of them: as often as two processes ask that take it from each other, and wait ever longer."""

ASKED_MAX = 5_000
"""How many questions of one cluster are no mistake any more. One with a hundred runs whose server restarts asks some hundred."""


class Readers(Protocol):
    """Consumers of a stream that are made for others."""

    async def make(self, stream: str, name: str, filters: tuple[str, ...], reader: str) -> None:
        """Make a reader anew."""
        ...

    async def remove(self, stream: str, name: str, unless: tuple[str, ...]) -> bool:
        """Remove it unless it has these filters."""
        ...


class Listeners:
    """One replica's answers to collaborators that ask for a reader. `known` is None until the log was read."""

    def __init__(
        self,
        readers: Readers,
        known: Callable[[], Known | None],
        throw_out: Callable[[str, str], Awaitable[None]],
        clock: Callable[[], datetime],
    ) -> None:
        """`throw_out` is told of a cluster, and why."""
        self._readers, self._known, self._throw_out, self._clock = readers, known, throw_out, clock
        self._made: dict[tuple[str, str], Listening] = {}
        self._span, self._asked = 0, Counter[str]()

    async def answer(self, subject: str) -> bytes | None:
        """The reader's stream and name, as JSON; no name if there is nothing to read; an error; or None, no answer at all."""
        _, cluster, run = parse_listen(subject)  # of a collaborator: those are all who ask here
        if await self._is_too_often(subject, cluster):
            return None
        known = self._known()
        if known is None:
            return _json(error="the log was not read yet; ask again")
        wanted = self._wanted(cluster, run, known)
        if isinstance(wanted, Refused):
            return _json(error=wanted.reason)
        if wanted is None:
            return _json(stream=grants.LISTENED, consumer="")
        try:
            await self._readers.make(wanted.stream, wanted.consumer, wanted.filters, f"{Role.COLLABORATOR} {cluster}")
        except BusError as error:
            structlog.get_logger().warning("could not make a reader", cluster=cluster, why=str(error))
            return _json(error=str(error))
        self._made[cluster, run] = wanted
        return _json(stream=wanted.stream, consumer=wanted.consumer)

    async def _is_too_often(self, subject: str, cluster: str) -> bool:
        """Count the question, which takes microseconds and has to: whatever else is done for it, a flood has done as often."""
        if (span := int(self._clock().timestamp()) // SPAN_SECONDS) != self._span:
            self._span, self._asked = span, Counter()
        self._asked[subject] += 1
        self._asked[cluster] += 1
        if self._asked[cluster] == ASKED_MAX:
            try:
                await self._throw_out(cluster, f"it asked {ASKED_MAX:,} times for a reader in {SPAN_SECONDS} s")
            except BusError as error:
                structlog.get_logger().warning("could not throw a cluster out", cluster=cluster, why=str(error))
        return self._asked[subject] > ANSWERED_MAX

    async def look(self) -> None:
        """Remove the readers that we made with other filters than they would have now. If that fails, it is done at the next look."""
        known = self._known()
        if known is None:
            return  # then we have made none
        for (cluster, run), made in list(self._made.items()):
            wanted = self._wanted(cluster, run, known)
            if wanted == made:
                continue
            try:
                filters = wanted.filters if isinstance(wanted, Listening) else ()
                await self._readers.remove(made.stream, made.consumer, filters)
            except BusError as error:
                structlog.get_logger().warning("a reader may have rights that have changed until the next look", why=str(error))
                return
            if self._made.get((cluster, run)) is made:
                del self._made[cluster, run]

    def _wanted(self, cluster: str, run: str, known: Known) -> Listening | Refused | None:
        standing = judge(Identity(Role.COLLABORATOR, cluster), known, self._clock())
        return standing if isinstance(standing, Refused) else grants.listening(cluster, standing.runs, run)


def _json(**said: str) -> bytes:
    return json.dumps(said).encode()
