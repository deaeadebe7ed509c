"""What the status service can be told."""

from pydantic import Field

from fedplane.runtime.settings import HubSettings

__all__ = ["StatusSettings"]


class StatusSettings(HubSettings):
    """Its own settings beside those of all services."""

    retention_seconds: float = Field(default=7 * 24 * 3600, gt=0)
    """How long the facts of a run stay on the log after it has ended; then they are archived and purged.
    A week is the longest deadline of a round: by then every timer of the run has fired.
    """

    archive_retention_seconds: float = Field(default=30 * 24 * 3600, gt=0)
    """How long a run's models, its archive and its view stay after it was archived; then nothing is left of it.
    Thirty days is as long as the server keeps a timer, so nothing of the run can come after that.
    """

    runs_kept_max: int = Field(default=1_000, ge=1)
    """How many runs are kept in memory, each at most a megabyte and usually some kilobytes.
    Beyond it, the oldest that have ended are forgotten; what was shown of them stays visible."""
