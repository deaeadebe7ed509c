"""An app that is a file of functions: what it is told, what of its model travels, and what is said when it is not as it should be."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedplane.collaborator.frameworks import Unanswerable
from fedplane.collaborator.frameworks.answers import Answer, Tensors
from fedplane.collaborator.frameworks.functions import FunctionsApp, Translation, open_functions

APP = """
import random
import numpy as np
CONFIG = {"rate": 0.5, "seed": 7}

def initial(config):
    return {"head.w": np.zeros(2), "base.w": np.full(2, random.random()), "base.n": np.array(3)}

def train(model, data, config):
    model["head.w"] += config["rate"]
    return {"num-examples": 4, "drawn": np.random.random(), "base": model["base.w"][0]}

def evaluate(model, data, config):
    return {"num-examples": 2, "told": float(config == %r), "there": data == "/data"}
"""
TOLD = {"rate": 0.25, "seed": 7, "proximal-mu": 0.1, "round": 3, "cluster": "berlin", "position": 1, "clusters": 3}


@pytest.fixture(autouse=True)
def _imports() -> Iterator[None]:
    before = list(sys.path)
    yield
    sys.path[:] = before
    sys.modules.pop("federated", None)


def opened(directory: Path, app: str = APP % TOLD) -> FunctionsApp:
    (directory / "federated.py").write_text(app)
    return open_functions(directory, Translation(dict, lambda model, tensors: model.update(copied(tensors))))


def copied(tensors: Tensors) -> Tensors:
    return {name: np.array(tensor) for name, tensor in tensors.items()}


def invitation(task: str, cluster: str = "berlin", **run_configuration: Any) -> dict[str, Any]:
    return {
        "task": task, "training_round": 3, "cluster": cluster, "position": 1, "clusters": 3, "data": "/data",
        "configuration": {"proximal-mu": 0.1}, "run_configuration": {"rate": 0.25, **run_configuration},
    }  # fmt: skip


def refusal(app: FunctionsApp, task: str, *model: Tensors, **run_configuration: Any) -> tuple[str, str]:
    with pytest.raises(Unanswerable) as refused:
        getattr(app, task)(invitation(task, **run_configuration), *model)
    return refused.value.reason, str(refused.value)


def test_an_app_is_told_its_defaults_the_strategy_and_the_run_and_where_it_is(tmp_path: Path) -> None:
    app = opened(tmp_path)
    model = app.initialize(invitation("initialize")).tensors or {}

    assert app.evaluate(invitation("evaluate"), model) == Answer(2, {"told": 1.0, "there": True})


def test_a_model_that_was_sent_is_trained_and_not_the_one_that_was_made(tmp_path: Path) -> None:
    app = opened(tmp_path)
    model = {**(app.initialize(invitation("initialize")).tensors or {}), "head.w": np.array([1.0, 2.0])}

    trained = app.train(invitation("train"), model)

    assert (trained.tensors or {})["head.w"].tolist() == [1.25, 2.25]
    assert model["head.w"].tolist() == [1.0, 2.0]


def test_chance_is_the_same_for_the_same_question_and_another_on_another_cluster(tmp_path: Path) -> None:
    app = opened(tmp_path)
    model = app.initialize(invitation("initialize")).tensors or {}
    asked = [invitation("train"), invitation("train"), invitation("train", "oslo"), invitation("train", seed=8)]
    drawn = [app.train(each, model).metrics["drawn"] for each in asked]

    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 3


def test_only_what_should_travels_and_the_rest_is_made_alike_everywhere(tmp_path: Path) -> None:
    app = opened(tmp_path, APP % TOLD + 'TRAVELS = ("head.*",)\n')
    model = app.initialize(invitation("initialize")).tensors or {}
    trained = [app.train(invitation("train", cluster), model) for cluster in ("berlin", "oslo")]

    assert list(model) == ["head.w"]
    assert [list(answer.tensors or {}) for answer in trained] == [["head.w"]] * 2
    assert trained[0].metrics["base"] == trained[1].metrics["base"]


def test_of_a_model_that_is_appended_to_travels_what_training_has_added(tmp_path: Path) -> None:
    (tmp_path / "federated.py").write_text(APP % TOLD)
    grown = Translation(dict, lambda model, tensors: model.update({"head.w": sum(tensors.values())}), added=lambda *seen: {"seen": seen})
    app = open_functions(tmp_path, grown)
    parts = {"head.w": np.array([1.0, 1.0]), "000001/oslo/head.w": np.array([2.0, 4.0])}
    model, tensors = (app.train(invitation("train"), parts).tensors or {})["seen"]

    assert (model["head.w"].tolist(), tensors) == ([3.25, 5.25], parts), "all parts, and not compared with what initial made"


def test_what_does_not_fit_is_said_with_the_mend(tmp_path: Path) -> None:
    app = opened(tmp_path, APP.replace("def evaluate", "def measure") % TOLD)
    silent = opened(tmp_path, APP.replace('return {"num-examples": 4', 'model = {"num-examples": 4') % TOLD)
    nothing = opened(tmp_path, APP % TOLD + 'TRAVELS = ("heads.*",)\n')
    model = app.initialize(invitation("initialize")).tensors or {}

    assert refusal(app, "train", model, rat=1) == (
        "load-failed",
        "spec.config sets rat, and CONFIG in federated.py has rate, seed; mend either",
    )
    assert refusal(app, "train", {"head.w": model["head.w"]}) == (
        "wrong-layout",
        "the federation's model is not one that initial in federated.py makes: 'base.w' is missing; 'base.n' is missing",
    )
    assert refusal(app, "evaluate", model) == (
        "not-supported",
        "federated.py has no function evaluate; write evaluate(model, data, config), or set spec.rounds.evaluate to false",
    )
    assert refusal(silent, "train", model) == (
        "app-raised", "train returned a NoneType; it must return a dict of numbers with 'num-examples'",
    )  # fmt: skip
    assert refusal(nothing, "initialize") == (
        "load-failed", "no tensor travels by TRAVELS = ('heads.*',) in federated.py; the model has head.w, base.w, base.n",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("app", "said"),
    [
        ("def initial(config): ...", "federated.py has no function train; write federated.py with initial(config) and"),
        ("import magic", "federated.py cannot be loaded: ModuleNotFoundError: No module named 'magic'; install the app's dependencies"),
        (APP % TOLD + "CONFIG = {'round': 1}", "CONFIG in federated.py must be a dict without round, cluster, position, clusters"),
        (APP % TOLD + "TRAVELS = 'head.*'", 'TRAVELS in federated.py is one text; it must be a tuple of patterns, as in ("head.*",)'),
    ],
    ids=["a function is missing", "a dependency is missing", "a default that nobody could set", "patterns that are no list of them"],
)
def test_an_app_that_is_none_is_refused_by_name(tmp_path: Path, app: str, said: str) -> None:
    with pytest.raises(Unanswerable) as refused:
        opened(tmp_path, app)

    assert refused.value.reason == "load-failed"
    assert said in str(refused.value)
