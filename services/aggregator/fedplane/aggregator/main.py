"""The aggregator: `python -m fedplane.aggregator.main`. Start as many as you like."""

import asyncio
from pathlib import Path

from fedplane.aggregator.runs import Cut, Runs, RunsState
from fedplane.aggregator.settings import AggregatorSettings
from fedplane.aggregator.team import Team, threads_here
from fedplane.aggregator.telling import tell_backlog, tell_ended
from fedplane.aggregator.working import Working
from fedplane.runtime.errors import BadInput
from fedplane.runtime.ports import Bus
from fedplane.runtime.replica import Replica
from fedplane.runtime.service import serve
from fedplane.runtime.settings import read

__all__ = ["aggregate", "main"]

SECRET_CHARACTERS_MIN = 32
"""Of random ones, each worth four bits or more: as many as nobody can try."""


async def aggregate(bus: Bus, settings: AggregatorSettings) -> None:
    """Drive rounds, keep timers and fold, until cancelled."""
    secret = _secret(settings.noise_secret)
    replica: Replica[RunsState] = Replica(
        Runs(Cut(settings.shard_bytes, settings.chunk_bytes), has_secret=bool(secret)),
        bus.log,
        timers=bus.timers,
        work=bus.work,
        perform=lambda effect: working.discard(effect),  # noqa: PLW0108 -- working is made below, of the replica
        stated=lambda outcome: tell_ended(replica, outcome),
    )
    working = Working(bus, replica, Team(settings.fold_threads or threads_here()), secret)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(replica.run())
        tasks.create_task(bus.timers.keep())
        tasks.create_task(tell_backlog(bus.work))
        for _ in range(settings.folds_at_once):
            tasks.create_task(working.work())


def _secret(path: Path | None) -> bytes:
    """What noise is drawn from; nothing if this aggregator was told of none."""
    if path is None:
        return b""
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise BadInput(f"FEDPLANE_NOISE_SECRET: the secret in {path} cannot be read: {type(error).__name__}") from error
    if len(secret) < SECRET_CHARACTERS_MIN:
        raise BadInput(f"FEDPLANE_NOISE_SECRET: {path} has {len(secret)} characters, and a secret has {SECRET_CHARACTERS_MIN} or more")
    return secret


def main() -> None:
    """Run an aggregator until it is told to end."""
    settings = read(AggregatorSettings)
    serve("aggregator", settings, lambda bus: aggregate(bus, settings))


if __name__ == "__main__":
    main()
