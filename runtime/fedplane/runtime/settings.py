"""What every service can be told, read from the environment by its `main` and by nobody else.

Each setting is `FEDPLANE_` and its name in capitals, but for OpenTelemetry's own.
A service adds its own by deriving from `ServiceSettings`.
"""

import sys
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["EXIT_BAD_INPUT", "HubSettings", "ServiceSettings", "TelemetrySettings", "read"]

EXIT_BAD_INPUT = 2


class TelemetrySettings(BaseSettings):
    """What is told of a process, and where to: OpenTelemetry's own variables."""

    model_config = SettingsConfigDict(frozen=True)

    otel_exporter_otlp_endpoint: str | None = Field(default=None, validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT")
    """Where traces and metrics go (OTLP over HTTP); None: nothing, at no cost."""

    otel_traces_exporter: Literal["otlp", "none"] = Field(default="otlp", validation_alias="OTEL_TRACES_EXPORTER")
    """`none` leaves out traces."""

    otel_metrics_exporter: Literal["otlp", "none"] = Field(default="otlp", validation_alias="OTEL_METRICS_EXPORTER")
    """`none` leaves out metrics."""

    otel_traces_sampler: str = Field(
        default="parentbased_always_on",
        pattern="^(parentbased_)?(always_on|always_off|traceidratio)$",
        validation_alias="OTEL_TRACES_SAMPLER",
    )
    """Which traces are kept: `always_on`, `always_off` or `traceidratio`, each also with `parentbased_` before it.
    It is decided by the trace's id, so all processes with the same setting keep the same rounds and runs.
    """

    otel_traces_sampler_arg: float = Field(default=1.0, ge=0, le=1, validation_alias="OTEL_TRACES_SAMPLER_ARG")
    """The share that is kept by a sampler with `traceidratio`."""

    otel_metric_export_interval: int = Field(default=10_000, ge=100, validation_alias="OTEL_METRIC_EXPORT_INTERVAL")
    """How many milliseconds are between two messages with metrics. OpenTelemetry's own minute is long if one waits for a round."""

    @property
    def sends_traces(self) -> bool:
        """Whether spans are sent, if there is an endpoint."""
        return self.otel_traces_exporter == "otlp" and self.sample_ratio > 0

    @property
    def sends_metrics(self) -> bool:
        """Whether metrics are sent, if there is an endpoint."""
        return self.otel_metrics_exporter == "otlp"

    def handed_on(self, endpoint: str) -> dict[str, str]:
        """What a process elsewhere is told, so that it keeps the same traces, if it has an endpoint that it reaches."""
        told = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_TRACES_EXPORTER": self.otel_traces_exporter,
            "OTEL_METRICS_EXPORTER": self.otel_metrics_exporter,
            "OTEL_TRACES_SAMPLER": self.otel_traces_sampler,
            "OTEL_TRACES_SAMPLER_ARG": f"{self.otel_traces_sampler_arg:g}",
            "OTEL_METRIC_EXPORT_INTERVAL": str(self.otel_metric_export_interval),
        }
        return told if endpoint else {}

    @property
    def sample_ratio(self) -> float:
        """The share of traces that is kept."""
        kind = self.otel_traces_sampler.removeprefix("parentbased_")
        return {"always_on": 1.0, "always_off": 0.0, "traceidratio": self.otel_traces_sampler_arg}[kind]


class ServiceSettings(TelemetrySettings):
    """What all services share."""

    model_config = SettingsConfigDict(env_prefix="FEDPLANE_", frozen=True)

    nats_url: str = "nats://127.0.0.1:4222"
    """Where the bus is: NATS's own default port on this machine. Several servers of one cluster are separated by commas.
    With certificates an address is `tls://HOST:PORT`.
    """

    tls_certificate: Path | None = None
    """The certificate that this process shows the bus, in PEM; it says who it is. The file is read anew for each connection, so it may be
    replaced at any time. Without one a process refuses to start, unless FEDPLANE_INSECURE is set.
    """

    tls_key: Path | None = None
    """The key of that certificate. None: it is in the same file."""

    tls_authority: Path | None = None
    """The authority that has signed the bus's certificate. None: it is in the file of ours."""

    tls_name: str = Field(default="", pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$")
    """NAME in a certificate of `fedplane:ROLE:NAME`. Empty: the role's own name. A collaborator's is its cluster in any case."""

    insecure: bool = False
    """Whether to go without a certificate, on a bus that lets everybody do everything: for a machine or network that you trust."""

    replica: str = Field(default="0", pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    """Which replica this is, for logs, traces and the source of its facts; on Kubernetes the pod's name. It decides nothing."""

    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$")
    """The least severe line that is logged."""

    health_port: int | None = Field(default=None, ge=1, le=65535)
    """Where `/live`, `/started` and `/ready` are answered over HTTP, for a supervisor; see `runtime.health`. None: nothing listens."""

    health_host: str = ""
    """The address at which they are. Empty: every one that this machine has, since a kubelet asks from outside of the pod."""

    work_lease_seconds: float = Field(default=10.0, gt=0)
    """How long a task stays with a process that says nothing. Short, since a lapse costs repeated work and nothing else.
    Counts when the streams are made.
    """

    log_bytes: int = Field(default=256_000_000, gt=0)
    """What the log may hold: of facts, which have about 1 KB, a quarter of a million. Counts when the streams are made."""

    bulk_bytes: int = Field(default=4_000_000_000, gt=0)
    """What the bulk stream may hold: updates of one round and two models, for ten clusters and 300 MB each.
    Counts when the streams are made.
    """

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


S = TypeVar("S", bound=TelemetrySettings)


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
