"""OpenFL workspaces, unmodified: the plan's task runner and data loader do the work, and the rest of its federation is left out.

A workspace normally meets OpenFL's aggregator, which says what the plan's assigner says and carries tensors as float32 in protobuf.
Here the tasks are called as OpenFL's collaborator calls them, but with the model's own arrays, so dtypes stay what they are:

    train       the tasks that train, then those that validate what was trained here (`apply: local`)
    evaluate    the tasks that validate the model that was sent (`apply: global`)

What a task leaves for later ones (its holdouts, and what it trained) stays in this process, as OpenFL keeps it in its collaborator's.
The plan's `opt_treatment` is respected. Under CONTINUE_GLOBAL the optimizer's tensors are part of the model, and exist only after training.
So to initialize, such a workspace trains once for their names, on a task runner that is thrown away.
What an aggregator would do is fedplane's: rounds, assignment to collaborators, aggregation, compression, the list in cols.yaml.
What only an aggregator could do right is refused: secure aggregation, a connector to Flower, other means than the weighted one.
The data is where plan/data.yaml says for a collaborator with the cluster's name, and else where the cluster says.
Written against OpenFL 1.9.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from openfl.federated import Plan
from openfl.utilities.split import split_tensor_dict_for_holdouts

from . import Unanswerable
from .answers import Answer, Tensors, without_bfloat16

__all__ = ["open_app"]

_PLAN = Path("plan/plan.yaml")
_COLLABORATORS = Path("plan/cols.yaml")
_DATA = Path("plan/data.yaml")
"""Where `fx workspace create` puts them."""

_TREATMENTS = ("RESET", "CONTINUE_LOCAL", "CONTINUE_GLOBAL")
"""What OpenFL can do with an optimizer's state from round to round; the first is its collaborator's default."""

_AGGREGATION = "openfl.interface.aggregation_functions.WeightedAverage"
"""What a federation by fedplane can stand for; which strategy it is says the resource."""


class _Task(NamedTuple):
    """A task of the plan: the task runner's method, and what it is given besides the model."""

    name: str
    function: str
    kwargs: Mapping[str, Any]

    @property
    def validates(self) -> str:
        """Which model it validates, "global" or "local"; empty if it trains."""
        return str(self.kwargs.get("apply", ""))


class _Outcome(NamedTuple):
    """What tasks made of a model."""

    trained: Tensors
    metrics: dict[str, Any]


def open_app(directory: Path) -> OpenFLApp:
    """The workspace of the directory. Raises Unanswerable."""
    os.chdir(directory)  # a plan's own paths, and those of many data loaders, are relative to the workspace
    sys.path.insert(0, str(directory))
    _plan({})
    return OpenFLApp()


class OpenFLApp:
    """The workspace in this process, with the task runner that it keeps from round to round."""

    def __init__(self) -> None:
        self._site: _Site | None = None

    def initialize(self, invitation: dict[str, Any]) -> Answer:
        """See `App.initialize`."""
        site = self._site_of(invitation)
        first = site.first_model()
        if site.treatment == "CONTINUE_GLOBAL":
            first |= {name: tensor for name, tensor in _Site(invitation).train(first, 0).trained.items() if name not in first}
        return Answer(1, {}, first)

    def train(self, invitation: dict[str, Any], model: Tensors) -> Answer:
        """See `App.train`."""
        site = self._site_of(invitation)
        trained, metrics = site.train(without_bfloat16(model), invitation["training_round"] - 1)  # OpenFL counts rounds from 0
        if not trained:
            raise Unanswerable(
                "not-supported", "no task of the plan returned tensors with the tag 'trained'; one of its tasks has to train"
            )
        return Answer(site.examples("get_train_data_size"), metrics, trained)

    def evaluate(self, invitation: dict[str, Any], model: Tensors) -> Answer:
        """See `App.evaluate`."""
        site = self._site_of(invitation)
        metrics = site.evaluate(without_bfloat16(model), invitation["training_round"])  # the model with which the next round begins
        return Answer(site.examples("get_valid_data_size"), metrics)

    def _site_of(self, invitation: dict[str, Any]) -> _Site:
        if self._site is None or self._site.made_for != _Site.settings(invitation):
            self._site = _Site(invitation)
        return self._site


class _Site:
    """One cluster's data loader and task runner, and what its tasks have left for later ones."""

    def __init__(self, invitation: dict[str, Any]) -> None:
        self.made_for = self.settings(invitation)
        self._cluster = invitation["cluster"]
        self._kept: dict[tuple[Any, ...], Any] = {}
        plan = _plan(invitation["run_configuration"])
        self.treatment = _treatment(plan)
        self._tasks = _tasks(plan)
        plan.cols_data_paths.setdefault(self._cluster, invitation["data"])
        try:
            self._runner = plan.get_task_runner(plan.get_data_loader(self._cluster))
            self._runner.set_optimizer_treatment(self.treatment)
        except (Exception, SystemExit) as error:  # this imports the user's code and runs it
            mend = "install what the workspace needs, or mend its plan or code"
            said = f"the plan's data loader and task runner cannot be made: {type(error).__name__}: {error}; {mend}"
            raise Unanswerable("load-failed", said) from error
        for task in self._tasks:
            if not callable(getattr(self._runner, task.function, None)):
                said = f"task {task.name!r} calls {task.function!r}, which the task runner {type(self._runner).__name__} does not have"
                raise Unanswerable("load-failed", f"{said}; mend {_PLAN}")

    @staticmethod
    def settings(invitation: dict[str, Any]) -> tuple[Any, ...]:
        """What of an invitation a site is made of."""
        return invitation["cluster"], invitation["data"], invitation["run_configuration"]

    def first_model(self) -> Tensors:
        """The task runner's own tensors, without those that it holds out."""
        shared, _ = split_tensor_dict_for_holdouts(self._runner.get_tensor_dict(False), **self._runner.tensor_dict_split_fn_kwargs)
        return {name: np.asarray(tensor) for name, tensor in shared.items()}

    def train(self, model: Tensors, number: int) -> _Outcome:
        """Train, then validate what was trained, whose metrics have the task's name before their own."""
        made = _Outcome({}, {})
        for task in sorted(self._tasks, key=lambda task: task.validates):  # what trains comes first, else in the plan's order
            if task.validates != "global":
                self._run(task, model, number, made)
        return made

    def evaluate(self, model: Tensors, number: int) -> dict[str, Any]:
        """Validate the model; the metrics."""
        tasks = [task for task in self._tasks if task.validates == "global"]
        if not tasks:
            mend = "add one with `apply: global`, or set spec.rounds.evaluate to false"
            raise Unanswerable("not-supported", f"no task of the plan validates the aggregated model; {mend}")
        made = _Outcome({}, {})
        for task in tasks:
            self._run(task, model, number, made)
        return made.metrics

    def examples(self, method: str) -> Any:
        """How many examples the data loader says that there are."""
        number = getattr(self._runner, method)()
        if not number > 0:
            raise Unanswerable("no-weight", f"num-examples is what {method}() of the data loader says, {number!r}; it must be positive")
        return number

    def _run(self, task: _Task, model: Tensors, number: int, made: _Outcome) -> None:
        needed = self._runner.get_required_tensorkeys_for_function(task.function, **task.kwargs)
        given = {key[0]: self._tensor(key, model, task) for key in needed}
        sent, kept = getattr(self._runner, task.function)(col_name=self._cluster, round_num=number, input_tensor_dict=given, **task.kwargs)
        for (name, _, _, is_metric, tags), tensor in {**sent, **kept}.items():
            if not is_metric:
                self._kept[name, tuple(tags)] = tensor  # of all rounds the last one counts, as it does for OpenFL
        for (name, _, _, is_metric, tags), tensor in sent.items():
            if is_metric:
                plain = task.validates != "local" and name not in made.metrics
                made.metrics[name if plain else f"{task.name}/{name}"] = float(tensor)
            elif "trained" in tags:
                made.trained[name] = np.asarray(tensor)

    def _tensor(self, key: tuple[Any, ...], model: Tensors, task: _Task) -> Any:
        """What a task asks for. `key` is a name, whose tensor it is, of how many rounds from now, whether it is a metric, and tags."""
        name, whose, offset, _, tags = key
        if whose == "GLOBAL":
            found = model.get(name) if offset == 0 else None
        else:
            found = self._kept.get((name, tuple(tags)))
            if found is None:  # what never leaves the cluster is at first what the task runner was made with
                found = self._runner.get_tensor_dict(False).get(name)
        if found is not None:
            return found
        raise Unanswerable("wrong-layout", f"task {task.name!r} asks for tensor {name!r} ({whose}, {tags}), which there is not")


def _plan(overrides: Mapping[str, Any]) -> Any:
    """The workspace's plan, with what the run changes in it. Raises Unanswerable."""
    if not _PLAN.exists():
        raise Unanswerable("load-failed", f"{Path.cwd()} holds no OpenFL workspace: there is no {_PLAN}")
    try:
        plan = Plan.parse(_PLAN, *(path if path.exists() else None for path in (_COLLABORATORS, _DATA)))
    except Exception as error:  # OpenFL raises whatever a missing key, a wrong type or a line of YAML leads to
        said = f"the plan cannot be read: {type(error).__name__}: {error}; mend {_PLAN}, {_COLLABORATORS} or {_DATA}"
        raise Unanswerable("load-failed", said) from error
    for path, value in overrides.items():
        *sections, last = path.split(".")
        part: Any = plan.config
        for section in sections:
            part = part.get(section) if isinstance(part, dict) else None
        if not isinstance(part, dict) or last not in part:
            raise Unanswerable("load-failed", f"spec.config sets {path!r}, which {_PLAN} does not have; it may only change what is there")
        part[last] = value
    _refuse(plan.config)
    return plan


def _refuse(config: dict[str, Any]) -> None:
    """Raises Unanswerable if the plan wants what a federation by fedplane does not do."""
    if config["aggregator"]["settings"].get("secure_aggregation"):
        raise Unanswerable("not-supported", f"{_PLAN} asks for secure_aggregation, and updates are not masked here; set it to false")
    if "connector" in config:
        raise Unanswerable("not-supported", f"{_PLAN} connects to another framework; submit that framework's app itself")
    for name, task in config.get("tasks", {}).items():
        kind = (task.get("aggregation_type") or {}).get("template", _AGGREGATION) if isinstance(task, dict) else _AGGREGATION
        if kind != _AGGREGATION:
            mend = f"set spec.strategy, and tasks.{name}.aggregation_type.template in spec.config to {_AGGREGATION}"
            raise Unanswerable(
                "not-supported", f"task {name!r} asks for the aggregation {kind}, which is not the workspace's to say; {mend}"
            )


def _treatment(plan: Any) -> str:
    treatment = plan.config.get("collaborator", {}).get("settings", {}).get("opt_treatment", _TREATMENTS[0])
    if treatment not in _TREATMENTS:
        raise Unanswerable("load-failed", f"{_PLAN} has the opt_treatment {treatment!r}; it is one of {', '.join(_TREATMENTS)}")
    return str(treatment)


def _tasks(plan: Any) -> list[_Task]:
    """The plan's tasks; of those that it has, the ones that its assigner hands out, if it says which."""
    assigned = set(_assigned(plan.config.get("assigner", {}).get("settings", {})))
    return [
        _Task(name, task["function"], task.get("kwargs") or {})
        for name, task in plan.config.get("tasks", {}).items()
        if isinstance(task, dict) and "function" in task and (not assigned or name in assigned)
    ]


def _assigned(settings: dict[str, Any]) -> Iterator[str]:
    for group in settings.get("task_groups", ()):
        yield from group.get("tasks", ())
