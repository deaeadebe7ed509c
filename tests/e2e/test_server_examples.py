"""The examples whose apps have servers of their own, by the commands of their pages and on one federation.

What they come to is compared with what their own training makes of the same data without any federation.
"""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from machine_story import REPOSITORY, app_python
from numpy.testing import assert_allclose
from page_story import text, typed
from safetensors.numpy import load_file

pytestmark = pytest.mark.app

DIGITS, HOSPITALS, STRATEGY, SECRET = "01-mnist", "04-plain-pytorch", "08-own-strategy", "09-secure-aggregation"
OUTCOME = re.compile(r"(Completed: .*?) accuracy=([\d.]+)")
QUANTIZED = 1e-4
"""Each hospital rounds to 2 x 8 / 2**22, three add that up, and their weights add up to 0.43 of SecAgg+'s maximum: 3e-5 in a round."""


class Desk:
    """A directory with the examples, and a shell."""

    def __init__(self, directory: Path) -> None:
        self.examples = directory
        own = {name: value for name, value in os.environ.items() if not name.startswith("FEDPLANE_")}
        self.environment = own | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def type(self, *commands: str, into: str) -> str:
        """What the commands write, one after the other in one shell, in an example's directory; each has to succeed."""
        script = ["bash", "-e", "-c", "\n".join(commands)]
        done = subprocess.run(
            script, cwd=self.examples / into, env=self.environment, capture_output=True, text=True, timeout=180, check=False
        )
        assert done.returncode == 0, f"{commands}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def follow(self, example: str) -> str:
        """What the commands of the example's page write. The federation is not in another terminal but behind this one."""
        commands = typed(f"examples/{example}/README.md")
        up = [f"{command} --detach --port 0" if command.startswith("fedplane up") else command for command in commands]
        return self.type(*up, into=example)

    def model(self, example: str) -> list[np.ndarray]:
        tensors = load_file(self.examples / example / "model.safetensors")
        return [tensors[name] for name in sorted(tensors)]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    desk = Desk(tmp_path_factory.mktemp("examples"))
    for name in (DIGITS, HOSPITALS, STRATEGY, SECRET):
        left_out = shutil.ignore_patterns(".*", "data", "__pycache__")
        shutil.copytree(REPOSITORY / "examples" / name, desk.examples / name, ignore=left_out)
    (desk.examples / DIGITS / ".venv").symlink_to(app_python().parent.parent)
    desk.type(f"../{DIGITS}/.venv/bin/python shards.py data", into=HOSPITALS)
    _let_each_cluster_be_a_hospital_as_well(desk.examples)
    yield desk
    desk.type("fedplane down", into=STRATEGY)


def _let_each_cluster_be_a_hospital_as_well(examples: Path) -> None:
    """So that one federation does for both examples, wherever their pages look for it."""
    files = [examples / name / "clusters.yaml" for name in (STRATEGY, HOSPITALS)]
    clusters, hospitals = (yaml.safe_load(file.read_text())["clusters"] for file in files)
    for cluster, hospital in zip(clusters, hospitals, strict=False):  # there is one cluster more
        cluster["claims"]["tumours"] = str(examples / HOSPITALS / hospital["claims"]["tumours"])
    files[0].write_text(yaml.safe_dump({"clusters": clusters}))
    (examples / HOSPITALS / ".fedplane").symlink_to(examples / STRATEGY / ".fedplane")


@pytest.fixture(scope="module")
def said(desk: Desk) -> str:
    """What the page of the strategy's example has written; the federation stays up."""
    return desk.follow(STRATEGY)


def outcome(written: str) -> tuple[str, float]:
    """How a run ended, and with which accuracy, as a page or a terminal shows it."""
    ended = OUTCOME.search(written)
    assert ended, written
    return ended[1], float(ended[2])


def assert_kept(page: str, written: str) -> None:
    """What the page promises came true; of a few hundred images and tumours, another processor may see two or three otherwise."""
    ending, accuracy = outcome(page)
    assert outcome(written) == (ending, pytest.approx(accuracy, abs=0.01))


def test_a_strategy_of_ones_own_hardly_heeds_a_cluster_that_mislabels_and_stops_when_the_model_is_good(desk: Desk, said: str) -> None:
    page = text(f"examples/{STRATEGY}/README.md")
    data = desk.examples / STRATEGY / "data"
    weighed = list(_averaged(data, lambda accuracy, examples: accuracy**2))
    plain = list(_averaged(data, lambda accuracy, examples: examples))

    assert_kept(page, said)
    assert [accuracy >= 0.865 for _, accuracy in weighed] == [False, False, False, True]
    for learnt, expected in zip(desk.model(STRATEGY), weighed[-1][0], strict=True):
        assert_allclose(learnt, expected, rtol=1e-3, atol=1e-5)
    assert plain[-1][1] == pytest.approx(float(re.findall(r"has then come to ([\d.]+)", page)[0]), abs=0.01)
    shown = [line for line in page.splitlines() if line.startswith("round 1: node")]
    assert sorted(line for line in said.splitlines() if line.startswith("round 1: node")) == shown


def _averaged(data: Path, weigh: Callable[[float, int], float]) -> Iterator[tuple[list[np.ndarray], float]]:
    """The model after each of four rounds, and its accuracy, when `weigh` makes a weight of a cluster's accuracy and number of examples."""
    example = REPOSITORY / "examples" / STRATEGY
    config = tomllib.loads((example / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]
    digits = SimpleNamespace(**runpy.run_path(str(example / "digits/model.py")))
    shards = [digits.load(data / f"{cluster}.npz", "train_") for cluster in ("amsterdam", "berlin", "copenhagen", "dublin")]
    images, labels = digits.load(data / "heldout.npz")
    arrays = digits.initial()
    for _ in range(4):
        learnt = [digits.train(arrays, *shard, steps=config["local-steps"], learning_rate=config["learning-rate"]) for shard in shards]
        accuracies = [digits.accuracy(each, images[::2], labels[::2]) for each in learnt]
        weights = [weigh(accuracy, len(shard[1])) for accuracy, shard in zip(accuracies, shards, strict=True)]
        arrays = [np.average(part, axis=0, weights=weights).astype(np.float32) for part in zip(*learnt, strict=True)]
        yield arrays, digits.accuracy(arrays, images[1::2], labels[1::2])


def test_secure_aggregation_comes_to_the_mean_of_weights_that_nobody_saw_but_for_their_rounding(desk: Desk, said: str) -> None:
    written = desk.follow(SECRET)
    (model,) = desk.model(SECRET)
    view = json.loads(desk.type(f"fedplane get secure-aggregation -o json --state ../{STRATEGY}/.fedplane", into=SECRET))
    plain = _plain_mean(desk.examples / HOSPITALS / "data", rounds=3)

    assert_kept(text(f"examples/{SECRET}/README.md"), written)
    assert_allclose(model, plain, rtol=0, atol=QUANTIZED)
    assert np.abs(model - plain).max() > 1e-7, "what is masked are integers"
    assert sorted(view["metrics"]) == ["accuracy", "loss"], "and no status of Flower's own"
    assert [of["training_round"] for of in view["rounds"]] == [1] * 5 + [2] * 5 + [3] * 5, "four stages, and an evaluation"


def _plain_mean(data: Path, rounds: int) -> np.ndarray:
    """What the hospitals come to by federated averaging."""
    tumours = SimpleNamespace(**runpy.run_path(str(REPOSITORY / "examples" / SECRET / "tumours/model.py")))
    shards = [tumours.load(data / f"{hospital}.npz", "train") for hospital in ("aachen", "bergen", "coimbra")]
    weights = np.zeros(31)
    for _ in range(rounds):
        learnt = [tumours.train(weights, *shard) for shard in shards]
        weights = np.average(learnt, axis=0, weights=[len(shard[1]) for shard in shards])
    return weights
