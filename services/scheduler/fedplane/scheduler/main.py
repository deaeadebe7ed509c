"""The scheduler's process: reads the log of runs and fleet, and states where runs go. On a hub, it takes objects in and sends work.

It sets no timers, holds no leases and stores nothing; any number of replicas may run.
"""

import asyncio
from pathlib import Path

from fedplane.runtime.errors import BadInput
from fedplane.runtime.hub import open_hub
from fedplane.runtime.kinds import MANAGED_CLUSTER
from fedplane.runtime.nats import NatsBus
from fedplane.runtime.replica import Replica
from fedplane.runtime.service import serve
from fedplane.runtime.settings import read
from fedplane.scheduler.credentials import certificates
from fedplane.scheduler.delivering import deliver
from fedplane.scheduler.depositing import deposit
from fedplane.scheduler.driving import Driving
from fedplane.scheduler.exposing import expose
from fedplane.scheduler.informer import Informer
from fedplane.scheduler.intake import Intake
from fedplane.scheduler.launching import launch
from fedplane.scheduler.listening import Listening
from fedplane.scheduler.pods import Outfit
from fedplane.scheduler.runs import Scheduler
from fedplane.scheduler.sending import Sending
from fedplane.scheduler.settings import Settings
from fedplane.scheduler.standing import Patience
from fedplane.scheduler.storage import Keeper
from fedplane.scheduler.storing import Storing
from fedplane.scheduler.tending import tend
from fedplane.scheduler.tracing import tell_scheduled

__all__ = ["main"]


def main() -> None:
    """Run until told to stop."""
    settings = read(Settings)

    async def schedule(bus: NatsBus) -> None:
        patience = Patience(settings.start_seconds)
        intake, sending = Intake(settings.namespace), Sending(patience)
        intake.hub.works = sending.hub.works
        async with open_hub(settings) as hub, asyncio.TaskGroup() as tasks:
            core = Scheduler(settings.tick_seconds, None if hub is None else intake.hub.overview)
            replica = Replica(core, bus.log, stated=lambda outcome: tell_scheduled(replica, outcome))
            tasks.create_task(replica.run())
            if hub is not None:
                clusters = Informer(hub, MANAGED_CLUSTER)
                tasks.create_task(clusters.run())
                tasks.create_task(tend(bus.log, hub, clusters, intake))
                authority, secure = _authority(settings), settings.tls_certificate is not None
                told = settings.handed_on(settings.outside_otlp_endpoint)
                outfit = Outfit(settings.collaborator_image, settings.outside_url, told, authority, _peers(settings))
                tasks.create_task(deliver(bus.log, hub, clusters, outfit, sending))
                keeper = Keeper(settings.cli_image, settings.inside_url, settings.storage_group, secure)
                tasks.create_task(deposit(bus.log, hub, keeper, Storing()))
                told = settings.handed_on(settings.inside_otlp_endpoint)
                drivers = Outfit(settings.collaborator_image, settings.inside_url, told, authority)
                tasks.create_task(launch(bus.log, hub, drivers, Driving(patience)))
                tasks.create_task(expose(bus.log, hub, Listening(settings.listen_namespace)))

    serve("scheduler", settings, schedule)


def _authority(settings: Settings) -> str:
    """By what clusters know the bus, in PEM; empty if it asks nobody who he is. Raises BadInput for a file that cannot be it."""
    path = settings.outside_authority or settings.tls_authority or settings.tls_certificate
    if settings.tls_certificate is None or path is None:
        return ""
    return _certificates(path, "the bus", "FEDPLANE_OUTSIDE_AUTHORITY")


def _peers(settings: Settings) -> str:
    """By what clusters know one another, in PEM; empty if nobody has said it. Raises BadInput for a file that cannot be it."""
    path = settings.clusters_authority
    return "" if path is None else _certificates(path, "clusters", "FEDPLANE_CLUSTERS_AUTHORITY")


def _certificates(path: Path, whose: str, setting: str) -> str:
    try:
        return certificates(path.read_text(encoding="ascii"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read the authority of {whose} in {path}: {error}; see {setting}") from error
    except BadInput as error:
        raise BadInput(f"{path} is no authority of {whose}: {error}; see {setting}") from error


if __name__ == "__main__":
    main()
