"""What every service can be told, read from the environment by its `main` and by nobody else.

Each setting is `FEDPLANE_` and its name in capitals. A service adds its own by deriving from `ServiceSettings`.
"""

import sys
from typing import TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["EXIT_BAD_INPUT", "HubSettings", "ServiceSettings", "read"]

EXIT_BAD_INPUT = 2


class ServiceSettings(BaseSettings):
    """What all services share."""

    model_config = SettingsConfigDict(env_prefix="FEDPLANE_", frozen=True)

    nats_url: str = "nats://127.0.0.1:4222"
    """Where the bus is: NATS's own default port on this machine. Several servers of one cluster are separated by commas."""

    replica: str = Field(default="0", pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    """Which replica this is, for logs, traces and the source of its facts; on Kubernetes the pod's name. It decides nothing."""

    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$")
    """The least severe line that is logged."""

    health_port: int | None = Field(default=None, ge=1, le=65535)
    """Where `/live` and `/ready` are answered over HTTP, for a supervisor; see `runtime.health`. None: nothing listens."""

    otel_exporter_otlp_endpoint: str | None = Field(default=None, validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT")
    """Where traces go (OTLP over HTTP); OpenTelemetry's own variable. None: no traces, no cost."""

    work_lease_seconds: float = Field(default=10.0, gt=0)
    """How long a task stays with a process that says nothing; see `runtime.nats.Limits`. Counts when the streams are made."""

    log_bytes: int = Field(default=256_000_000, gt=0)
    """What the log may hold; see `runtime.nats.Limits`. Counts when the streams are made."""

    bulk_bytes: int = Field(default=4_000_000_000, gt=0)
    """What the bulk stream may hold; see `runtime.nats.Limits`. Counts when the streams are made."""

    stream_replicas: int = Field(default=1, ge=1, le=5)
    """How many servers keep each stream: 3 on a cluster, which survives the loss of one. Counts when the streams are made."""


class HubSettings(ServiceSettings):
    """What the services share besides that may work on a Kubernetes hub: scheduler and status."""

    kubernetes: str = ""
    """The hub's API server: `in-cluster` for that of the cluster that this process is a pod of, else the path of a kubeconfig.
    Empty: there is none, as on one machine.
    """

    kubernetes_context: str = ""
    """Which context of the kubeconfig; empty: its current one."""


S = TypeVar("S", bound=ServiceSettings)


def read(settings: type[S]) -> S:
    """The settings from the environment. If one is missing or wrong, say which and what is expected, and end the process."""
    try:
        return settings()
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            name = str(problem["loc"][0])
            variable = name if name.isupper() else f"FEDPLANE_{name.upper()}"
            sys.stderr.write(f"error: {variable}: {problem['msg']}\n")
        sys.exit(EXIT_BAD_INPUT)
