"""Flower apps in their own environment, through the real runner: the example, and small apps that do what apps should not."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flower_story import MODS, OLDER, PROJECT, SMALL
from machine_story import app_python
from numpy.testing import assert_array_equal

from fedplane.collaborator.apps import Answer, AppProcess
from fedplane.collaborator.children import App, child_of
from fedplane.collaborator.frameworks import tensors
from fedplane.runtime.errors import AppFailed

EXAMPLE = Path(__file__).parents[2] / "examples/01-mnist"
PATIENCE_SECONDS = 120
"""For importing torch on a busy machine."""

pytestmark = pytest.mark.app


@pytest.fixture(scope="module")
def python() -> Path:
    return app_python()


@pytest.fixture(scope="module")
def shards(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("shards")
    subprocess.run([python, EXAMPLE / "shards.py", directory], check=True, capture_output=True)
    return directory


@pytest.fixture
def small(tmp_path: Path) -> Path:
    (tmp_path / "app").mkdir()
    (tmp_path / "app/pyproject.toml").write_text(PROJECT)
    (tmp_path / "app/small.py").write_text(SMALL)
    return tmp_path / "app"


def start(app: Path, python: Path, home: Path) -> AppProcess:
    home.mkdir(exist_ok=True)
    return AppProcess(child_of(App(app, "flower", python), home, os.environ), home / "app.log")


@asynccontextmanager
async def process(app: Path, python: Path, home: Path) -> AsyncIterator[AppProcess]:
    held = start(app, python, home)
    try:
        yield held
    finally:
        await held.close()


def request(home: Path, task: str, model: Path | None = None, **said: Any) -> Path:
    directory = home / f"request-{len(list(home.glob('request-*')))}"
    directory.mkdir()
    invitation = {
        "task": task, "run": "digits-1a2b3c4d", "round": 5, "training_round": 3, "cluster": "berlin", "position": 1, "clusters": 3,
        "data": "/data", "configuration": {"lr": 0.5}, "run_configuration": {},
    }  # fmt: skip
    (directory / "invitation.json").write_text(json.dumps({**invitation, **said}))
    if model:
        (directory / "model.safetensors").hardlink_to(model)
    return directory


async def first_model(app: AppProcess, home: Path, **said: Any) -> tuple[Answer, Path]:
    asked = request(home, "initialize", **said)
    return await app.ask(asked, PATIENCE_SECONDS), asked / "update.safetensors"


async def failure(app: AppProcess, asked: Path, deadline_seconds: float = PATIENCE_SECONDS) -> tuple[str, str]:
    with pytest.raises(AppFailed) as failed:
        await app.ask(asked, deadline_seconds)
    return failed.value.reason, str(failed.value)


async def test_the_example_trains_to_the_same_bits_in_whatever_process(python: Path, shards: Path, tmp_path: Path) -> None:
    said = {"configuration": {"learning-rate": 0.03}, "data": str(shards / "berlin.npz")}
    async with process(EXAMPLE, python, tmp_path / "one") as one, process(EXAMPLE, python, tmp_path / "two") as two:
        first, model = await first_model(one, tmp_path / "one")
        trained = [request(tmp_path / name, "train", model, **said) for name in ("one", "two")]
        answers = await asyncio.gather(one.ask(trained[0], PATIENCE_SECONDS), two.ask(trained[1], PATIENCE_SECONDS))
        measured = await one.ask(request(tmp_path / "one", "evaluate", trained[0] / "update.safetensors", **said), PATIENCE_SECONDS)

    assert first == Answer(weight=1, metrics={}, configuration={"learning-rate": 0.03})
    assert answers[0] == answers[1]
    assert (trained[0] / "update.safetensors").read_bytes() == (trained[1] / "update.safetensors").read_bytes()
    assert list(tensors.read(model))[:2] == ["conv1.weight", "conv1.bias"]
    assert set(measured.metrics) == {"accuracy", "loss"} and measured.metrics["accuracy"] > 0.5


async def test_an_app_initializes_trains_and_evaluates_and_keeps_its_state(small: Path, python: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with process(small, python, home) as app:
        first, model = await first_model(app, home)
        trained = request(home, "train", model)
        answers = [await app.ask(trained, PATIENCE_SECONDS) for _ in range(2)]
        measured = await app.ask(request(home, "evaluate", model), PATIENCE_SECONDS)

    assert first == Answer(weight=1, metrics={}, configuration={"lr": 0.5, "on": True})
    assert answers == [Answer(weight=4, metrics={"round": 3, "times": times}) for times in (1, 2)]
    assert measured == Answer(weight=4, metrics={"partition": 1, "of": 3, "named": 1})
    assert_array_equal(tensors.read(trained / "update.safetensors")["0"], np.array([0.5, 1.5, 2.5], np.float32), strict=True)
    assert_array_equal(tensors.read(trained / "update.safetensors")["1"], np.array(7), strict=True)


async def test_an_app_keeps_its_state_when_its_process_is_killed(small: Path, python: Path, tmp_path: Path) -> None:
    home, answers = tmp_path / "home", []
    for behave in ("well", "hang", "well"):  # what it did in the message that it did not answer does not count
        async with process(small, python, home) as app:
            _, model = await first_model(app, home)
            asked = request(home, "train", model, run_configuration={"behave": behave})
            if behave == "hang":
                assert (await failure(app, asked, 1))[0] == "timed-out"
            else:
                answers.append(await app.ask(asked, PATIENCE_SECONDS))

    assert [answer.metrics["times"] for answer in answers] == [1, 2]


async def test_an_app_that_misbehaves_is_told_what_it_did(small: Path, python: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with process(small, python, home) as app:
        _, model = await first_model(app, home)
        failures = {
            behave: await failure(app, request(home, "train", model, run_configuration={"behave": behave}))
            for behave in ("raise", "diverge", "reshape", "forget", "return an array")
        }
        failures["hang"] = await failure(app, request(home, "train", model, run_configuration={"behave": "hang"}), 1)

    assert failures == {
        "raise": ("app-raised", "RuntimeError: no column of that name"),
        "diverge": ("not-finite", "tensor '0' has values that are infinite or not a number; has training diverged?"),
        "reshape": ("wrong-layout", "the app must return the tensors that it was sent: '0' is float32[3, 1] and was float32[3]"),
        "forget": ("no-weight", "the app did not say how many examples it used; return the metric num-examples"),
        "return an array": ("app-raised", "the app's train function returned a ndarray; it must return a Message"),
        "hang": ("timed-out", "the app did not answer within 1 s and was stopped; give its rounds more time, or less work"),
    }


async def test_a_server_app_that_cannot_begin_says_what_to_do(small: Path, python: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    behaviours = ("raise", "say nothing", "query", "add noise")
    wrong = (*({"behave": behave} for behave in behaviours), {"names": "weights"}, {"unheard": 1})
    async with process(small, python, home) as app:
        failures = [await failure(app, request(home, "initialize", run_configuration=overrides)) for overrides in wrong]

    declare = "or declare [tool.fedplane] initial-model in the app's pyproject.toml"
    drive = "or say spec.strategy {name: app}, by which the ServerApp itself decides"
    assert failures == [
        ("app-raised", f"the ServerApp raised RuntimeError: no database here; mend it, {declare}"),
        ("not-supported", f"the ServerApp sent nothing to its clients; let it begin with training, {declare}"),
        (
            "not-supported",
            "the ServerApp's first message is of type 'query' with records []; "
            f"it must be of type 'train' with one array record and one config record, {declare}, {drive}",
        ),
        (
            "not-supported",
            "the ServerApp's strategy is DifferentialPrivacyServerSideFixedClipping, whose noise would be missing "
            f"as only its first message is used; take another, {drive}",
        ),
        ("not-supported", "the strategy names its records ['config', 'weights']; keep the names 'arrays' and 'config'"),
        (
            "load-failed",
            "the run configuration does not fit the app: Key 'unheard' is not present in the main dictionary; "
            "spec.config may only set what [tool.flwr.app.config] in the app's pyproject.toml has",
        ),
    ]


async def test_a_declared_first_model_needs_no_server_app(small: Path, python: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (small / "pyproject.toml").write_text(PROJECT + '[tool.fedplane]\ninitial-model = "small:initial_model"\n')
    async with process(small, python, home) as app:
        answer, model = await first_model(app, home, run_configuration={"behave": "raise"})

    assert answer == Answer(weight=1, metrics={})
    assert {name: tensor.tolist() for name, tensor in tensors.read(model).items()} == {"w": [1, 1], "b": [0]}


async def test_an_app_of_the_older_kind_works_as_it_is(small: Path, python: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (small / "small.py").write_text(OLDER)
    async with process(small, python, home) as app:
        first, model = await first_model(app, home)
        trained = request(home, "train", model)
        answer = await app.ask(trained, PATIENCE_SECONDS)
        measured = await app.ask(request(home, "evaluate", model), PATIENCE_SECONDS)

    assert first == Answer(weight=1, metrics={}, configuration={"lr": 1.0})
    assert (answer, measured) == (Answer(weight=4, metrics={"loss": 0.25}), Answer(weight=6, metrics={"loss": 0.5, "accuracy": 0.75}))
    assert tensors.read(trained / "update.safetensors")["0"].tolist() == [0.5, 1.5, 2.5]


@pytest.mark.parametrize(
    "private",
    [
        "DifferentialPrivacyServerSideFixedClipping(strategy, 1.0, 1.0, 1)",
        "DifferentialPrivacyClientSideAdaptiveClipping(strategy, 0.01, 100)",
        "DPFedAvgFixed(strategy, 1, 1.0)",
    ],
)
async def test_an_app_of_the_older_kind_does_not_lose_its_noise_unnoticed(small: Path, python: Path, tmp_path: Path, private: str) -> None:
    made = f"from flwr.server.strategy import {private.partition('(')[0]}\nstrategy = {private}\nserver = ServerApp("
    (small / "small.py").write_text(OLDER.replace("server = ServerApp(", made))
    async with process(small, python, tmp_path / "home") as app:
        reason, message = await failure(app, request(tmp_path / "home", "initialize"))

    assert reason == "not-supported"
    assert message.startswith(f"the ServerApp's strategy is {private.partition('(')[0]}, whose noise would be missing")


async def test_a_clients_mods_do_their_work(small: Path, python: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (small / "small.py").write_text(MODS)
    async with process(small, python, home) as app:
        first, model = await first_model(app, home)
        trained = request(home, "train", model, configuration=dict(first.configuration))
        await app.ask(trained, PATIENCE_SECONDS)

    said = (home / "app.log").read_text()
    assert_array_equal(tensors.read(trained / "update.safetensors")["0"], np.full(4, 0.125, np.float32), strict=True)
    assert all(mod in said for mod in ("fixedclipping_mod", "LocalDpMod", "Total array elements sent", "Outgoing message size")), said


async def test_two_apps_with_packages_of_one_name_do_not_meet(small: Path, python: Path, tmp_path: Path) -> None:
    other = shutil.copytree(small, tmp_path / "other")
    (other / "small.py").write_text(OLDER)
    async with process(small, python, tmp_path / "one") as one, process(other, python, tmp_path / "two") as two:
        first, _ = await first_model(one, tmp_path / "one")
        second, _ = await first_model(two, tmp_path / "two")

    assert (first.configuration, second.configuration) == ({"lr": 0.5, "on": True}, {"lr": 1.0})


async def test_an_app_is_not_taken_for_one_whose_package_of_that_name_is_installed(small: Path, python: Path, tmp_path: Path) -> None:
    (small / "mnist_app.py").write_text(SMALL)  # the example, which is installed in this environment
    (small / "pyproject.toml").write_text(PROJECT.replace("small:", "mnist_app:"))
    async with process(small, python, tmp_path / "home") as app:
        first, _ = await first_model(app, tmp_path / "home")

    assert first.configuration == {"lr": 0.5, "on": True}


async def test_an_environment_with_another_version_of_the_framework_is_refused(small: Path, tmp_path: Path) -> None:
    python = tmp_path / "environment/bin/python"
    await (await asyncio.create_subprocess_exec(sys.executable, "-m", "venv", "--without-pip", python.parents[1])).wait()
    described = next(python.parents[1].glob("lib/python*/site-packages")) / "flwr-2.0.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: flwr\nVersion: 2.0.0\n")
    async with process(small, python, tmp_path / "home") as app:
        failed = await failure(app, request(tmp_path / "home", "initialize"))

    assert failed == ("load-failed", "the app's environment has flwr 2.0.0; install flwr>=1.38,<1.42 in it")


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        (
            "small.py",
            "import magic",
            "clientapp 'small:client' of FILE cannot be loaded: ModuleNotFoundError: No module named 'magic'; "
            "add the package that has it to the dependencies in that file, and to the app's environment if it brings one",
        ),
        (
            "small.py",
            "server = 3",
            "clientapp 'small:client' of FILE cannot be loaded: there is no such component in 'small'; mend the name, or the module",
        ),
        (
            "pyproject.toml",
            PROJECT.replace("small:client", "small.client:app"),
            "clientapp 'small.client:app' of FILE cannot be loaded: ModuleNotFoundError: No module named 'small.client'; "
            "'small' is not a package; the app has no such module, so mend the name",
        ),
        ("small.py", "1 / 0", "clientapp 'small:client' of FILE cannot be loaded: ZeroDivisionError: division by zero; mend the app"),
        ("small.py", "client = 3", "clientapp 'small:client' of FILE is a int; it must be a flwr.clientapp.ClientApp"),
        ("pyproject.toml", "[project]", "APP holds no Flower app: Invalid pyproject.toml"),
        (
            "pyproject.toml",
            PROJECT.replace('clientapp = "small:client"', ""),
            "APP holds no Flower app: Invalid pyproject.toml:\n"
            '  - Property "clientapp" missing in [tool.flwr.app.components]; mend its pyproject.toml',
        ),
        (
            "pyproject.toml",
            PROJECT.replace('clientapp = "small:client"', 'agentapp = "small:client"'),
            'FILE has no clientapp below [tool.flwr.app.components]; write clientapp = "module:attribute"',
        ),
        ("pyproject.toml", PROJECT.replace('version = "1"', 'version = "1"\nrequires-python = "<3"'), "FILE requires Python <3, and "),
        (
            "pyproject.toml",
            PROJECT.replace('version = "1"', 'version = "1"\nrequires-python = "new"'),
            "FILE has requires-python 'new', which is no comparison with a version; write it as in >=3.11,<3.13",
        ),
    ],
    ids=[
        "a missing dependency", "no such component", "no such module", "an error of its own", "not an app", "an empty project",
        "no component", "an app of another kind", "another Python", "no Python's version",
    ],
)  # fmt: skip
async def test_an_app_that_cannot_be_loaded_is_told_in_which_file_and_what_to_do(
    small: Path, python: Path, tmp_path: Path, file: str, content: str, said: str
) -> None:
    home = tmp_path / "home"
    (small / file).write_text(content)
    async with process(small, python, home) as app:
        reason, message = await failure(app, request(home, "initialize"))

    assert reason == "load-failed"
    assert message.replace(str(small / "pyproject.toml"), "FILE").replace(str(small), "APP").startswith(said)
