"""Training with noise, as far as it is the same for every framework: what an app is told and given, and what is refused."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from collaborator_story import Apps, asked_once, invited, model_on, train

from fedplane.collaborator.apps import Answer
from fedplane.collaborator.frameworks import Unanswerable
from fedplane.collaborator.frameworks.functions import FunctionsApp, Translation, open_functions
from fedplane.runtime.memory import MemoryBus
from fedplane.schemas.facts import Declined
from fedplane.schemas.privacy_terms import LocalTerms

TERMS = LocalTerms(epsilon=3, delta=1e-5, clip=1, rounds=5)
TOLD = {"epsilon": 3, "delta": 1e-5, "multiplier": None, "clip": 1, "rounds": 5}

PRIVATE = """
def initial(config):
    return {}

def train(model, data, config, private):
    private.calls += 1
    return {"num-examples": 4, "loss": 0.5, "epsilon": 0.0}
"""
PLAIN = PRIVATE.replace(", private):", "):").replace("private.calls += 1", "")
INVITATION = {
    "task": "train", "training_round": 3, "cluster": "berlin", "position": 1, "clusters": 3, "data": "", "configuration": {},
    "run_configuration": {},
}  # fmt: skip


async def test_an_app_is_told_the_terms_and_an_app_that_would_ignore_them_is_not_asked(tmp_path: Path) -> None:
    bus, found = MemoryBus(), []

    async def look(directory: Path) -> Answer:
        found.append(json.loads((directory / "invitation.json").read_text()))
        return await train(directory)

    model = await model_on(bus)
    await asked_once(bus, invited(1, model=model, framework="torch", local_privacy=TERMS), Apps(look), tmp_path)
    refused = await asked_once(bus, invited(2, model=model, framework="flower", local_privacy=TERMS), Apps(look), tmp_path)

    assert [told["local_privacy"] for told in found] == [TOLD]
    assert isinstance(refused, Declined) and (refused.reason, refused.message) == (
        "bad-input",
        "the invitation cannot be answered: it asks for local differential privacy, which apps of flower do not have; name torch",
    )


class Counted:
    """Noise that costs one for each time that it was called."""

    def __init__(self) -> None:
        self.calls = 0

    def spent(self) -> Mapping[str, float]:
        return {"epsilon": float(self.calls)}


@pytest.fixture(autouse=True)
def _imports() -> Iterator[None]:
    before = list(sys.path)
    yield
    sys.path[:] = before
    sys.modules.pop("federated", None)


def opened(directory: Path, app: str, **translated: Any) -> FunctionsApp:
    (directory / "federated.py").write_text(app)
    return open_functions(directory, Translation(lambda model: {"w": np.zeros(1)}, lambda model, tensors: None, **translated))


def trained(app: FunctionsApp, **told: Any) -> dict[str, Any]:
    return app.train({**INVITATION, **told}, {"w": np.zeros(1)}).metrics


def test_what_the_noise_has_cost_is_said_by_who_makes_it_and_not_by_the_app(tmp_path: Path) -> None:
    app = opened(tmp_path, PRIVATE, privately=lambda invitation: Counted())

    assert trained(app, local_privacy=TOLD) == {"loss": 0.5, "epsilon": 1.0}


def test_an_app_that_takes_no_noise_is_refused_it_and_serves_other_runs(tmp_path: Path) -> None:
    app = opened(tmp_path, PLAIN, privately=lambda invitation: Counted())

    with pytest.raises(Unanswerable) as refused:
        trained(app, local_privacy=TOLD)

    assert (refused.value.reason, str(refused.value)) == (
        "not-private",
        "the run asks for local differential privacy, and train in federated.py takes no private; "
        "write train(model, data, config, private), and call it before training: model, optimizer, loader = private(...)",
    )
    assert trained(app) == {"loss": 0.5, "epsilon": 0.0}


def test_a_framework_without_noise_refuses_a_run_that_asks_for_it(tmp_path: Path) -> None:
    with pytest.raises(Unanswerable, match="apps of this framework cannot be trained with local differential privacy") as refused:
        trained(opened(tmp_path, PLAIN), local_privacy=TOLD)

    assert refused.value.reason == "not-supported"
