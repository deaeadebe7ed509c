"""A run that has ended, with a model on the bus that every safetensors reader opens."""

from datetime import UTC, datetime, timedelta

import numpy as np
from federation_story import learning
from safetensors.numpy import save

from fedplane.runtime.ports import Bus
from fedplane.schemas.facts import Aggregated, Completed, Fact, Submitted
from fedplane.schemas.models import Model, Task, model_digest
from fedplane.schemas.subjects import model_piece

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
RUN = "tiny-01234567"


def file_of(value: float) -> bytes:
    """What is kept of a model: a safetensors file."""
    return save({"weight": np.full((3, 4), value, dtype=np.float32), "bias": np.ones(4, dtype=np.float32)}, {"order": '["weight", "bias"]'})


async def stored(bus: Bus, round_: int, run: str = RUN) -> Model:
    """The model of a round, whose number fills its tensors, in two shards."""
    whole = file_of(round_)
    begin = 8 + int.from_bytes(whole[:8], "little")
    flat = memoryview(whole)[begin:]
    layout = await bus.bulk.write(model_piece(run, round_, "a", "layout"), memoryview(whole)[:begin], 16)
    shards = (
        await bus.bulk.write(model_piece(run, round_, "a", 0), flat[:32], 16),
        await bus.bulk.write(model_piece(run, round_, "a", 1), flat[32:], 16),
    )
    return Model(run=run, round=round_, bytes=len(flat), layout=layout, shards=shards, digest=model_digest(layout, shards))


async def completed(bus: Bus, run: str = RUN, hours: int = 1) -> list[Fact]:
    """A run of two training rounds that ended so many hours after noon, as facts; its models are on the bus."""
    models = [await stored(bus, round_, run) for round_ in range(3)]
    made = [
        Aggregated(
            run=run, round=model.round, at=NOON, task=Task.TRAIN if model.round else Task.INITIALIZE, training_round=model.round,
            members=("a", "b"), weight=30, metrics={"loss": 1 / (1 + model.round)}, model=model,
        )
        for model in models
    ]  # fmt: skip
    end = Completed(run=run, at=NOON + timedelta(hours=hours), model=models[-1], metrics={"accuracy": 0.75})
    return [Submitted(run=run, at=NOON, resource=learning()), *made, end]
