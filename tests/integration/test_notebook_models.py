"""Whoever gives the validation notebook a wrong file is told in one sentence what is wrong with it and what to do."""

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from notebook_story import EXAMPLE, execute, notebook_python
from safetensors.numpy import save_file

from fedplane.cli.manifest import Manifest, Origin
from fedplane.cli.manifest import write as manifest
from fedplane.schemas.resources import StrategySpec

pytestmark = pytest.mark.app

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
SHAPES = {
    "conv1.weight": (16, 1, 3, 3), "conv1.bias": (16,), "conv2.weight": (32, 16, 3, 3), "conv2.bias": (32,),
    "dense1.weight": (32, 1568), "dense1.bias": (32,), "dense2.weight": (10, 32), "dense2.bias": (10,),
}  # fmt: skip

LOAD = """
import json, sys
from pathlib import Path
import model_file
from mnist_app import task

def outcome(call, *arguments):
    try:
        return str(call(*arguments))
    except model_file.Unusable as error:
        return str(error)

def loaded(place):
    file = model_file.find(place)
    model_file.load(task.Net(), file)
    return f"{file.name} {json.dumps(model_file.note(file))}"

print(json.dumps({
    "models": {place: outcome(loaded, Path(place)) for place in sys.argv[1].split()},
    "digits": {place: outcome(model_file.digits, Path(place)) for place in sys.argv[2].split()},
}))
"""


def write(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    path.parent.mkdir(exist_ok=True)
    save_file({name: np.zeros(shape, np.float32) for name, shape in shapes.items()}, path)


def manifest_of(file: Path, more: int = 0) -> bytes:
    """What `fedplane keep` writes beside the file."""
    digest = "blake3:" + 64 * "0"
    origin = Origin(
        run="mnist-01234567", namespace="team", name="mnist", framework="flower", strategy=StrategySpec(),
        round=10, training_round=5, training_rounds=6, members=("amsterdam", "berlin"), metrics={"accuracy": 0.9654, "loss": 0.1348},
        digest=digest, layout_digest=digest, submitted_at=NOON, ended_at=NOON,
    )  # fmt: skip
    return manifest(Manifest(file=file.name, bytes=file.stat().st_size + more, file_digest=digest, origin=origin))


def told(directory: Path, models: str, digits: str) -> dict[str, dict[str, str]]:
    """What becomes of each, in one process: most of its time goes into importing PyTorch."""
    environment = {"PYTHONPATH": f"{EXAMPLE}:{EXAMPLE.parent / '01-mnist'}"}
    done = subprocess.run(
        [notebook_python(), "-c", LOAD, models, digits], cwd=directory, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, str]] = json.loads(done.stdout)
    return found


def test_a_model_is_found_and_checked_before_it_is_judged(tmp_path: Path) -> None:
    write(tmp_path / "demo/model.safetensors", SHAPES)
    write(tmp_path / "demo/older.safetensors", SHAPES)
    (tmp_path / "demo/summary.json").write_text(json.dumps({"run": "mnist-1", "rounds": 6, "participants": ["a", "b"], "accuracy": 0.961}))
    write(tmp_path / "claim/mnist.safetensors", SHAPES)
    (tmp_path / "claim/mnist.manifest.json").write_bytes(manifest_of(tmp_path / "claim/mnist.safetensors"))
    write(tmp_path / "plain.safetensors", SHAPES)
    write(tmp_path / "torn/model.safetensors", SHAPES)
    (tmp_path / "torn/manifest.json").write_bytes(manifest_of(tmp_path / "torn/model.safetensors", more=8))
    write(tmp_path / "odd/model.safetensors", SHAPES)
    (tmp_path / "odd/manifest.json").write_text("{}")
    write(tmp_path / "several/a.safetensors", SHAPES)
    write(tmp_path / "several/b.safetensors", SHAPES)
    write(tmp_path / "other/model.safetensors", {"weights": (250_000,), "bias": (3, 5)})
    write(tmp_path / "wide/model.safetensors", SHAPES | {"dense2.weight": (12, 32), "dense2.bias": (12,)})
    (tmp_path / "empty").mkdir()
    whole = (tmp_path / "demo/model.safetensors").read_bytes()
    (tmp_path / "half.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "digits.npz").write_text("no digits")

    size = len(whole)
    found = told(
        tmp_path, "demo claim plain.safetensors torn odd several other wide empty half.safetensors nowhere", "nowhere.npz digits.npz"
    )

    half, *_ = found["models"].pop("half.safetensors").partition(" (")
    assert half == "half.safetensors cannot be read as safetensors"
    assert found["models"] == {
        "demo": 'model.safetensors {"run": "mnist-1", "training rounds": 6, "clusters": "a, b", "accuracy": 0.961}',
        "claim": 'mnist.safetensors {"run": "mnist-01234567", "strategy": "fedavg", "training rounds": "5 of 6", '
        '"clusters": "amsterdam, berlin", "measured there": "accuracy 0.965, loss 0.135"}',
        "plain.safetensors": "plain.safetensors {}",
        "torn": f"torn/model.safetensors has {size} bytes and its manifest is of a file of {size + 8}; "
        "keep the model again with `fedplane keep`",
        "odd": "odd/manifest.json says nothing that is understood of a run (KeyError('origin')); move it away, or keep the model again",
        "several": "several has 2 models, a.safetensors, b.safetensors; set MODEL to one of them",
        "other": "other/model.safetensors is the model of another app: bias has shape [3, 5] and is unknown to the network, "
        "it lacks conv1.bias, it lacks conv1.weight and 7 more; set MODEL to a model of examples/01-mnist",
        "wide": "wide/model.safetensors is the model of another app: dense2.bias has shape [12] and not [10], "
        "dense2.weight has shape [12, 32] and not [10, 32]; set MODEL to a model of examples/01-mnist",
        "empty": "empty has no file that ends in .safetensors; has the run completed? `fedplane model RUN -o FILE` downloads one",
        "nowhere": "there is nothing at nowhere; set MODEL to a file of `fedplane model RUN -o FILE`, or to the directory that it is in",
    }
    assert [said.endswith("; `python shards.py data` in examples/01-mnist makes them") for said in found["digits"].values()] == [True, True]


def test_the_notebook_ends_with_the_sentence_and_no_traceback(tmp_path: Path) -> None:
    write(tmp_path / "other/model.safetensors", {"weights": (4,)})

    done = execute(tmp_path, MODEL=str(tmp_path / "other"))

    shown = done.stderr.rpartition("------------------")[2].strip()
    assert done.returncode != 0
    assert shown.startswith(f"{tmp_path}/other/model.safetensors is the model of another app: ")
    assert shown.endswith("set MODEL to a model of examples/01-mnist")
