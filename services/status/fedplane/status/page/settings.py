"""What the page can be told."""

from pydantic import Field

from fedplane.runtime.settings import ServiceSettings

__all__ = ["OwnPageSettings", "PageSettings"]


class PageSettings(ServiceSettings):
    """Settings of whatever serves the page: the status service, or a process that does nothing else."""

    page_port: int | None = Field(default=None, ge=1, le=65535)
    """Where the page is served over HTTP. None: nothing listens. It has no users and no passwords: whoever reaches it reads it."""

    page_host: str = "127.0.0.1"
    """The address to listen at. On a loopback address only this machine's browsers are answered; in a pod it is 0.0.0.0."""

    trace_url: str = Field(default="", pattern=r"^$|^https?://\S*\{trace_id\}")
    """Where a trace is looked at, with {trace_id} where its id belongs, as http://localhost:16686/trace/{trace_id} for Jaeger.
    Empty: the page has no links to traces."""

    runs_kept_max: int = Field(default=1_000, ge=1)
    """How many runs are kept in memory, each at most a megabyte and usually some kilobytes.
    Beyond it, the oldest that have ended are forgotten; what was shown of them stays visible."""


class OwnPageSettings(PageSettings):
    """Settings of a process that has nothing else to do."""

    page_port: int = Field(ge=1, le=65535)
