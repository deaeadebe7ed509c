"""What the status service can be told."""

from pydantic import Field

from fedplane.runtime.settings import HubSettings
from fedplane.status.page.settings import PageSettings

__all__ = ["StatusSettings"]


class StatusSettings(HubSettings, PageSettings):
    """Its own settings beside those of all services, and the page's."""

    retention_seconds: float = Field(default=7 * 24 * 3600, gt=0)
    """How long the facts of a run stay on the log after it has ended; then they are archived and purged.
    A week is the longest deadline of a round: by then every timer of the run has fired.
    """

    archive_retention_seconds: float = Field(default=30 * 24 * 3600, gt=0)
    """How long a run's models, its archive and its view stay after it was archived; then nothing is left of it.
    Thirty days is as long as the server keeps a timer, so nothing of the run can come after that.
    """
