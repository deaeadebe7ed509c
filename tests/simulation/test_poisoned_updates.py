"""One cluster of seven means harm: robust strategies keep the model where honest ones could have brought it, the mean does not."""

from pathlib import Path

import numpy as np
import pytest
from federation_story import FORGERS, TINY, ended, federation, learning, model_bytes, submit
from safetensors.numpy import load

from fedplane.runtime.memory import MemoryBus
from fedplane.schemas.facts import Completed

CLUSTERS = "abcdefg"
HARMFUL = "d"
ROUNDS = 2

ROBUST = {
    "krum": {"byzantine": 1}, "multikrum": {"byzantine": 1}, "bulyan": {"byzantine": 1}, "fedmedian": {}, "trimmedmean": {"beta": 0.2},
    "rfa": {},
}  # fmt: skip

NORM = 0.5


def initial() -> np.ndarray:
    random = np.random.default_rng(0)
    return np.concatenate([random.standard_normal(shape).astype(np.float32).ravel() for shape in TINY.values()]).astype(float)


def how_far_outside(model: np.ndarray) -> float:
    """How far the number that is furthest away is from where it could be if it had followed honest clusters, whichever they were."""
    low = high = initial()
    for _ in range(ROUNDS):
        low, high = low - 0.5 / 3 * (low - 1), high - 0.5 / 3 * (high - len(CLUSTERS))
    return float(np.maximum(low - model, model - high).max())


async def learned(directory: Path, strategy: str, parameters: dict[str, float], harm: str) -> np.ndarray:
    """The model of a run with a cluster that does this harm."""
    bus = MemoryBus()
    spec = {
        "strategy": {"name": strategy, "parameters": parameters}, "server": {"rounds": ROUNDS, "minAvailableClients": len(CLUSTERS)},
        "rounds": {"evaluate": False, "attempts": 1},
    }  # fmt: skip
    async with federation(bus, directory, CLUSTERS, **{HARMFUL: harm}) as it:
        *_, completed = await ended(bus, await submit(bus, learning(**spec)))
        it.check()
    assert isinstance(completed, Completed)
    tensors = load(await model_bytes(bus, completed.model))
    return np.concatenate([tensors[name].ravel() for name in TINY])


@pytest.mark.parametrize("harm", FORGERS)
@pytest.mark.parametrize(("strategy", "parameters"), ROBUST.items(), ids=ROBUST)
async def test_a_robust_strategy_lets_one_harmful_cluster_bring_the_model_nowhere(
    tmp_path: Path, strategy: str, parameters: dict[str, float], harm: str
) -> None:
    assert how_far_outside(await learned(tmp_path, strategy, parameters, harm)) < 1e-3


@pytest.mark.parametrize("harm", FORGERS)
async def test_the_mean_follows_a_harmful_cluster(tmp_path: Path, harm: str) -> None:
    assert how_far_outside(await learned(tmp_path, "fedavg", {}, harm)) > 0.1


@pytest.mark.parametrize("harm", FORGERS)
async def test_a_clipped_update_moves_the_model_by_no_more_than_its_norm(tmp_path: Path, harm: str) -> None:
    model = await learned(tmp_path, "normclip", {"norm": NORM}, harm)

    assert np.linalg.norm(model - initial()) < ROUNDS * NORM * 1.001
