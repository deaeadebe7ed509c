"""Whole runs by strategies that remember, compare or need a metric, on the memory bus: what they give is what numpy alone gives."""

from pathlib import Path

import numpy as np
import pytest
from federation_story import TINY, ended, federation, learning, model_bytes, submit
from safetensors.numpy import load

from fedplane.runtime.memory import MemoryBus
from fedplane.schemas.facts import Completed, Fact, Failed, Folded, Measured

EXAMPLES = np.array([10.0, 20.0, 30.0])
TARGETS = (1, 2, 3)


async def run_by(strategy: str, tmp_path: Path, **parameters: float) -> tuple[MemoryBus, list[Fact]]:
    bus = MemoryBus()
    spec = {"strategy": {"name": strategy, "parameters": parameters}, "rounds": {"evaluate": False, "attempts": 1}}
    async with federation(bus, tmp_path) as it:
        run = await submit(bus, learning(**spec))
        facts = await ended(bus, run)
        it.check()
    return bus, facts


async def model_of(bus: MemoryBus, facts: list[Fact]) -> np.ndarray:
    completed = facts[-1]
    assert isinstance(completed, Completed)
    return flat(load(await model_bytes(bus, completed.model)))


def flat(model: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([model[name].ravel() for name in TINY])


def initial() -> np.ndarray:
    random = np.random.default_rng(0)
    return flat({name: random.standard_normal(shape).astype(np.float32) for name, shape in TINY.items()})


def trained(model: np.ndarray) -> np.ndarray:
    """What `NumpyApp` makes of a model on the three clusters, in float64."""
    return np.array([model - np.float32(0.5 / 3) * (model - np.float32(target)) for target in TARGETS]).astype(np.float64)


def mean(updates: np.ndarray) -> np.ndarray:
    return (10.0 * updates[0] + 20.0 * updates[1] + 30.0 * updates[2]) / 60.0


def by_momentum() -> np.ndarray:
    model, velocity = initial(), np.zeros(38)
    for _ in range(2):
        velocity = 0.9 * velocity + (mean(trained(model)) - model)
        model = (model + 1.0 * velocity).astype(np.float32)
    return model


def by_adam() -> np.ndarray:
    model, first, second = initial(), np.zeros(38), np.zeros(38)
    for _ in range(2):
        change = mean(trained(model)) - model
        first = 0.9 * first + (1 - 0.9) * change
        second = 0.99 * second + (1 - 0.99) * change**2
        model = (model + 0.1 * first / (np.sqrt(second) + 0.001)).astype(np.float32)
    return model


@pytest.mark.parametrize(("strategy", "reference", "vectors"), [("fedavgm", by_momentum, 1), ("fedadam", by_adam, 2)])
async def test_what_the_server_remembers_goes_from_round_to_round_and_the_model_is_right_to_the_bit(
    tmp_path, strategy, reference, vectors
) -> None:
    bus, facts = await run_by(strategy, tmp_path)
    remembered = {
        round_: sum(fact.memory.bytes for fact in facts if isinstance(fact, Folded) and fact.round == round_ and fact.memory)
        for round_ in range(3)
    }

    assert (await model_of(bus, facts)).tolist() == reference().tolist()
    assert remembered == {0: 0, 1: 38 * 8 * vectors, 2: 38 * 8 * vectors}


def by_fairness() -> np.ndarray:
    model = initial()
    for _ in range(2):
        changes = trained(model) - model
        losses = np.array([np.square(model - np.float32(target)).sum() for target in TARGETS])
        sizes = 2 * losses * (changes**2).sum(axis=1) / 0.5**2 + losses**2 / 0.5
        model = (model + (losses**2 / 0.5) @ changes / sizes.sum()).astype(np.float32)
    return model


def by_clipping() -> np.ndarray:
    model = initial()
    for _ in range(2):
        changes = trained(model) - model
        norms = np.sqrt((changes**2).sum(axis=1))
        model = (model + np.average(changes * np.minimum(1, 2 / norms)[:, None], axis=0, weights=EXAMPLES)).astype(np.float32)
    return model


@pytest.mark.parametrize(
    ("strategy", "parameters", "reference"),
    [("qfedavg", {"q": 2, "clientLearningRate": 0.5}, by_fairness), ("normclip", {"norm": 2}, by_clipping)],
)
async def test_updates_are_compared_over_all_shards_before_they_are_folded(tmp_path, strategy, parameters, reference) -> None:
    bus, facts = await run_by(strategy, tmp_path, **parameters)

    assert await model_of(bus, facts) == pytest.approx(reference(), rel=1e-5)
    assert {(fact.round, fact.shard) for fact in facts if isinstance(fact, Measured)} == {(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)}


async def test_a_run_whose_app_does_not_report_what_its_strategy_needs_ends_with_what_to_report(tmp_path) -> None:
    _, facts = await run_by("fednova", tmp_path)
    failed = facts[-1]

    assert isinstance(failed, Failed)
    assert "has none of a, b, c: return the number of local steps from the app's train function" in failed.message
