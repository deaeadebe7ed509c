"""Saying what this cluster offers, again and again, so that the scheduler knows it and knows that it is still there.

Only the last advertisement counts, and it counts for its lease.
So a cluster that stops saying so leaves the fleet by itself, and nothing has to be said at the end.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from fedplane.runtime.errors import BadInput, BusError
from fedplane.runtime.ports import Log
from fedplane.schemas.envelope import Unreadable
from fedplane.schemas.facts import Advertised

__all__ = ["STATEMENTS_PER_LEASE", "advertise"]

STATEMENTS_PER_LEASE = 3
"""Two in a row may be lost, to a bus that restarts, say, and the cluster does not leave the fleet for it."""


async def advertise(log: Log, offered: Advertised, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
    """State what is offered, each time as of now, for ever. Raises BadInput if it is more than an advertisement may have."""
    while True:
        try:
            await log.state(offered.model_copy(update={"at": clock()}))
        except BusError as error:
            structlog.get_logger().warning("not advertised, will try again", why=str(error))
        except Unreadable as error:
            raise BadInput(f"this cluster cannot be advertised with these claims and labels: {error}") from error
        await asyncio.sleep(offered.lease_seconds / STATEMENTS_PER_LEASE)
