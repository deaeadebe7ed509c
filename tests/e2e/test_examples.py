"""The examples that are files of functions, by the commands of their pages, on one federation."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from machine_story import REPOSITORY, app_python
from safetensors.numpy import load_file

pytestmark = pytest.mark.app

FEDPLANE = str(Path(sys.executable).parent / "fedplane")
TORCH, SKLEARN, LORA, XGBOOST = "04-plain-pytorch", "05-scikit-learn", "06-lora", "07-xgboost"


def told(*command: str | Path, cwd: Path) -> str:
    environment = {**os.environ, "FEDPLANE_PYTHON": str(app_python())}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the examples, their data dealt out, and a federation of three clusters, each with what one cluster of every example has."""
    directory = tmp_path_factory.mktemp("examples")
    for name in (TORCH, SKLEARN, LORA, XGBOOST):
        shutil.copytree(REPOSITORY / "examples" / name, directory / name, ignore=shutil.ignore_patterns("data", "base.pt", "__pycache__"))
    told(app_python(), "shards.py", "data", cwd=directory / TORCH)
    told(app_python(), "prepare.py", "data", cwd=directory / LORA)
    offered = [
        {"name": name, "claims": {**tumours, **scans}}
        for (name, tumours), scans in zip(claims(directory / TORCH).items(), claims(directory / LORA).values(), strict=True)
    ]
    (directory / "clusters.yaml").write_text(yaml.safe_dump({"clusters": offered}))
    told(FEDPLANE, "up", "--detach", "--clusters", "clusters.yaml", "--port", "0", cwd=directory)
    try:
        yield directory
    finally:
        told(FEDPLANE, "down", cwd=directory)


def claims(example: Path) -> dict[str, dict[str, str]]:
    """What each of the example's clusters claims, with its data where it is."""
    clusters = yaml.safe_load((example / "clusters.yaml").read_text())["clusters"]
    return {of["name"]: {claim: str(example / path) for claim, path in of["claims"].items()} for of in clusters}


def learnt(run: str, example: str, examples: Path) -> tuple[list[float], dict[str, Any]]:
    """The accuracy of the run's models, one after the other, and the tensors of the last."""
    told(FEDPLANE, "submit", f"{example}/federatedlearning.yaml", cwd=examples)
    told(FEDPLANE, "watch", run, cwd=examples)
    view = json.loads(told(FEDPLANE, "get", run, "-o", "json", cwd=examples))
    told(FEDPLANE, "model", run, "-o", f"{run}.safetensors", cwd=examples)
    accuracy = [of["metrics"]["accuracy"] for of in view["rounds"] if of["task"] == "evaluate"]
    return accuracy, load_file(examples / f"{run}.safetensors")


def test_hospitals_learn_with_plain_pytorch_which_tumours_are_benign(examples: Path) -> None:
    accuracy, model = learnt("tumours-torch", TORCH, examples)

    assert len(accuracy) == 5 and accuracy[-1] > 0.93, accuracy
    assert {name: (tensor.dtype.name, tensor.shape) for name, tensor in model.items()} == {
        "0.running_mean": ("float32", (30,)), "0.running_var": ("float32", (30,)), "0.num_batches_tracked": ("int64", ()),
        "1.weight": ("float32", (16, 30)), "1.bias": ("float32", (16,)), "3.weight": ("float32", (1, 16)), "3.bias": ("float32", (1,)),
    }  # fmt: skip


def test_hospitals_learn_with_scikit_learn_which_tumours_are_benign(examples: Path) -> None:
    accuracy, model = learnt("tumours-sklearn", SKLEARN, examples)

    assert len(accuracy) == 5 and accuracy[-1] > 0.93, accuracy
    assert {name: (tensor.dtype.name, tensor.shape) for name, tensor in model.items()} == {
        "coef_": ("float64", (1, 30)), "intercept_": ("float64", (1,)),
    }  # fmt: skip


def test_hospitals_grow_trees_by_which_tumours_are_benign_and_the_model_has_them_all(examples: Path) -> None:
    accuracy, model = learnt("tumours-xgboost", XGBOOST, examples)

    assert len(accuracy) == 5 and accuracy[-1] > 0.93, accuracy
    grown = {f"{round_:06}/{hospital}/trees" for round_ in range(1, 6) for hospital in ("aachen", "bergen", "coimbra")}
    assert model.keys() == {"trees"} | grown
    assert {tensor.dtype.name for tensor in model.values()} == {"uint8"}


def test_a_transformer_is_fine_tuned_by_a_tenth_of_its_numbers(examples: Path) -> None:
    accuracy, model = learnt("scans-lora", LORA, examples)

    assert len(accuracy) == 5 and accuracy[-1] > 0.8, accuracy
    assert sum(tensor.size for tensor in model.values()) == 1_866
    assert {name.rpartition(".")[2] for name in model if not name.startswith("head.")} == {"lora_a", "lora_b"}
