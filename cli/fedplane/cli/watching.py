"""Following a run until it ends: one picture that changes on a terminal, a line for each change elsewhere, a document for programs.

A picture is drawn a few times a second, not for each change: of a thousand clusters that answer at once, each would be one.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

import typer
import yaml
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from fedplane.cli import display, lines, runs
from fedplane.cli.absence import AWAY, told_of_absence
from fedplane.cli.output import Output
from fedplane.cli.picture import progress
from fedplane.runtime.ports import Bus
from fedplane.schemas.views import RunView

__all__ = ["Picture", "watch"]

REFRESH_PER_SECOND = 4
"""How often a picture is drawn anew, whether anything happened or not: its clocks go on."""


class Picture:
    """The last view as it looks at the time when it is drawn, and whether it is still the last: a bus that is away tells of none."""

    def __init__(self, bus: Bus, wide: bool) -> None:
        self.view: RunView | None = None
        self._bus, self._wide = bus, wide

    def __rich__(self) -> RenderableType:
        away = [] if self._bus.is_connected() else [Text(AWAY, "bold red")]  # above the rest: a low terminal shows what is above
        return Group(*away, *([] if self.view is None else [progress(self.view, _now(), wide=self._wide)]))


async def watch(bus: Bus, run: str, *, transient: bool = False, output: Output = Output.TABLE) -> RunView:
    """Show the run until it ends: its last view. A transient picture is removed at the end."""
    screen = display.console()
    if output.is_for_people and screen.is_terminal and not screen.is_dumb_terminal:  # a dumb one cannot draw over what it has drawn
        return await _watch_picture(bus, run, transient, output is Output.WIDE)
    before = None
    async with told_of_absence(bus):
        async for view in runs.follow(bus, run):
            for said in _said(before, view, output):
                typer.echo(said)
            before = view
    return view


async def _watch_picture(bus: Bus, run: str, transient: bool, wide: bool) -> RunView:
    picture = Picture(bus, wide)
    with Live(picture, console=display.console(), refresh_per_second=REFRESH_PER_SECOND, transient=transient):
        async for view in runs.follow(bus, run):
            picture.view = view
    return view


def _said(before: RunView | None, view: RunView, output: Output) -> Iterator[str]:
    if output is Output.JSON:
        yield view.model_dump_json()
    elif output is Output.YAML:
        yield yaml.safe_dump(view.model_dump(mode="json"), sort_keys=False, allow_unicode=True, explicit_start=True).rstrip("\n")
    else:
        yield from lines.progress_lines(before, view, _now())


def _now() -> datetime:
    return datetime.now(UTC)
