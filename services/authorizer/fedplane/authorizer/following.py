"""Keeping rights to what the log says: a server does not change those of a connection that exists, so it is ended, and made anew.

Each replica ends connections when it has heard of a change itself, so whichever of them answers, the last one to hear has the last word.
What changed while no replica was there counts when a connection is made again, at the latest when its grant has expired.
"""

from collections.abc import Awaitable, Callable

import structlog

from fedplane.authorizer.grants import Role
from fedplane.authorizer.participants import PATTERNS, Participants, changed, evolve
from fedplane.runtime.errors import BusError
from fedplane.runtime.ports import Log

__all__ = ["Following"]


class Following:
    """The participants of all live runs, as one replica knows them. `end` ends the connections of users with these names."""

    def __init__(self, log: Log, end: Callable[[frozenset[str]], Awaitable[int]]) -> None:
        self.participants: Participants = {}
        self.live = False
        self._log, self._end = log, end

    async def run(self) -> None:
        """Read the log and end what it has overtaken, until cancelled."""
        async for batch in self._log.tail(PATTERNS):
            before = self.participants
            for record in batch.records:
                self.participants = evolve(self.participants, record)
            if self.live:
                await self._followed(changed(before, self.participants))
            self.live = self.live or batch.live

    async def _followed(self, clusters: frozenset[str]) -> None:
        if not clusters:
            return
        logger = structlog.get_logger()
        try:
            ended = await self._end(frozenset(f"{Role.COLLABORATOR}:{cluster}" for cluster in clusters))
        except BusError as error:
            logger.warning("connections keep their rights until their grants expire", clusters=sorted(clusters), why=str(error))
        else:
            logger.info("had connections made anew, since rights have changed", clusters=sorted(clusters), connections=ended)
