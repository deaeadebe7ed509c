"""A driver as a process: it runs apps' own servers, and has what they ask become rounds. `python -m fedplane.collaborator.driver.main`.

It may be killed at any time: a fresh one runs the servers again, and they are answered from the log.
It runs them as its children; or one run's in a container beside it, as a collaborator has its app there, and ends with the run.
"""

import asyncio
import os
from functools import partial
from pathlib import Path

from fedplane.collaborator.apps import AppProcess
from fedplane.collaborator.beside import meeting
from fedplane.collaborator.driver.driving import Cut, Driving, StartServer
from fedplane.collaborator.driver.files import LOG
from fedplane.collaborator.driver.replay import Driver, DriverState, Retire
from fedplane.collaborator.driver.settings import DriverSettings
from fedplane.collaborator.pythons import environments_of, starting
from fedplane.runtime.ports import Bus
from fedplane.runtime.replica import Replica
from fedplane.runtime.service import serve
from fedplane.runtime.settings import read

__all__ = ["drive", "main"]


def main() -> None:
    """Serve until told to stop, or until the run has ended if there is only one."""
    settings = read(DriverSettings)
    body = _beside_its_app if settings.app_socket else _with_children
    serve("driver", settings, partial(body, settings=settings), declares=False)


async def _with_children(bus: Bus, settings: DriverSettings) -> None:
    environments = environments_of(settings, os.environ)

    def start(framework: str, directory: Path, workdir: Path) -> AppProcess:
        start_child = starting(
            directory, framework, workdir, python=settings.python, environments=environments, environment=os.environ, drives=True
        )
        return AppProcess(start_child, workdir / LOG)

    try:
        await drive(bus, settings, start)
    finally:
        await environments.close()


async def _beside_its_app(bus: Bus, settings: DriverSettings) -> None:
    with meeting(Path(settings.app_socket)) as place:
        await drive(bus, settings, lambda framework, directory, workdir: AppProcess(place.welcome, workdir / LOG))
        place.dismiss()  # only now: when this process is merely stopped, its successor goes on with the run


async def drive(bus: Bus, settings: DriverSettings, start: StartServer) -> None:
    """Run the servers of runs until cancelled; or one run's, until it has ended."""
    ended = asyncio.Event()

    async def perform(effect: object) -> None:
        await driving.perform(effect)
        if effect == Retire(settings.run):
            ended.set()

    replica: Replica[DriverState] = Replica(Driver(settings.run), bus.log, perform=perform)
    driving = Driving(
        bus,
        replica,
        start,
        workdir=settings.workdir.absolute(),
        cut=Cut(settings.shard_bytes, settings.chunk_bytes, settings.content_bytes_max),
        servers_max=settings.servers_max,
        app=settings.app or (Path() if settings.app_socket else None),  # a container knows where its app is
    )
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(replica.run())
        if settings.run:
            await ended.wait()
            running.cancel()


if __name__ == "__main__":
    main()
