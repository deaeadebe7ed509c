"""Whole runs by SCAFFOLD on the memory bus, with the client that the how-to prints."""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federation_story import Answer, NumpyApp, ended, federation, learning, model_bytes, submit
from safetensors.numpy import load, load_file, save_file
from scaffold_story import CLUSTERS, LR, OPTIMUM, STEPS, Tensors, drifting, gradient, initial, printed_client

from fedplane.runtime.memory import MemoryBus
from fedplane.schemas.facts import Completed, Contributed, Fact, Failed


@dataclass
class Quadratic(NumpyApp):
    """Trains towards the cluster's own optimum, with corrections or without."""

    corrects: bool = True
    kept: Any = None

    async def ask(self, directory: Path, deadline: datetime) -> Answer:
        asked = json.loads((directory / "invitation.json").read_text())
        if asked["task"] == "initialize":
            save_file(initial(), directory / "update.safetensors")
            return Answer(1, {})
        sent, position = load_file(directory / "model.safetensors"), asked["position"]
        if self.corrects:
            where = (asked["training_round"], position, asked["clusters"])
            update, self.kept = printed_client()(sent, self.kept, gradient(position), STEPS, LR, *where)
        else:
            update = drifting(sent, position)
        save_file(update, directory / "update.safetensors")
        return Answer(position + 1, {})


async def model_by(strategy: str, tmp_path: Path, **rounds: Any) -> Tensors:
    bus = MemoryBus()
    spec = {
        "strategy": {"name": strategy}, "rounds": {"evaluate": False, **rounds},
        "server": {"rounds": 30, "minAvailableClients": CLUSTERS},
    }  # fmt: skip
    async with federation(bus, tmp_path, "abcd") as it:
        it.apps.update({cluster: Quadratic(corrects=strategy == "scaffold") for cluster in "abcd"})
        facts = await ended(bus, await submit(bus, learning(**spec)))
    completed = facts[-1]
    assert isinstance(completed, Completed)
    return dict(load(await model_bytes(bus, completed.model)))


async def test_thirty_rounds_of_scaffold_end_at_the_optimum_and_those_of_federated_averaging_do_not(tmp_path) -> None:
    averaged, corrected = await model_by("fedavg", tmp_path / "one"), await model_by("scaffold", tmp_path / "other")

    assert np.linalg.norm(averaged["w"] - OPTIMUM) > 0.3
    assert corrected["w"] == pytest.approx(OPTIMUM, abs=1e-8)
    assert corrected["control.counted"].round().tolist() == [30, 30, 30, 30]


async def test_the_control_variates_are_those_of_all_clusters_when_each_round_asks_half_of_them(tmp_path) -> None:
    corrected = await model_by("scaffold", tmp_path, invite=2, quorum=2)

    assert np.linalg.norm(corrected["w"] - OPTIMUM) < 0.05
    assert max(corrected["control.counted"].round()) == 30


async def test_a_model_without_control_variates_is_refused_before_anybody_trains(tmp_path) -> None:
    bus = MemoryBus()
    async with federation(bus, tmp_path) as it:
        facts: list[Fact] = await ended(bus, await submit(bus, learning(strategy={"name": "scaffold"})))
        it.check()

    assert isinstance(facts[-1], Failed)
    assert facts[-1].message.endswith(
        "scaffold needs tensors whose names begin with 'control.', and the model has none: "
        "let the app's initial model have them, or choose another strategy"
    )
    assert {fact.round for fact in facts if isinstance(fact, Contributed)} == {0, 1, 2}, "three attempts to initialize"
