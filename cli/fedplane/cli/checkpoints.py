"""A run's older models: which of them are still stored, and the one that a person wants."""

from fedplane.cli.archives import archive_of, facts_in
from fedplane.runtime.errors import BadInput
from fedplane.runtime.ports import Bus
from fedplane.schemas.facts import Aggregated, Fact
from fedplane.schemas.models import Model
from fedplane.schemas.subjects import layouts_of_models

__all__ = ["checkpoint", "checkpoints"]


async def checkpoint(bus: Bus, run: str, training_round: int) -> Model:
    """The model after a training round, 0 for the initial one. Raises BadInput, with those that are stored, if it is not."""
    stored = await checkpoints(bus, run)
    if training_round in stored:
        return stored[training_round]
    those = ", ".join(str(number) for number in sorted(stored))
    raise BadInput(
        f"the model of training round {training_round} of {run} is not stored; "
        + (f"those of {those} are (spec.rounds.checkpoints says how many of the last ones stay)" if stored else "there is none")
    )


async def checkpoints(bus: Bus, run: str) -> dict[int, Model]:
    """The models that are stored, by training round. The facts name every model there was, the layouts tell which are there."""
    made = [(fact.training_round, fact.model) for fact in await _aggregated(bus, run) if fact.model is not None]
    stored = await bus.bulk.stored(layouts_of_models(run))
    return {number: model for number, model in made if f"{model.layout.subject}.0" in stored}


async def _aggregated(bus: Bus, run: str) -> list[Aggregated]:
    found: list[Fact] = []
    archived = await archive_of(bus, run)
    if archived is not None:
        found = [record.fact async for record in facts_in(bus, archived)]
    else:
        async for batch in bus.log.tail([Aggregated.pattern(run=run)]):
            found += [record.fact for record in batch.records]
            if batch.live:
                break
    return [fact for fact in found if isinstance(fact, Aggregated)]
