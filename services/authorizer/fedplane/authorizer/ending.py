"""Having connections ended whose rights are of another time, one look after another.

Each replica looks when it has heard of a change itself, so whichever of them answers servers, the last one to hear has the last word.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime

import structlog

from fedplane.authorizer.crowds import Crowd
from fedplane.authorizer.following import is_overtaken, room_of
from fedplane.authorizer.standing import Known
from fedplane.runtime.errors import BusError

__all__ = ["Ending"]

End = Callable[[Callable[[str], bool]], Awaitable[int]]
"""Ends the connections of users of whose names this is true, and says how many."""


class Ending:
    """Looks at connections. Several looks that are due at once are one."""

    def __init__(self, end: End, known: Callable[[], Known], crowd: Crowd, clock: Callable[[], datetime]) -> None:
        self._end, self._known, self._crowd, self._clock = end, known, crowd, clock
        self._looking = asyncio.Lock()
        self._is_due = False

    async def look(self) -> None:
        """End what is overtaken by what is known now. If that fails, it is done at the next look."""
        if self._is_due:
            return  # whoever waits for its turn will see what we have seen
        self._is_due = True
        async with self._looking:
            self._is_due = False
            known, now, logger = self._known(), self._clock(), structlog.get_logger()
            remaining: Counter[str] = Counter()

            def is_over(user: str) -> bool:
                if is_overtaken(user, known, now):
                    return True
                client, most = room_of(user, known, now)
                remaining[client] += 1
                return most is not None and remaining[client] > most

            try:
                ended = await self._end(is_over)
            except BusError as error:
                logger.warning("connections may keep rights that have changed until the next look", why=str(error))
                return
        self._crowd.saw(remaining)
        if ended:
            logger.info("had connections made anew, since rights have changed", connections=ended)
