"""The aggregator: `python -m fedplane.aggregator.main`. Start as many as you like."""

import asyncio

from fedplane.aggregator.runs import Cut, Runs, RunsState
from fedplane.aggregator.settings import AggregatorSettings
from fedplane.aggregator.team import Team, threads_here
from fedplane.aggregator.telling import tell_backlog, tell_ended
from fedplane.aggregator.working import Working
from fedplane.runtime.ports import Bus
from fedplane.runtime.replica import Replica
from fedplane.runtime.service import serve
from fedplane.runtime.settings import read

__all__ = ["aggregate", "main"]


async def aggregate(bus: Bus, settings: AggregatorSettings) -> None:
    """Drive rounds, keep timers and fold, until cancelled."""
    replica: Replica[RunsState] = Replica(
        Runs(Cut(settings.shard_bytes, settings.chunk_bytes)),
        bus.log,
        timers=bus.timers,
        work=bus.work,
        perform=lambda effect: working.discard(effect),  # noqa: PLW0108 -- working is made below, of the replica
        stated=lambda outcome: tell_ended(replica, outcome),
    )
    working = Working(bus, replica, Team(settings.fold_threads or threads_here()))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(replica.run())
        tasks.create_task(bus.timers.keep())
        tasks.create_task(tell_backlog(bus.work))
        for _ in range(settings.folds_at_once):
            tasks.create_task(working.work())


def main() -> None:
    """Run an aggregator until it is told to end."""
    settings = read(AggregatorSettings)
    serve("aggregator", settings, lambda bus: aggregate(bus, settings))


if __name__ == "__main__":
    main()
