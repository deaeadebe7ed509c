"""What the status service can be told."""

from pydantic import Field

from fedplane.runtime.settings import ServiceSettings

__all__ = ["StatusSettings"]


class StatusSettings(ServiceSettings):
    """Its own settings beside those of all services."""

    runs_kept_max: int = Field(default=1_000, ge=1)
    """How many runs are kept in memory, each at most a megabyte and usually some kilobytes.
    Beyond it, the oldest that have ended are forgotten; what was shown of them stays visible."""
