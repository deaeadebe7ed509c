"""OpenFL workspaces in an environment that is made for them: the example, the optimizer's treatment, and plans that are refused."""

import asyncio
import os
import shutil
import signal
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from framework_story import PATIENCE_SECONDS, Asking, Case, asking
from machine_story import Machine
from numpy.testing import assert_allclose, assert_array_equal
from openfl_story import ENVIRONMENTS, WORKSPACE, openfl_python
from process_story import process_of

from fedplane.cli import requests, runs
from fedplane.cli.federation import federation
from fedplane.collaborator.apps import Answer
from fedplane.collaborator.children import plain_python
from fedplane.collaborator.frameworks import tensors
from fedplane.runtime.nats import open_bus
from fedplane.schemas.facts import Completed

GOLDEN = Path(__file__).parents[1] / "golden"

PLAN = """
aggregator: {{settings: {{rounds_to_train: 1, secure_aggregation: false}}}}
network: {{defaults: plan/defaults/network.yaml}}
collaborator: {{settings: {{opt_treatment: {treatment}}}}}
data_loader: {{template: src.Data, settings: {{examples: 4}}}}
task_runner: {{template: src.Runner}}
tasks:
  tuned: {{function: validate, kwargs: {{apply: local}}}}
  check: {{function: validate, kwargs: {{apply: global}}}}
  train: {{function: step, aggregation_type: {{template: openfl.interface.aggregation_functions.WeightedAverage}}}}
"""

SOURCE = """
import pathlib
import numpy as np
from openfl.federated import DataLoader, TaskRunner
from openfl.utilities import TensorKey

class Data(DataLoader):
    def __init__(self, data_path, examples):
        self.path, self.examples = data_path, examples
    def get_feature_shape(self):
        return None
    def get_train_data_size(self):
        return self.examples
    def get_valid_data_size(self):
        return 2

class Runner(TaskRunner):
    # A step adds the steps that the optimizer has made so far; `mine` is held out, and counts the trainings of this cluster.
    # As with some frameworks there are no tensors of the optimizer before it has made a step, and they cannot be set.
    def __init__(self, **kwargs):
        super().__init__(**kwargs, tensor_dict_split_fn_kwargs={"holdout_tensor_names": ["mine"]})
        self.w, self.mine, self.steps = np.zeros(2), np.zeros(1), np.zeros(1, np.int64)
        self.opt_in_model = False
    def get_tensor_dict(self, with_opt_vars):
        return {"w": self.w, "mine": self.mine, **({"opt": self.steps} if with_opt_vars and self.steps[0] else {})}
    def set_tensor_dict(self, tensor_dict, with_opt_vars):
        if with_opt_vars and self.steps[0]:
            self.steps = tensor_dict["opt"]
    def initialize_tensorkeys_for_functions(self):
        pass
    def get_required_tensorkeys_for_function(self, function, apply="", **kwargs):
        if apply == "local":
            return [("w", "LOCAL", 0, False, ("trained",))]
        opt = ["opt"] if self.opt_in_model and not apply else []
        return [(name, "GLOBAL", 0, False, ("model",)) for name in ["w", *opt]] + [("mine", "LOCAL", 0, False, ("model",))]
    def step(self, col_name, round_num, input_tensor_dict, **kwargs):
        if self.opt_treatment == "RESET":
            self.steps = np.zeros(1, np.int64)
        self.steps = input_tensor_dict.get("opt", self.steps) + 1
        self.mine = input_tensor_dict["mine"] + 1
        self.w = input_tensor_dict["w"] + self.steps
        if pathlib.Path("stumble").exists():
            raise RuntimeError("the disk has a hole")
        sent = {"w": self.w}
        if self.opt_treatment == "CONTINUE_GLOBAL":
            self.opt_in_model, sent["opt"] = True, self.steps
        told = {"steps": self.steps[0], "mine": self.mine[0], "round": round_num}
        return (
            {TensorKey(name, col_name, round_num, True, ("metric",)): np.array(value) for name, value in told.items()}
            | {TensorKey(name, col_name, round_num, False, ("trained",)): tensor for name, tensor in sent.items()},
            {TensorKey("mine", col_name, round_num + 1, False, ("model",)): self.mine},
        )
    def validate(self, col_name, round_num, input_tensor_dict, apply):
        told = {"sum": input_tensor_dict["w"].sum(), "data": self.data_loader.path == "/data", "round": round_num}
        return {TensorKey(name, col_name, round_num, True, ("metric",)): np.array(value) for name, value in told.items()}, {}
"""

pytestmark = pytest.mark.app


@pytest.fixture(scope="module")
def python() -> Path:
    return openfl_python()


def workspace(directory: Path, python: Path, treatment: str = "RESET") -> Case:
    (directory / "app/plan").mkdir(parents=True)
    (directory / "app/plan/plan.yaml").write_text(PLAN.format(treatment=treatment))
    (directory / "app/src.py").write_text(SOURCE)
    return Case("openfl", directory / "app", python, frozenset())


async def do(it: Asking, task: str, round_: int, model: Path | None = None, **said: Any) -> tuple[Answer, Path]:
    """One task of a training round; its answer, and the model that it leaves."""
    directory = it.request(task, model, training_round=round_, **said)
    return await it.app.ask(directory, PATIENCE_SECONDS), directory / "update.safetensors"


class Round(NamedTuple):
    metrics: dict[str, float]
    model: dict[str, list[float]]
    file: bytes


def found(answer: Answer, model: Path) -> Round:
    return Round(answer.metrics, {name: tensor.tolist() for name, tensor in tensors.read(model).items()}, model.read_bytes())


async def trained(case: Case, home: Path) -> list[Round]:
    """What three rounds come to, which one cluster makes alone; at first what there is before them."""
    async with asking(case, home) as it:
        done = [await do(it, "initialize", 0)]
        for number in (1, 2, 3):
            done.append(await do(it, "train", number, done[-1][1]))
    return [found(*each) for each in done]


async def trained_in_spite_of_everything(case: Case, home: Path) -> list[Round]:
    """The same, if the second round is answered twice, and training for the third one fails once; all else is done by killed processes."""
    async with asking(case, home) as it:
        done = [await do(it, "initialize", 0)]
        for number in (1, 2, 2):
            done = [*done[:number], await do(it, "train", number, done[number - 1][1])]
            kill(case)
        await do(it, "evaluate", 2, done[2][1])
        (case.app / "stumble").touch()
        assert (await it.failure(it.request("train", done[2][1], training_round=3)))[0] == "app-raised"
        (case.app / "stumble").unlink()
        done.append(await do(it, "train", 3, done[2][1]))
    return [found(*each) for each in done]


def kill(case: Case) -> None:
    os.kill(process_of(str(case.app)), signal.SIGKILL)


async def test_training_is_followed_by_the_validation_of_what_was_trained(python: Path, tmp_path: Path) -> None:
    async with asking(workspace(tmp_path, python), tmp_path / "home") as it:
        first, model = await do(it, "initialize", 0)
        answer, update = await do(it, "train", 1, model)
        measured, _ = await do(it, "evaluate", 1, update)

    assert first == Answer(weight=1, metrics={})
    tuned = {"tuned/sum": 2, "tuned/data": 1, "tuned/round": 0}
    assert answer == Answer(weight=4, metrics={"steps": 1, "mine": 1, "round": 0, **tuned})
    assert measured == Answer(weight=2, metrics={"sum": 2, "data": 1, "round": 1})
    assert_array_equal(tensors.read(update)["w"], np.ones(2), strict=True)  # float64, as the workspace has it


@pytest.mark.parametrize(
    ("treatment", "steps", "weights"), [("RESET", [1, 1, 1], [0, 1, 2, 3]), ("CONTINUE_LOCAL", [1, 2, 3], [0, 1, 3, 6])]
)
async def test_the_optimizer_is_treated_as_the_plan_says(
    python: Path, tmp_path: Path, treatment: str, steps: list[int], weights: list[int]
) -> None:
    case = workspace(tmp_path, python, treatment)
    done = await trained(case, tmp_path / "home")

    assert [each.metrics["steps"] for each in done[1:]] == steps
    assert [each.model for each in done] == [{"w": [weight, weight]} for weight in weights]
    assert [each.metrics["mine"] for each in done[1:]] == [1, 2, 3]
    assert await trained_in_spite_of_everything(case, tmp_path / "disturbed") == done


async def test_an_optimizer_that_is_averaged_travels_with_the_model_from_the_first_one_on(python: Path, tmp_path: Path) -> None:
    case = workspace(tmp_path, python, "CONTINUE_GLOBAL")
    done = await trained(case, tmp_path / "home")

    assert [each.model for each in done] == [
        {"w": [0, 0], "opt": [1]}, {"w": [1, 1], "opt": [1]}, {"w": [3, 3], "opt": [2]}, {"w": [6, 6], "opt": [3]},
    ]  # fmt: skip
    assert await trained_in_spite_of_everything(case, tmp_path / "disturbed") == done


async def test_an_optimizer_that_cannot_be_kept_begins_anew_and_the_log_says_so(python: Path, tmp_path: Path) -> None:
    case, home = workspace(tmp_path, python, "CONTINUE_LOCAL"), tmp_path / "home"
    mute = SOURCE.replace("def set_tensor_dict", "def set_nothing").replace('"opt": self.steps', '"opt": np.array([OPT])')
    (case.app / "src.py").write_text(f"OPT = 1\n{mute}")
    async with asking(case, home) as it:
        _, model = await do(it, "initialize", 0)
        await do(it, "train", 1, model)
        kill(case)
        (case.app / "src.py").write_text(f"OPT = None\n{mute}")
        answer, _ = await do(it, "train", 2, model)

    assert answer.metrics["steps"] == 1
    log = (home / "app.log").read_text()
    assert "the task runner does not take its optimizer's tensors back, which begins anew: NotImplementedError" in log
    assert "what the tasks keep for later rounds will not outlive its process: BadTensors: tensor" in log
    assert not list(home.glob("openfl-state-*"))


async def test_the_data_is_where_the_workspace_says_for_a_collaborator_of_that_name(python: Path, tmp_path: Path) -> None:
    case = workspace(tmp_path, python)
    (case.app / "plan/data.yaml").write_text("# collaborator_name,data_directory_path\nberlin,/elsewhere\n")
    async with asking(case, tmp_path / "home") as it:
        _, model = await do(it, "initialize", 0)
        measured, _ = await do(it, "evaluate", 1, model)

    assert measured.metrics["data"] == 0


async def test_a_plan_that_cannot_be_run_is_refused_before_training_with_what_to_mend(python: Path, tmp_path: Path) -> None:
    made = "the plan's data loader and task runner cannot be made: "
    wrong = {
        ("tasks.train.function", "jump"): (
            "load-failed",
            "task 'train' calls 'jump', which the task runner Runner does not have; mend plan",
        ),
        ("task_runner.template", "src.Walker"): ("load-failed", f"{made}AttributeError: module 'src' has no attribute 'Walker'; install"),
        ("data_loader.template", "magic.Data"): ("load-failed", f"{made}ModuleNotFoundError: No module named 'magic'; install what"),
        ("aggregator.settings.secure_aggregation", True): (
            "not-supported",
            "plan/plan.yaml asks for secure_aggregation, and updates are not",
        ),
        ("collaborator.settings.opt_treatment", "FORGET"): (
            "load-failed",
            "plan/plan.yaml has the opt_treatment 'FORGET'; it is one of RESET",
        ),
        ("tasks.train.aggregation_type.template", "a.Median"): (
            "not-supported",
            "task 'train' asks for the aggregation a.Median, which is",
        ),
        ("data_loader.settings.shuffle", True): (
            "load-failed",
            "spec.config sets 'data_loader.settings.shuffle', which plan/plan.yaml does",
        ),
    }
    async with asking(workspace(tmp_path, python), tmp_path / "home") as it:
        refused = {each: await it.failure(it.request("initialize", **dict([each]))) for each in wrong}

    for each, (reason, said) in wrong.items():
        assert refused[each][0] == reason, each
        assert refused[each][1].startswith(said)


async def test_a_plan_that_openfl_cannot_read_is_named(python: Path, tmp_path: Path) -> None:
    case = workspace(tmp_path, python)
    (case.app / "plan/plan.yaml").write_text(PLAN.format(treatment="RESET").replace("rounds_to_train: 1, ", ""))
    async with asking(case, tmp_path / "home") as it:
        failed = await it.failure(it.request("initialize"))

    mend = "mend plan/plan.yaml, plan/cols.yaml or plan/data.yaml"
    assert failed == ("load-failed", f"the plan cannot be read: KeyError: 'rounds_to_train'; {mend}")


async def test_what_only_shows_in_a_run_is_said_there(python: Path, tmp_path: Path) -> None:
    case = workspace(tmp_path, python)
    async with asking(case, tmp_path / "home") as it:
        _, model = await do(it, "initialize", 0)
        empty = await it.failure(it.request("train", model, **{"data_loader.settings.examples": 0}))
        aimless = await it.failure(it.request("evaluate", model, **{"tasks.check.kwargs.apply": "local"}))

    assert empty == ("no-weight", "num-examples is what get_train_data_size() of the data loader says, 0; it must be positive")
    assert aimless[0] == "not-supported"
    assert aimless[1].startswith("no task of the plan validates the aggregated model; add one with `apply: global`")


async def test_a_workspace_in_an_environment_without_openfl_says_what_to_install(tmp_path: Path) -> None:
    async with asking(workspace(tmp_path, plain_python()), tmp_path / "home") as it:
        failed = await it.failure(it.request("initialize"))

    assert failed == ("load-failed", "the app's environment has no openfl; install openfl>=1.9,<1.10 in it")


async def test_a_workspace_learns_what_it_learns_with_openfl_itself_though_a_process_is_killed(python: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(WORKSPACE, tmp_path / "copy")
    command = (python, GOLDEN / "openfl_rounds.py", "3", tmp_path / "theirs.npz")
    openfl = await asyncio.create_subprocess_exec(*command, cwd=copy, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE)
    async with asyncio.timeout(PATIENCE_SECONDS):
        _, words = await openfl.communicate()
    assert openfl.returncode == 0, words.decode()
    case, model = Case("openfl", WORKSPACE, python, frozenset()), tmp_path / "model.safetensors"
    async with AsyncExitStack() as stack:
        clusters = [await stack.enter_async_context(asking(case, tmp_path / name)) for name in ("amsterdam", "berlin", "copenhagen")]
        _, first = await do(clusters[0], "initialize", 0, data="1")
        tensors.write(model, tensors.read(first))
        for number in (1, 2, 3):
            done = [await do(it, "train", number, model, data=str(shard)) for shard, it in enumerate(clusters, 1)]
            if number == 2:
                kill(case)  # of one cluster, whose momentum is to go on
            weights = [answer.weight for answer, _ in done]
            model = tmp_path / f"model-{number}.safetensors"
            tensors.write(model, averaged([tensors.read(update) for _, update in done], weights))

    theirs = dict(np.load(tmp_path / "theirs.npz"))
    assert theirs.keys() == tensors.read(model).keys()
    for name, tensor in tensors.read(model).items():
        assert_allclose(tensor, theirs[name], atol=1e-6)  # OpenFL adds up float32


def averaged(updates: list[tensors.Tensors], weights: list[float]) -> tensors.Tensors:
    return {name: np.average([update[name] for update in updates], 0, weights).astype(np.float32) for name in updates[0]}


async def test_the_example_learns_on_three_clusters_that_make_its_environment(
    python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDPLANE_ENVIRONMENTS", str(ENVIRONMENTS))
    monkeypatch.delenv("FEDPLANE_PYTHON", raising=False)
    async with (
        federation(tmp_path / "state", clusters=WORKSPACE / "clusters.yaml", port=0, insecure=True) as up,
        open_bus(up.nats_url, name="test", source="/test") as bus,
    ):
        it = Machine(up, bus, tmp_path)
        run, _ = await runs.submit(bus, requests.read(WORKSPACE / "federatedlearning.yaml"), datetime.now(UTC))
        end = await it.end_of(run)
        view = await it.view_at_end(run)

    assert isinstance(end, Completed), end
    assert view.metrics["accuracy"] > 0.93
