"""Following a run until it ends: one picture that changes on a terminal, a line for each change elsewhere."""

from datetime import UTC, datetime

import typer
from rich.console import RenderableType
from rich.live import Live

from fedplane.cli import display, lines, runs
from fedplane.runtime.ports import Bus
from fedplane.schemas.views import RunView

__all__ = ["watch"]

REFRESH_PER_SECOND = 4
"""How often a picture is drawn anew though nothing happened: its clocks go on."""


class _Picture:
    """A view as it looks at the time when it is drawn."""

    def __init__(self, view: RunView) -> None:
        self._view = view

    def __rich__(self) -> RenderableType:
        return display.progress(self._view, _now())


async def watch(bus: Bus, run: str, *, transient: bool = False) -> RunView:
    """Show the run until it ends: its last view. A transient picture is removed at the end."""
    if display.console().is_terminal:
        return await _watch_picture(bus, run, transient)
    return await _watch_lines(bus, run)


async def _watch_picture(bus: Bus, run: str, transient: bool) -> RunView:
    with Live(console=display.console(), refresh_per_second=REFRESH_PER_SECOND, transient=transient) as picture:
        async for view in runs.follow(bus, run):
            picture.update(_Picture(view), refresh=True)
    return view


async def _watch_lines(bus: Bus, run: str) -> RunView:
    before = None
    async for view in runs.follow(bus, run):
        for line in lines.progress_lines(before, view, _now()):
            typer.echo(line)
        before = view
    return view


def _now() -> datetime:
    return datetime.now(UTC)
