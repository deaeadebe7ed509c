"""The scheduler's process: reads the log of runs and fleet, and states where runs go.

It sets no timers, holds no leases and stores nothing; any number of replicas may run.
"""

from fedplane.runtime.nats import NatsBus
from fedplane.runtime.replica import Replica
from fedplane.runtime.service import serve
from fedplane.scheduler.runs import Scheduler
from fedplane.scheduler.settings import Settings

__all__ = ["main"]


def main() -> None:
    """Run until told to stop."""
    settings = Settings()
    core = Scheduler(settings.tick_seconds)

    async def schedule(bus: NatsBus) -> None:
        replica = Replica(core, bus.log, traceparent_of=lambda action: core.traceparent_of(replica.state, action))
        await replica.run()

    serve("scheduler", settings, schedule)


if __name__ == "__main__":
    main()
