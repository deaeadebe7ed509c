"""Saying that the bus is away, and that it is back, while a command listens to it.

A connection heals itself, however long that takes, and says nothing meanwhile.
Without a word a person sees something that stands still, and cannot tell a long round from a federation that is gone.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import typer

from fedplane.runtime.ports import Bus

__all__ = ["AWAY", "BACK", "told_of_absence"]

LOOK_SECONDS = 0.5
"""How often it is looked. A server that its keeper starts again is back sooner, as a rule, and then nothing need be said."""

AWAY = "the bus is away; this goes on when it is back, and Ctrl-C ends it"
BACK = "the bus is back"


@asynccontextmanager
async def told_of_absence(bus: Bus) -> AsyncIterator[None]:
    """Say on standard error, as long as the block lasts, when the bus goes away and when it comes back."""
    telling = asyncio.create_task(_tell(bus))
    try:
        yield
    finally:
        telling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await telling


async def _tell(bus: Bus) -> None:
    away = False
    while True:
        if bus.is_connected() is away:
            typer.echo(BACK if away else AWAY, err=True)
            away = not away
        await asyncio.sleep(LOOK_SECONDS)
