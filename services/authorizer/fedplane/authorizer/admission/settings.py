"""What the guard can be told. It needs no bus, so what services are told of that is not among it."""

from pathlib import Path

from pydantic import Field

from fedplane.runtime.settings import TelemetrySettings

__all__ = ["GuardSettings"]


class GuardSettings(TelemetrySettings, env_prefix="FEDPLANE_"):
    """Where the guard answers, and what it guards."""

    guard_certificate: Path
    """A file with the certificate that the API server sees, in PEM, and those between it and its authority. Looked at every ten seconds."""

    guard_key: Path
    """The file with its key."""

    guard_host: str = "127.0.0.1"
    """The address to listen at; in a pod it is 0.0.0.0."""

    guard_port: int = Field(default=8443, ge=0, le=65535)
    """The port to listen at. 0: one that is free, which the log says."""

    guard_signer: str = Field(default="fedplane.io/collaborator", pattern=r"^[^/\s]+/[^/\s]+$")
    """Requests to which signer are judged: the one that the add-on's template names. All others are let through."""

    addon: str = Field(default="fedplane-collaborator", pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)
    """The add-on whose agents may ask for certificates."""

    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$")
    """The least severe line that is logged."""
