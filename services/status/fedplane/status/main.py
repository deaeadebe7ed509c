"""The status service: `python -m fedplane.status.main`. A second one does no harm, and its views are the same."""

from fedplane.runtime.ports import Bus
from fedplane.runtime.replica import Replica
from fedplane.runtime.service import serve
from fedplane.runtime.settings import read
from fedplane.status.phases import Phases
from fedplane.status.settings import StatusSettings
from fedplane.status.showing import Showing

__all__ = ["main", "show"]


async def show(bus: Bus, settings: StatusSettings) -> None:
    """Keep the view of every run up to date, until cancelled."""
    await Replica(Phases(settings.runs_kept_max), bus.log, perform=Showing(bus.views)).run()


def main() -> None:
    """Run a status service until it is told to end."""
    settings = read(StatusSettings)
    serve("status", settings, lambda bus: show(bus, settings))


if __name__ == "__main__":
    main()
