"""A run completes, and its model gets a version in MLflow and a directory to be served from, by the commands of the example's page.

MLflow is its own client on a database, without a server. ONNX's reference computes what was exported, and numpy what the network is.
"""

import asyncio
import json
import os
import shlex
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import NatsServer
from federation_story import learning
from kept_story import NOON
from machine_story import REPOSITORY, app_python
from page_story import filled_in, typed
from safetensors.numpy import load, save

from fedplane.runtime.nats import Limits, NatsBus, open_bus
from fedplane.schemas.facts import Aggregated, Completed, Fact, Submitted
from fedplane.schemas.models import Model, Task, model_digest
from fedplane.schemas.subjects import model_piece

pytestmark = pytest.mark.app

EXAMPLE = "examples/12-publish-a-model"
RUN = "mnist-01234567"
SHAPES = {
    "conv1.weight": (16, 1, 3, 3), "conv1.bias": (16,), "conv2.weight": (32, 16, 3, 3), "conv2.bias": (32,),
    "dense1.weight": (32, 1568), "dense1.bias": (32,), "dense2.weight": (10, 32), "dense2.bias": (10,),
}  # fmt: skip
"""The first example's network."""

COMPUTE = """
import sys, numpy
from onnx.reference import ReferenceEvaluator
images = numpy.random.default_rng(0).random((3, 1, 28, 28), dtype=numpy.float32)
(scores,) = ReferenceEvaluator(sys.argv[1]).run(["output"], {"input": images})
print(scores.tolist())
"""


def computed(tensors: Mapping[str, Any]) -> Any:
    """What the network computes of the same images, by its definition."""
    values = np.random.default_rng(0).random((3, 1, 28, 28), dtype=np.float32)
    for layer in ("conv1", "conv2"):
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(values, ((0, 0), (0, 0), (1, 1), (1, 1))), (3, 3), (2, 3))
        seen = np.einsum("nchwij,ocij->nohw", windows, tensors[f"{layer}.weight"]) + tensors[f"{layer}.bias"][:, None, None]
        batch, channels, height, width = seen.shape
        values = np.maximum(seen, 0).reshape(batch, channels, height // 2, 2, width // 2, 2).max((3, 5))
    hidden = np.maximum(values.reshape(3, -1) @ tensors["dense1.weight"].T + tensors["dense1.bias"], 0)
    return hidden @ tensors["dense2.weight"].T + tensors["dense2.bias"]


def weights() -> bytes:
    random = np.random.default_rng(0)
    return save({name: random.normal(0, 0.1, shape).astype(np.float32) for name, shape in SHAPES.items()})


async def complete(url: str) -> None:
    """State a run that has ended with a model of the first example's network."""
    async with open_bus(url, name="test", source="/test", limits=Limits()) as bus:
        for fact in await story(bus, RUN):
            await bus.log.state(fact)


async def story(bus: NatsBus, run: str) -> tuple[Fact, ...]:
    whole = weights()
    begin = 8 + int.from_bytes(whole[:8], "little")
    layout = await bus.bulk.write(model_piece(run, 1, "a", "layout"), memoryview(whole)[:begin], 64_000)
    shard = await bus.bulk.write(model_piece(run, 1, "a", 0), memoryview(whole)[begin:], 64_000)
    model = Model(run=run, round=1, bytes=shard.bytes, layout=layout, shards=(shard,), digest=model_digest(layout, (shard,)))
    made = Aggregated(
        run=run, round=1, at=NOON, task=Task.TRAIN, training_round=1, members=("a", "b"), weight=30, metrics={"accuracy": 0.5}, model=model
    )
    submitted = Submitted(run=run, at=NOON, resource=learning(name="mnist"))
    return submitted, made, Completed(run=run, at=NOON + timedelta(hours=1), model=model, metrics={"accuracy": 0.75})


def publishing_python() -> Path:
    """The app's Python, if it has what publishing needs. Otherwise skip on a laptop and fail in CI."""
    python = app_python()
    if not next(python.parents[1].glob("lib/python*/site-packages/mlflow"), None):
        (pytest.fail if "CI" in os.environ else pytest.skip)("the example's environment has no MLflow; `make test` adds it")
    return python


@contextmanager
def publisher(directory: Path, url: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The program of the page, started as the page says; its address, and the environment for the other terminal."""
    _, command, _ = typed(f"{EXAMPLE}/README.md")
    words = shlex.split(command)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "FEDPLANE_NATS_URL": url, "PUBLISH_TOKEN": "t0ken", "HOOK": "Bearer t0ken"}
    program = [str(publishing_python()), str(REPOSITORY / EXAMPLE / words[1]), *words[2:], "--port", "0"]
    process = subprocess.Popen(program, cwd=directory, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1], environment
    finally:
        process.kill()
        process.wait()


def forwarded(to: str, environment: dict[str, str], directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = filled_in(
        typed(f"{EXAMPLE}/README.md")[2], {"http://127.0.0.1:8090": to, "fedplane": f"{sys.executable} -m fedplane.cli.main"}
    )
    return subprocess.run(
        [*shlex.split(command), "--header-env", "Authorization=HOOK", "--once", *options],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def answered(to: str, body: bytes, headers: dict[str, str]) -> int:
    """The status with which the program answers what no forwarder of ours sends it."""
    try:
        with urllib.request.urlopen(urllib.request.Request(to, body, headers)) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_a_model_is_registered_and_can_be_served_when_its_run_completes(nats_server: NatsServer, tmp_path: Path) -> None:
    asyncio.run(complete(nats_server.url))
    with publisher(tmp_path, nats_server.url) as (to, environment):
        known = {"Authorization": "Bearer t0ken", "ce-type": Completed.type}
        odd = [
            answered(to, b'{"run": "mnist-01234567"}', {"ce-type": Completed.type}),
            answered(to, b'{"run": "mnist-01234567"}', known | {"ce-type": Submitted.type}),
            answered(to, b'{"run": "../etc"}', known),
            answered(to, b"[]", known),
        ]
        once = forwarded(to, environment, tmp_path)
        twice = forwarded(to, environment, tmp_path, "--name", "second")

    assert odd == [401, 204, 400, 400]
    said = [(done.returncode, done.stdout) for done in (once, twice)]
    assert said == [(0, "3 fed.v1.run.mnist-01234567.completed delivered\n")] * 2, (once, twice)
    kept = tmp_path / f"published/kept/{RUN}/model.safetensors"
    assert kept.read_bytes() == weights()
    with sqlite3.connect(tmp_path / "mlflow.db") as registry:
        versions = registry.execute("select name, version, source, run_id from model_versions").fetchall()
        tags = dict(registry.execute("select key, value from model_version_tags").fetchall())
        metrics = registry.execute("select key, value, step from metrics").fetchall()
    ((name, version, source, _),) = versions
    assert (name, version, tags["fedplane.run"], tags["fedplane.members"], metrics) == ("mnist", 1, RUN, "a, b", [("accuracy", 0.75, 1)])
    assert (Path(source.removeprefix("file://")) / "model.safetensors").read_bytes() == weights()
    assert json.loads((Path(source.removeprefix("file://")) / "manifest.json").read_text())["origin"]["run"] == RUN
    served = tmp_path / "published/serving/mnist/1"
    assert [path.name for path in served.iterdir()] == ["model.onnx"]
    scores = json.loads(subprocess.check_output([app_python(), "-c", COMPUTE, served / "model.onnx"]))
    np.testing.assert_allclose(scores, computed(load(weights())), rtol=1e-4, atol=1e-5)
