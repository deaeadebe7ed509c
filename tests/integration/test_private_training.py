"""Training with noise on each example's gradient, in the app's own process: the example does it well, and what goes wrong is refused.

All questions go to one process, for to import PyTorch and Opacus takes seconds; each cluster has a directory of its own.
"""

import json
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from framework_story import PATIENCE_SECONDS, Case, asking
from machine_story import REPOSITORY, app_python
from safetensors.numpy import load_file, save_file

from fedplane.collaborator.apps import AppProcess
from fedplane.runtime.errors import AppFailed
from fedplane.schemas.models import Metrics

pytestmark = [pytest.mark.app, pytest.mark.asyncio(loop_scope="module")]

EXAMPLE = REPOSITORY / "examples/14-private-training/federated.py"
TERMS = {"epsilon": None, "delta": 1e-4, "multiplier": 2.0, "clip": 1.0, "rounds": 3}

APP = """
import sys
from torch import nn
import hospital
from hospital import evaluate, initial

CONFIG = {**hospital.CONFIG, "behave": "well"}

def train(model, data, config, private):
    behave = config["behave"]
    if behave == "never":
        return hospital.train(model, data, config, lambda *three, epochs: three)
    if behave == "in vain":
        return hospital.train(model, data, config, lambda *three, epochs: (*private(*three, epochs)[:2], []))
    if behave == "twice":
        return hospital.train(model, data, config, lambda *three, epochs: private(*private(*three, epochs), epochs))
    if behave == "no batch":
        return hospital.train(model, data, config, lambda *three, epochs: private(*three, 0))
    if behave == "more":
        return hospital.train(model, data, config, lambda *three, epochs: private(*three, 1))
    if behave == "mixing":
        return hospital.train(nn.Sequential(nn.BatchNorm1d(30), model), data, config, private)
    if behave == "without":
        sys.modules["opacus"] = None
    return {**hospital.train(model, data, config, private), "epsilon": 0.0}
"""
"""The example, which says that it has spent nothing, and can be told to do what apps should not do."""


@dataclass
class Hospital:
    """One cluster of a run, whose questions all go to one process."""

    process: AppProcess
    home: Path
    data: Path
    asked: int = 0

    async def ask(self, task: str, model: Path | None = None, training_round: int = 1, terms: Any = None, **said: Any) -> Metrics:
        """What is measured; the update is `updated`. What is `said` is in the run's configuration."""
        self.asked += 1
        self.updated.parent.mkdir(parents=True)
        invitation = {
            "task": task, "run": "private-1a2b3c4d", "round": self.asked, "training_round": training_round, "cluster": self.home.name,
            "position": 1, "clusters": 3, "data": str(self.data), "configuration": {}, "run_configuration": said,
        }  # fmt: skip
        (self.updated.parent / "invitation.json").write_text(json.dumps({**invitation, "local_privacy": terms} if terms else invitation))
        if model is not None:
            (self.updated.parent / "model.safetensors").hardlink_to(model)
        return (await self.process.ask(self.updated.parent, PATIENCE_SECONDS)).metrics

    async def failure(self, model: Path, **said: Any) -> tuple[str, str]:
        with pytest.raises(AppFailed) as failed:
            await self.ask("train", model, **said)
        return failed.value.reason, str(failed.value)

    @property
    def updated(self) -> Path:
        return self.home / f"round-{self.asked}" / "update.safetensors"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def process(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AppProcess]:
    app, home = tmp_path_factory.mktemp("app"), tmp_path_factory.mktemp("home")
    shutil.copy(EXAMPLE, app / "hospital.py")
    (app / "federated.py").write_text(APP)
    async with asking(Case("torch", app, app_python(), frozenset()), home) as held:
        yield held.app


@pytest.fixture
def hospitals(process: AppProcess, tmp_path: Path) -> list[Hospital]:
    """Three that have a measure of tumours; the benign ones are smaller in everything."""
    chance, parts = np.random.default_rng(1), {}
    for part, tumours in (("train", 120), ("validation", 40)):
        benign = chance.integers(0, 2, tumours)
        parts |= {part: np.exp(chance.normal(1 - 2 * benign[:, None], 1, (tumours, 30))), f"{part}_benign": benign}
    np.savez(tmp_path / "tumours.npz", **parts)
    return [Hospital(process, tmp_path / name, tmp_path / "tumours.npz") for name in ("aachen", "bergen", "coimbra")]


@pytest_asyncio.fixture(loop_scope="module")
async def model(hospitals: list[Hospital]) -> Path:
    """The first one: zeros."""
    await hospitals[0].ask("initialize")
    return hospitals[0].updated


async def test_hospitals_learn_together_and_each_keeps_to_its_budget(hospitals: list[Hospital], model: Path, tmp_path: Path) -> None:
    terms, spent = {**TERMS, "epsilon": 1.0, "multiplier": None}, []
    for number in (1, 2, 3):
        told = [await hospital.ask("train", model, number, terms) for hospital in hospitals]
        updates = [load_file(hospital.updated) for hospital in hospitals]
        model = tmp_path / f"model-{number}.safetensors"
        save_file({name: np.mean([update[name] for update in updates], 0) for name in updates[0]}, model)
        spent.append(told)
    measured = await hospitals[0].ask("evaluate", model, 3)

    assert {name: tensor.shape for name, tensor in updates[0].items()} == {"weight": (1, 30), "bias": (1,)}
    assert measured["accuracy"] > 0.9
    assert all(metrics["delta"] == 1e-4 for told in spent for metrics in told)
    first, second, third = ({metrics["epsilon"] for metrics in told} for told in spent)  # each spends the same
    assert 0.3 < min(first) == max(first) < min(second) == max(second) < min(third) == max(third) <= 1
    assert max(third) > 0.98, "the noise is not more than the budget asks for"


async def test_noise_is_other_noise_each_time_and_no_noise_is_none(hospitals: list[Hospital], model: Path) -> None:
    questions = [(hospital, terms) for terms in (TERMS, None) for hospital in (hospitals[0], hospitals[0])]
    answers = []
    for hospital, terms in questions:
        answers.append((await hospital.ask("train", model, terms=terms), hospital.updated.read_bytes()))
    (once, noisy), (again, noisier), (plain, calm), (_, calmer) = answers

    assert noisy != noisier and calm == calmer
    assert (sorted(once), plain) == (["delta", "epsilon"], {"epsilon": 0.0})
    assert once["epsilon"] < again["epsilon"], "a question that is asked twice has cost twice"


async def test_what_was_spent_is_known_to_the_next_process_and_presumed_if_it_is_lost(hospitals: list[Hospital], model: Path) -> None:
    aachen, bergen, coimbra = hospitals
    first, second = [await aachen.ask("train", model, number, TERMS) for number in (1, 2)]
    (kept,) = aachen.home.glob("*.json")
    bergen.home.mkdir()
    shutil.copy(kept, bergen.home)
    unlike = await bergen.failure(model, training_round=3, terms=TERMS)
    late = await coimbra.ask("train", model, 2, TERMS)
    kept.write_text("[]")
    damaged = await aachen.failure(model, training_round=3, terms=TERMS)

    assert (first["epsilon"] < second["epsilon"], late) == (True, second)
    assert (unlike[0], unlike[1].split("says ")[1]) == (
        "not-private", "what private-1a2b3c4d/aachen has spent, and this is private-1a2b3c4d/bergen",
    )  # fmt: skip
    assert (damaged[0], damaged[1].split(" from ")[0]) == ("not-private", "what this cluster has spent cannot be read")


@pytest.mark.parametrize(
    ("terms", "behave", "reason", "said"),
    [
        (TERMS, "never", "not-private", "the run asks for noise, and train has not called private; call private(model"),
        (TERMS, "in vain", "not-private", "train has made no step with the optimizer that private returned"),
        (TERMS, "twice", "not-private", "train has called private twice, and one model is trained"),
        (TERMS, "no batch", "not-private", "train is to go 0 times through 4 batches"),
        (TERMS, "mixing", "not-private", "Opacus cannot train this with noise: "),
        ({**TERMS, "epsilon": 2.0}, "well", "budget-spent", "epsilon would be 2.66 after this training, and this cluster may spend 2"),
        ({**TERMS, "epsilon": 2.0}, "more", "budget-spent", "epsilon would be 2.66 after this training, and this cluster may spend 2"),
        ({**TERMS, "epsilon": 1e-9, "multiplier": None}, "well", "budget-spent", "no noise is enough for epsilon 1e-09 in the 60 steps"),
        ({**TERMS, "multiplier": 1e-200}, "well", "not-private", "with so little noise epsilon is inf; raise noiseMultiplier"),
    ],
)
async def test_what_protects_nobody_is_refused(
    hospitals: list[Hospital], model: Path, terms: dict[str, Any], behave: str, reason: str, said: str
) -> None:
    failed = await hospitals[0].failure(model, terms=terms, behave=behave)

    assert failed[0] == reason and failed[1].startswith(said), failed
    assert not list(hospitals[0].home.glob("*.json")), "nothing was sent, so nothing was spent"


async def test_an_environment_without_opacus_is_told_what_to_install(hospitals: list[Hospital], model: Path) -> None:
    await hospitals[0].ask("train", model, terms=TERMS, behave="without")

    assert (await hospitals[0].failure(model, terms=TERMS))[1].split(": ")[0] == "the app's environment has no Opacus"
