"""What the scheduler can be told."""

from pathlib import Path

from pydantic import Field

from fedplane.runtime.settings import HubSettings
from fedplane.scheduler.runs import TICK_SECONDS
from fedplane.scheduler.standing import PATIENCE

__all__ = ["Settings"]


class Settings(HubSettings):
    """The shared settings, how often to look at the clock, and what the clusters of a hub are sent."""

    tick_seconds: float = Field(default=TICK_SECONDS, gt=0, le=60)
    """How often leases are looked at while nothing happens, in seconds. At a minute, a run may be given a cluster that is long gone."""

    namespace: str = Field(default="", max_length=63)
    """The hub's namespace whose FederatedLearning objects become runs. Empty: every namespace's."""

    collaborator_image: str = ""
    """The collaborator's image, as the hub and its clusters can pull it. Without it clusters are sent nothing, and decline."""

    outside_url: str = ""
    """The bus as the clusters of a hub reach it, such as `tls://hub.example.org:4222`. Without it they are sent nothing, and decline."""

    outside_authority: Path | None = None
    """The authority of the bus's certificate, in PEM, which clusters are sent, since Open Cluster Management gives them only their own.
    None: the one by which we know the bus. It is read when the scheduler starts.
    """

    clusters_authority: Path | None = None
    """The authority of clusters' certificates, in PEM, which clusters are sent as well: by it they know with whom they mask their updates.
    None: they know nobody, and decline in runs with spec.privacy.secureAggregation. It is read when the scheduler starts.
    """

    cli_image: str = ""
    """The command line's image, with what it needs for buckets, for the Jobs that keep models on the hub. Without it none is made."""

    inside_url: str = ""
    """The bus as any namespace of the hub reaches it, such as `tls://nats.fedplane:4222`. Without it no model is kept on the hub, and
    no app's own server is run there.
    """

    outside_otlp_endpoint: str = ""
    """An OpenTelemetry collector as the clusters of a hub reach it. Without it they send no traces and no metrics."""

    inside_otlp_endpoint: str = ""
    """The same as any namespace of the hub reaches it, for the drivers of apps' own servers."""

    listen_namespace: str = Field(default="", max_length=63)
    """The hub's namespace that the bus is in. Without it no listener is made, and clusters of a run that asks for one decline."""

    storage_group: int = Field(default=10001, ge=0)
    """The group that owns the files of a volume that models are kept on, so that the image's user may write. 0: the hub's to say."""

    start_seconds: float = Field(default=PATIENCE.start_seconds, gt=0, le=24 * 3600)
    """How long a cluster of a hub may take to start its collaborator, with the user's image, before it declines its invitations.
    As long may the hub take to start an app's own server, before its run fails.
    """
