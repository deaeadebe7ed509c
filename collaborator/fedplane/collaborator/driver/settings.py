"""What a driver can be told."""

from pathlib import Path

from pydantic import Field

from fedplane.collaborator.settings import AppSettings

__all__ = ["DriverSettings"]


class DriverSettings(AppSettings):
    """The settings of whoever runs apps, and what running their servers may take."""

    workdir: Path = Path(".fedplane/driver")
    """Where messages and replies are while the server has them, those of one round per run; below the current directory.
    No two drivers may share it. All of it can be fetched or made again, so it need not outlive the machine.
    """

    servers_max: int = Field(default=4, ge=1, le=64)
    """How many servers run at a time; further runs wait. Each holds a framework and, without spec.fold, a round's replies in memory."""

    content_bytes_max: int = Field(default=16_000_000_000, gt=0)
    """The largest message that is sent, and the largest model that is kept. Four billion parameters of 32 bits are 16 GB."""

    shard_bytes: int = Field(default=16_000_000, gt=0, multiple_of=8)
    """How messages are cut; as the aggregator cuts models, and for the same reason."""

    chunk_bytes: int = Field(default=1_000_000, gt=0, le=1_000_000, multiple_of=8)
    """One message of the bus. A default NATS server takes 1 MiB with headers."""
