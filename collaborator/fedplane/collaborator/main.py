"""A collaborator as a process: invitations in, answers out. `python -m fedplane.collaborator.main`.

It advertises the cluster as long as it runs, and may be killed at any time: a fresh one reads from the log what is still to be answered.
"""

import asyncio
import os
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from fedplane.collaborator.advertising import advertise
from fedplane.collaborator.apps import App, AppProcess, app_python
from fedplane.collaborator.frameworks import FRAMEWORKS
from fedplane.collaborator.pool import AppPool, StartApp
from fedplane.collaborator.settings import CollaboratorSettings
from fedplane.collaborator.tasks import Collaborator
from fedplane.collaborator.training import Training
from fedplane.runtime.ports import Bus
from fedplane.runtime.replica import Replica
from fedplane.runtime.service import serve
from fedplane.runtime.settings import read
from fedplane.schemas.facts import Advertised

__all__ = ["collaborate", "main"]


def main() -> None:
    """Serve until told to stop."""
    settings = read(CollaboratorSettings)

    def start(framework: str, directory: Path, workdir: Path) -> AppProcess:
        app = App(directory, framework, settings.python or app_python(directory))
        return AppProcess(app, workdir, workdir / "app.log", os.environ)

    serve("collaborator", settings, partial(collaborate, settings=settings, start=start), declares=False)


async def collaborate(bus: Bus, settings: CollaboratorSettings, start: StartApp) -> None:
    """Advertise and answer until cancelled."""
    apps = AppPool(start, settings.apps_max)
    workdir = settings.workdir.absolute()
    training = Training(bus, apps, workdir=workdir, update_bytes_max=settings.update_bytes_max, app=settings.app)
    replica = Replica(Collaborator(settings.cluster), bus.log, perform=training.perform)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(advertise(bus.log, _offered(settings)))
            tasks.create_task(replica.run())
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
