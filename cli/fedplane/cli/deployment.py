"""What runs in a federation on one machine beside the server: which processes, and what each of them is told.

It is data: a deployment, once everything about it is decided, and the table of processes that follows from it.
Who starts them, and starts them again, is `supervisor`.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from fedplane.cli.clusters import Cluster
from fedplane.cli.directory import Directory
from fedplane.cli.keys import ADDON, Keys
from fedplane.cli.page import PAGE_PORT_DEFAULT
from fedplane.cli.server import HOST, Configuration, bulk_bytes, free_port
from fedplane.cli.supervisor import Process, Stages
from fedplane.runtime.nats import Credentials
from fedplane.schemas.roles import Role

__all__ = ["AGGREGATORS_DEFAULT", "Deployment", "authorizer", "roles"]

AGGREGATORS_DEFAULT = 2
"""Two, so that what is true of replicas is true of every laptop: killing one changes nothing."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """What is to run, once everything about it is decided."""

    directory: Directory
    server: Configuration
    clusters: tuple[Cluster, ...]
    aggregators: int = AGGREGATORS_DEFAULT
    page_port: int = PAGE_PORT_DEFAULT
    keys: Keys | None = None
    """None: everybody on this machine is let in."""

    @property
    def nats_url(self) -> str:
        """Where the bus is."""
        return f"{'nats' if self.keys is None else 'tls'}://{HOST}:{self.server.port}"

    @property
    def noise(self) -> Path:
        """What aggregators draw noise from, whether everybody is let in or not."""
        return (self.keys or Keys(self.directory.keys)).noise

    @property
    def credentials(self) -> Credentials | None:
        """By which whoever started it is let in."""
        return None if self.keys is None else self.keys.credentials


def roles(deployment: Deployment) -> Stages:
    """Everything but the server: the services, then the driver and the collaborators."""
    aggregating = {"FEDPLANE_NOISE_SECRET": str(deployment.noise)}
    services = (
        _role("scheduler", deployment),
        *(_role("aggregator", deployment, str(number), aggregating) for number in range(deployment.aggregators)),
        _role("status", deployment, settings={"FEDPLANE_PAGE_PORT": str(deployment.page_port), "FEDPLANE_PAGE_HOST": HOST}),
    )
    driver = _role("driver", deployment, settings={"FEDPLANE_WORKDIR": str(deployment.directory.servers)}, package="collaborator.driver")
    return services, (driver, *(_collaborator(cluster, deployment) for cluster in deployment.clusters))


def _role(
    role: str, deployment: Deployment, replica: str = "", settings: Mapping[str, str] = MappingProxyType({}), package: str = ""
) -> Process:
    # -P: a file of the user's that is called like a module of ours must not be imported because we are started beside it.
    command = (sys.executable, "-P", "-m", f"fedplane.{package or role}.main")
    shared = {
        "FEDPLANE_NATS_URL": deployment.nats_url,
        "FEDPLANE_REPLICA": replica or "0",
        "FEDPLANE_BULK_BYTES": str(bulk_bytes(deployment.server.store_bytes)),
        **_identity(deployment.keys, Role(role), replica if role == Role.COLLABORATOR else ""),
    }
    return Process(f"{role}-{replica}" if replica else role, command, {**shared, **settings})


def _identity(keys: Keys | None, role: Role, cluster: str = "") -> dict[str, str]:
    """What a process shows the server. All of it is said, since the process is told of our own environment as well."""
    if keys is None:
        return {"FEDPLANE_INSECURE": "true"}
    bundle = str(keys.bundle(role, cluster))
    files = {f"FEDPLANE_TLS_{what}": bundle for what in ("CERTIFICATE", "KEY", "AUTHORITY")}
    return {**files, "FEDPLANE_TLS_NAME": "", "FEDPLANE_INSECURE": "false"}


def authorizer(deployment: Deployment, keys: Keys) -> Process:
    """Who lets everybody else in, so it has to be there before them: whoever asks too early is refused after two seconds."""
    port = free_port()
    settings = {
        "FEDPLANE_CALLOUT_SEED": str(keys.seed),
        "FEDPLANE_CALLOUT_PASSWORD": str(keys.callout_password),
        "FEDPLANE_SYSTEM_PASSWORD": str(keys.system_password),
        "FEDPLANE_SERVICES_AUTHORITY": str(keys.authority("services")),
        "FEDPLANE_CLUSTERS_AUTHORITY": str(keys.authority("clusters")),
        "FEDPLANE_ADDON": ADDON,
        "FEDPLANE_HEALTH_PORT": str(port),
        "FEDPLANE_HEALTH_HOST": HOST,
    }
    return replace(_role("authorizer", deployment, settings=settings), health_port=port)


def _collaborator(cluster: Cluster, deployment: Deployment) -> Process:
    settings = {
        "FEDPLANE_CLUSTER": cluster.name,
        "FEDPLANE_CLAIMS": json.dumps(cluster.claims),
        "FEDPLANE_LABELS": json.dumps(cluster.labels),
        "FEDPLANE_WORKDIR": str(deployment.directory.work / cluster.name),
    }
    if deployment.keys is not None:
        settings["FEDPLANE_PEERS_AUTHORITY"] = str(deployment.keys.authority("clusters"))
    allocatable = {"FEDPLANE_CPU": cluster.allocatable.cpu, "FEDPLANE_MEMORY": cluster.allocatable.memory}
    return _role("collaborator", deployment, cluster.name, settings | {name: value for name, value in allocatable.items() if value})
