"""The page by itself: `python -m fedplane.status.page.main`, beside a federation whose status service serves none.

It reads the log as the status service does, and writes nothing: no view, no archive. `fedplane ui --url` starts it.
"""

import asyncio

from fedplane.runtime.ports import Bus
from fedplane.runtime.replica import Replica
from fedplane.runtime.service import serve
from fedplane.runtime.settings import read
from fedplane.schemas.roles import Role
from fedplane.status.page.serving import serve_page
from fedplane.status.page.settings import OwnPageSettings, PageSettings
from fedplane.status.phases import Phases

__all__ = ["look", "main"]


async def look(bus: Bus, settings: PageSettings) -> None:
    """Serve the page until cancelled."""
    phases = Replica(Phases(settings.runs_kept_max), bus.log, perform=_keep_to_ourselves)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(phases.run())
        tasks.create_task(serve_page(bus, phases, settings))


async def _keep_to_ourselves(effect: object) -> None:
    """What the status service puts where everyone can see it is seen on this page only."""


def main() -> None:
    """Run until told to end."""
    settings = read(OwnPageSettings)

    async def body(bus: Bus) -> None:
        await look(bus, settings)

    serve("page", settings, body, declares=False, role=Role.OPERATOR)  # a person starts it, and it may see what a person may


if __name__ == "__main__":
    main()
