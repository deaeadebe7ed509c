"""What only a framework itself can tell of an app that is a file of functions: models that are none, and tensors that cannot travel."""

from pathlib import Path

import pytest
from framework_story import Case, asking
from machine_story import app_python

pytestmark = pytest.mark.app

TORCH = """
import torch

CONFIG = {"make": ""}

def initial(config):
    module = torch.nn.Linear(1, 1)
    module.register_buffer("eighth", torch.zeros(1, dtype=torch.float8_e4m3fn))
    module.register_buffer("view", torch.arange(6.0).reshape(2, 3).T)
    if config["make"] == "tensors":
        return module.state_dict()
    if config["make"] == "a module":
        del module.eighth
    return module

def train(model, data, config):
    return {"num-examples": 1, "loss": torch.tensor([1.0, 2.0])}
"""

SKLEARN = """
from sklearn.linear_model import SGDClassifier

def initial(config):
    return SGDClassifier()

def train(model, data, config): ...
"""


def case(directory: Path, framework: str, app: str) -> Case:
    (directory / "app").mkdir()
    (directory / "app/federated.py").write_text(app)
    return Case(framework, directory / "app", app_python(), frozenset())


async def test_what_pytorch_cannot_send_is_said_by_name(tmp_path: Path) -> None:
    async with asking(case(tmp_path, "torch", TORCH), tmp_path / "home") as it:
        tensors = await it.failure(it.request("initialize", make="tensors"))
        eighth = await it.failure(it.request("initialize"))
        made = it.request("initialize", make="a module")
        await it.app.ask(made, 60)
        trained = await it.failure(it.request("train", made / "update.safetensors", make="a module"))

    assert tensors == ("load-failed", "initial in federated.py made a OrderedDict; it must make a torch.nn.Module")
    assert eighth[0] == "not-supported"
    assert eighth[1].startswith("tensor 'eighth' cannot travel: ") and "Float8" in eighth[1]
    assert trained[0] == "app-raised"


async def test_an_estimator_that_has_seen_no_data_is_to_be_given_its_shapes(tmp_path: Path) -> None:
    async with asking(case(tmp_path, "sklearn", SKLEARN), tmp_path / "home") as it:
        refused = await it.failure(it.request("initialize"))

    assert refused == (
        "load-failed",
        "the SGDClassifier that initial in federated.py made has no coef_ and no intercept_; "
        "use a linear model, and let initial set coef_ and intercept_ to zeros of their shapes",
    )
