"""The status service: `python -m fedplane.status.main`. A second one does no harm, and its views are the same."""

import asyncio
from collections.abc import Awaitable, Callable

from fedplane.runtime.hub import open_hub
from fedplane.runtime.metrics import ACTIVE_RUNS, RUN_METRIC
from fedplane.runtime.objects import Objects
from fedplane.runtime.ports import Bus
from fedplane.runtime.replica import Replica
from fedplane.runtime.service import serve
from fedplane.runtime.settings import read
from fedplane.runtime.telemetry import observed
from fedplane.status.archiving import Archiving
from fedplane.status.kube import Applying
from fedplane.status.page.serving import serve_page
from fedplane.status.phases import Phases
from fedplane.status.retention import Retention
from fedplane.status.settings import StatusSettings
from fedplane.status.showing import Showing
from fedplane.status.telling import active_runs, run_metrics

__all__ = ["main", "show"]


async def show(bus: Bus, settings: StatusSettings, hub: Objects | None = None) -> None:
    """Keep the view of every run up to date, and log and store free of those that ended long ago, until cancelled.

    On a hub, the object that asked for a run shows the same view, and so does the page if it has a port.
    """
    ways: list[Callable[[object], Awaitable[None]]] = [Showing(bus.views)]
    if hub is not None:
        ways.append(Applying(hub))

    async def everywhere(effect: object) -> None:
        await asyncio.gather(*(way(effect) for way in ways))

    phases = Replica(Phases(settings.runs_kept_max), bus.log, perform=everywhere)
    retention = Retention(settings.retention_seconds, settings.archive_retention_seconds)
    with observed(ACTIVE_RUNS, lambda: active_runs(phases.state)), observed(RUN_METRIC, lambda: run_metrics(phases.state)):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(phases.run())
            tasks.create_task(serve_page(bus, phases, settings))
            tasks.create_task(Replica(retention, bus.log, perform=Archiving(bus)).run())


def main() -> None:
    """Run a status service until it is told to end."""
    settings = read(StatusSettings)

    async def body(bus: Bus) -> None:
        async with open_hub(settings) as hub:
            await show(bus, settings, hub)

    serve("status", settings, body)


if __name__ == "__main__":
    main()
