"""What the scheduler can be told."""

from pydantic import Field

from fedplane.runtime.settings import ServiceSettings
from fedplane.scheduler.runs import TICK_SECONDS

__all__ = ["Settings"]


class Settings(ServiceSettings):
    """The shared settings, and how often to look at the clock."""

    tick_seconds: float = Field(default=TICK_SECONDS, gt=0, le=60)
    """How often leases are looked at while nothing happens, in seconds. At a minute, a run may be given a cluster that is long gone."""
