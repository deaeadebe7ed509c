"""How a request's directory becomes an answer's, whatever the framework."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedplane.collaborator.frameworks import Unanswerable, tensors
from fedplane.collaborator.frameworks.answers import Answer, Tensors
from fedplane.collaborator.frameworks.working import work


class Adding:
    """An app that adds one, and remembers its last invitation."""

    invitation: dict[str, Any]

    def initialize(self, invitation: dict[str, Any]) -> Answer:
        self.invitation = invitation
        return Answer(1, {}, {"w": np.zeros(3, complex if invitation["data"] == "complex" else np.float32)}, {"lr": 0.5})

    def train(self, invitation: dict[str, Any], model: Tensors) -> Answer:
        return Answer(2, {"loss": 0.25}, {"w": model["w"] + 1})

    def evaluate(self, invitation: dict[str, Any], model: Tensors) -> Answer:
        return Answer(3, {"sum": model["w"].sum()})


def request(directory: Path, task: str, data: str = "/said") -> Path:
    (directory / "invitation.json").write_text(json.dumps({"task": task, "data": data}))
    tensors.write(directory / "model.safetensors", {"w": np.ones(3, np.float32)})
    return directory


def measured(directory: Path) -> object:
    return json.loads((directory / "metrics.json").read_text())


def test_an_app_that_trains_leaves_its_update_and_what_it_measured(tmp_path: Path) -> None:
    work(Adding(), request(tmp_path, "train"))

    assert tensors.read(tmp_path / "update.safetensors")["w"].tolist() == [2, 2, 2]
    assert measured(tmp_path) == {"weight": 2, "metrics": {"loss": 0.25}, "configuration": {}}


def test_an_app_that_evaluates_leaves_no_update(tmp_path: Path) -> None:
    work(Adding(), request(tmp_path, "evaluate"))

    assert measured(tmp_path) == {"weight": 3, "metrics": {"sum": 3}, "configuration": {}}
    assert not (tmp_path / "update.safetensors").exists()


def test_what_is_appended_need_not_have_the_tensors_of_the_model(tmp_path: Path) -> None:
    class Growing(Adding):
        def train(self, invitation: dict[str, Any], model: Tensors) -> Answer:
            return Answer(2, {}, {"trees": np.arange(5, dtype=np.uint8)})

    asked = request(tmp_path, "train")
    with pytest.raises(Unanswerable) as refused:
        work(Growing(), asked)
    (asked / "invitation.json").write_text(json.dumps({"task": "train", "data": "/said", "appends": True}))
    work(Growing(), asked)

    assert refused.value.reason == "wrong-layout"
    assert tensors.read(asked / "update.safetensors")["trees"].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("given", "seen"), [("", "/said"), ("/mnt/data", "/mnt/data")], ids=["not given", "given"])
def test_a_container_may_see_its_data_elsewhere(tmp_path: Path, given: str, seen: str) -> None:
    app = Adding()
    work(app, request(tmp_path, "initialize"), given)

    assert app.invitation == {"task": "initialize", "data": seen, "home": str(tmp_path.parent)}


def test_another_user_can_read_what_is_left(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        work(Adding(), request(tmp_path, "initialize"))
    finally:
        os.umask(before)

    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("update.safetensors", "metrics.json")] == [0o644, 0o644]


@pytest.mark.parametrize(
    ("task", "data", "said"),
    [
        ("dance", "", "a runner can initialize, train, evaluate and reply; it was asked to dance"),
        ("initialize", "complex", "tensor 'w' of dtype complex128 cannot be stored"),
    ],
    ids=["another task", "tensors that the format has not"],
)
def test_what_no_runner_can_do_is_refused(tmp_path: Path, task: str, data: str, said: str) -> None:
    with pytest.raises(Unanswerable) as refused:
        work(Adding(), request(tmp_path, task, data))

    assert (refused.value.reason, str(refused.value)[: len(said)]) == ("not-supported", said)
