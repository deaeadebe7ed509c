"""What an aggregator can be told; see `runtime.settings` for how."""

from pathlib import Path

from pydantic import Field

from fedplane.runtime.settings import ServiceSettings

__all__ = ["AggregatorSettings"]


class AggregatorSettings(ServiceSettings):
    """An aggregator's settings."""

    shard_bytes: int = Field(default=16_000_000, gt=0, multiple_of=8)
    """The part of a model that one replica folds at a time.
    A fold holds the result, a window of chunks and their sums, 32 MB.
    A server optimizer adds the model's part and its own memory, before and after.
    """

    chunk_bytes: int = Field(default=1_000_000, gt=0, le=1_000_000, multiple_of=8)
    """One message. A default NATS server takes 1 MiB with headers; a million bytes leave room for them and cut no element in two."""

    folds_at_once: int = Field(default=1, ge=1, le=64)
    """Shards that this replica folds at the same time. Each has its own memory; all of them share the threads."""

    noise_secret: Path | None = None
    """A file with 32 random characters or more, the same for all aggregators and for nobody else: what noise in models is drawn from.
    Whoever has it can take the noise off. None: runs with spec.privacy.differentialPrivacy.central are refused, and in those that have
    started the work is left to other aggregators.
    """

    fold_threads: int | None = Field(default=None, ge=1, le=64)
    """Threads that hash and fold, for all shards together; else one for each core that this process may use, up to eight.
    The result is the same to the bit.
    """
