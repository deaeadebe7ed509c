"""A collaborator as a process: invitations in, answers out. `python -m fedplane.collaborator.main`.

It may be killed at any time: a fresh one reads from the log what is still to be answered.
It advertises the cluster as long as it runs, and runs apps as its children.
On Kubernetes there is one for each run of a cluster, with the app in a container beside it. It advertises nothing, and ends with its run.
"""

import asyncio
import os
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from fedplane.collaborator.advertising import advertise
from fedplane.collaborator.apps import AppProcess
from fedplane.collaborator.beside import meeting
from fedplane.collaborator.frameworks import FRAMEWORKS
from fedplane.collaborator.pool import AppPool, StartApp
from fedplane.collaborator.pythons import environments_of, starting
from fedplane.collaborator.settings import CollaboratorSettings
from fedplane.collaborator.tasks import Collaborator, Retire
from fedplane.collaborator.training import Training
from fedplane.runtime.ports import Bus
from fedplane.runtime.replica import Replica
from fedplane.runtime.service import serve
from fedplane.runtime.settings import read
from fedplane.schemas.facts import Advertised
from fedplane.schemas.roles import Role
from fedplane.schemas.subjects import listen

__all__ = ["collaborate", "main"]


def main() -> None:
    """Serve until told to stop, or until the run has ended if there is only one."""
    settings = read(CollaboratorSettings)
    body = _beside_its_app if settings.app_socket else _with_children
    listening = listen(Role.COLLABORATOR, settings.cluster, settings.run)
    serve("collaborator", settings, partial(body, settings=settings), declares=False, known_as=settings.cluster, listening=listening)


async def _with_children(bus: Bus, settings: CollaboratorSettings) -> None:
    environments = environments_of(settings, os.environ)

    def start(framework: str, directory: Path, workdir: Path) -> AppProcess:
        start_child = starting(directory, framework, workdir, python=settings.python, environments=environments, environment=os.environ)
        return AppProcess(start_child, workdir / "app.log")

    try:
        await collaborate(bus, settings, start)
    finally:
        await environments.close()


async def _beside_its_app(bus: Bus, settings: CollaboratorSettings) -> None:
    with meeting(Path(settings.app_socket)) as place:

        def start(framework: str, directory: Path, workdir: Path) -> AppProcess:
            return AppProcess(place.welcome, workdir / "app.log")

        await collaborate(bus, settings, start)
        place.dismiss()  # only now: when this process is merely stopped, its successor goes on with the run


async def collaborate(bus: Bus, settings: CollaboratorSettings, start: StartApp) -> None:
    """Answer until cancelled, and advertise meanwhile; or answer one run's questions until it has ended."""
    apps = AppPool(start, settings.apps_max)
    workdir = settings.workdir.absolute()
    app = settings.app or (Path() if settings.app_socket else None)  # a container knows where its app is
    training = Training(
        bus, apps, workdir=workdir, update_bytes_max=settings.update_bytes_max, app=app, papers=settings.papers,
        masked_only=settings.masked_only,
    )  # fmt: skip
    ended = asyncio.Event()

    async def perform(effect: object) -> None:
        await training.perform(effect)
        if effect == Retire(settings.run):
            ended.set()

    replica = Replica(Collaborator(settings.cluster, settings.run), bus.log, perform=perform)
    try:
        async with asyncio.TaskGroup() as tasks:
            answering = tasks.create_task(replica.run())
            if settings.run:
                await ended.wait()
                answering.cancel()
            else:
                tasks.create_task(advertise(bus.log, _offered(settings)))
    finally:
        await apps.close()


def _offered(settings: CollaboratorSettings) -> Advertised:
    cpu = settings.cpu or str(os.cpu_count() or 1)
    memory = settings.memory or str(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return Advertised(
        cluster=settings.cluster, at=datetime.now(UTC), lease_seconds=settings.lease_seconds, claims=settings.claims,
        allocatable={"cpu": cpu, "memory": memory}, labels=settings.labels, frameworks=tuple(FRAMEWORKS),
    )  # fmt: skip


if __name__ == "__main__":
    main()
