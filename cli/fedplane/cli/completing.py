"""Which word a shell could complete: the ids and names of runs, which only a bus knows.

A person who pressed the tab key waits, and an error would land in the midst of the line.
So it takes half a second at most, and whatever goes wrong, nothing is completed and nothing is said.
"""

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer

from fedplane.cli import runs
from fedplane.cli.connection import Server, Where
from fedplane.runtime.errors import FedplaneError
from fedplane.runtime.nats import Patience, open_bus
from fedplane.schemas.views import RunView

__all__ = ["AnyRun", "RunName", "beginning"]

COMPLETION_SECONDS = 0.5
"""The tab key should feel like a key. A bus that is near answers in a tenth of it."""

WORDS_MAX = 50
"""More would scroll the line away."""

MEANING = "A run's id, the beginning of it, or the name of its resource (then the latest run of it)."


def _complete(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    try:
        told = {option: given for option in ("url", "state", "credentials", "insecure") if (given := context.params.get(option))}
        return beginning(incomplete, asyncio.run(_views(Where(**told).server)))
    except (FedplaneError, TimeoutError):
        return []  # nothing can be completed, and a sentence would be in the way


async def _views(server: Server) -> list[RunView]:
    patience = Patience(connect_seconds=COMPLETION_SECONDS)
    async with (
        asyncio.timeout(COMPLETION_SECONDS),
        open_bus(server.url, name="fedplane", source="/fedplane/cli", patience=patience, credentials=server.credentials) as bus,
    ):
        return await runs.every(bus)


def beginning(incomplete: str, views: Sequence[RunView]) -> list[tuple[str, str]]:
    """The runs that the word may become, the latest first, each with what a person knows it by."""
    latest_first = sorted(views, key=lambda view: (view.submitted_at, view.run), reverse=True)
    return [
        (view.run, f"{view.phase.value}, {view.training_rounds_done} of {view.training_rounds} training rounds")
        for view in latest_first
        if view.run.startswith(incomplete)
    ][:WORDS_MAX]


RunName = Annotated[str, typer.Argument(metavar="RUN", help=MEANING, autocompletion=_complete)]
AnyRun = Annotated[
    str | None, typer.Argument(metavar="RUN", help="One run, named as for watch; all of them if not given.", autocompletion=_complete)
]
