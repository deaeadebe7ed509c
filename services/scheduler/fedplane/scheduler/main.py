"""The scheduler's process: reads the log of runs and fleet, and states where runs go.

It sets no timers, holds no leases and stores nothing; any number of replicas may run.
"""

from fedplane.runtime.nats import NatsBus
from fedplane.runtime.ports import Stated
from fedplane.runtime.replica import Replica
from fedplane.runtime.service import serve
from fedplane.runtime.settings import read
from fedplane.runtime.telemetry import Attributes, emit, run_traceparent
from fedplane.scheduler.runs import Runs, Scheduler
from fedplane.scheduler.settings import Settings
from fedplane.schemas.facts import Scheduled

__all__ = ["main"]


def main() -> None:
    """Run until told to stop."""
    settings = read(Settings)

    async def schedule(bus: NatsBus) -> None:
        replica = Replica(Scheduler(settings.tick_seconds), bus.log, stated=lambda outcome: _emit_scheduled(replica, outcome))
        await replica.run()

    serve("scheduler", settings, schedule)


def _emit_scheduled(replica: Replica[Runs], outcome: Stated) -> None:
    """Emit the span of a run's placement, if it was this replica that placed it."""
    fact = outcome.record.fact if outcome.record and outcome.mine else None
    if isinstance(fact, Scheduled) and fact.run in replica.state.unplaced:
        attributes: Attributes = {
            "fedplane.run": fact.run,
            "fedplane.chosen": len(fact.participants),
            "fedplane.refused": len(fact.refused),
        }
        begin = replica.state.unplaced[fact.run].submitted_at
        emit("schedule", begin, fact.at, parent=run_traceparent(fact.run), attributes=attributes)


if __name__ == "__main__":
    main()
