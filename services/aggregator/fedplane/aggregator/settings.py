"""What an aggregator can be told; see `runtime.settings` for how."""

from pydantic import Field

from fedplane.runtime.settings import ServiceSettings

__all__ = ["AggregatorSettings"]


class AggregatorSettings(ServiceSettings):
    """An aggregator's settings."""

    shard_bytes: int = Field(default=16_000_000, gt=0, multiple_of=8)
    """The part of a model that one replica folds at a time. Its sums take twice that for float32, so a fold stays under 64 MB."""

    chunk_bytes: int = Field(default=1_000_000, gt=0, le=1_000_000, multiple_of=8)
    """One message. A default NATS server takes 1 MiB with headers; a million bytes leave room for them and are a multiple of every item
    size."""

    folds_at_once: int = Field(default=1, ge=1, le=64)
    """Shards that this replica folds at the same time. Reading and arithmetic overlap from 2 on, at that many times the memory."""
