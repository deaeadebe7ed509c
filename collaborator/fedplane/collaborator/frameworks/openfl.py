"""OpenFL workspaces, unmodified: the plan's task runner and data loader do the work, and the rest of its federation is left out.

A workspace normally meets OpenFL's aggregator, which says what the plan's assigner says and carries tensors as float32 in protobuf.
Here the tasks are called as OpenFL's collaborator calls them, but with the model's own arrays, so dtypes stay what they are:

    train       the tasks that train, then those that validate what was trained here (`apply: local`)
    evaluate    the tasks that validate the model that was sent (`apply: global`)

What a task leaves for later ones (its holdouts, and what it trained) stays on its cluster, as it does with OpenFL's collaborator.
The plan's `opt_treatment` is respected. Under CONTINUE_GLOBAL the optimizer's tensors are part of the model, and exist only after training.
So to initialize, such a workspace trains once for their names, on a task runner that is thrown away.

Both are written down after each training that is answered, and outlive this process; see `openfl_state`.
Whatever becomes of a training (its process is killed, its answer refused, its round repeated), the next one goes on from before it.
So a run that was disturbed ends with the model of one that was not.

What an aggregator would do is fedplane's: rounds, assignment to collaborators, aggregation, compression, the list in cols.yaml.
What only an aggregator could do right is refused: secure aggregation, a connector to Flower, other means than the weighted one.
The data is where plan/data.yaml says for a collaborator with the cluster's name, and else where the cluster says.
Written against OpenFL 1.9.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from openfl.utilities.split import split_tensor_dict_for_holdouts

from . import Unanswerable, openfl_state, tensors
from .answers import Answer, Tensors, checked, without_bfloat16
from .openfl_plan import PLAN, Task, plan_of, tasks_of, treatment_of
from .openfl_state import State

__all__ = ["open_app"]


class _Outcome(NamedTuple):
    """What tasks made of a model."""

    trained: Tensors
    metrics: dict[str, Any]


def open_app(directory: Path) -> OpenFLApp:
    """The workspace of the directory. Raises Unanswerable."""
    os.chdir(directory)  # a plan's own paths, and those of many data loaders, are relative to the workspace
    sys.path.insert(0, str(directory))
    plan_of({})
    return OpenFLApp()


class OpenFLApp:
    """The workspace in this process, with the task runner that it keeps from round to round."""

    def __init__(self) -> None:
        self._site: _Site | None = None

    def initialize(self, invitation: dict[str, Any]) -> Answer:
        """See `App.initialize`."""
        site = self._site_of(invitation, 1)
        first = site.first_model()
        if site.treatment == "CONTINUE_GLOBAL":
            first |= {name: tensor for name, tensor in _Site(invitation).train(first, 0).trained.items() if name not in first}
        return Answer(1, {}, first)

    def train(self, invitation: dict[str, Any], model: Tensors) -> Answer:
        """See `App.train`."""
        number = invitation["training_round"]
        site = self._site_of(invitation, number)
        made_of, site.after = int(site.after), math.inf  # until there is an answer nobody goes on from here
        trained, metrics = site.train(without_bfloat16(model), number - 1)  # OpenFL counts rounds from 0
        if not trained:
            raise Unanswerable(
                "not-supported", "no task of the plan returned tensors with the tag 'trained'; one of its tasks has to train"
            )
        answer = checked(Answer(site.examples("get_train_data_size"), metrics, trained), None)
        _write_down(site, number, made_of, Path(invitation["home"]))
        site.after = number
        return answer

    def evaluate(self, invitation: dict[str, Any], model: Tensors) -> Answer:
        """See `App.evaluate`."""
        number = invitation["training_round"]
        site = self._site_of(invitation, number + 1)
        metrics = site.evaluate(without_bfloat16(model), number)  # the model with which the next round begins
        return Answer(site.examples("get_valid_data_size"), metrics)

    def _site_of(self, invitation: dict[str, Any], before: int) -> _Site:
        """The site as its last training before that round has left it, in this process or in an earlier one."""
        if self._site is None or self._site.owner != _Site.owner_in(invitation):
            self._site = _Site(invitation)
            self._site.resume(_written_down(invitation, before))
        elif self._site.after >= before:
            state = _written_down(invitation, before)
            if not state.after and self._site.treatment == "CONTINUE_LOCAL":
                self._site = _Site(invitation)  # not otherwise: a second model of one process has other names in Keras
            self._site.resume(state)
        return self._site


def _write_down(site: _Site, number: int, made_of: int, home: Path) -> None:
    """Have what the site is after that training round outlive this process. Raises OSError."""
    try:
        openfl_state.save(home, site.owner, site.state(number), made_of)
    except OSError:  # a full disk is no business of the workspace's, and its answer would not fit there either
        raise
    except Exception as error:  # noqa: BLE001 -- the task runner's code may raise anything, or have what no file has
        openfl_state.discard(home)
        print(f"what the tasks keep for later rounds will not outlive its process: {type(error).__name__}: {error}")  # noqa: T201 -- the app's log


def _written_down(invitation: dict[str, Any], before: int) -> State:
    """What there was after the last training before that round; nothing if it cannot be read, which the app's log says."""
    try:
        return openfl_state.load(Path(invitation["home"]), _Site.owner_in(invitation), before)
    except tensors.BadTensors as error:
        print(f"what the tasks have kept is lost, and its optimizer begins anew: {error}")  # noqa: T201 -- the app's log
        return State()


class _Site:
    """One cluster's data loader and task runner, and what its tasks have left for later ones."""

    def __init__(self, invitation: dict[str, Any]) -> None:
        self.owner = self.owner_in(invitation)
        self.after: float = 0
        """Of which training round it is the outcome; infinite while that is open."""
        self._cluster = invitation["cluster"]
        self._kept: dict[tuple[Any, ...], Any] = {}
        self._awaited: Mapping[str, Any] = {}  # the optimizer's tensors that the task runner has yet to take back
        plan = plan_of(invitation["run_configuration"])
        self.treatment = treatment_of(plan)
        self._tasks = tasks_of(plan)
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
                raise Unanswerable("load-failed", f"{said}; mend {PLAN}")

    @staticmethod
    def owner_in(invitation: dict[str, Any]) -> str:
        """What of an invitation a site is made of, as words."""
        return json.dumps([invitation[name] for name in ("run", "cluster", "data", "run_configuration")], sort_keys=True)

    def resume(self, state: State) -> None:
        """Be as that state was, with the optimizer as soon as there is a model to train."""
        self.after, self._kept, self._awaited = state.after, dict(state.kept), state.optimizer

    def state(self, after: int) -> State:
        """What trainings after that round go on from."""
        return State(after, self._kept, self._optimizer())

    def first_model(self) -> Tensors:
        """The task runner's own tensors, without those that it holds out."""
        shared, _ = split_tensor_dict_for_holdouts(self._runner.get_tensor_dict(False), **self._runner.tensor_dict_split_fn_kwargs)
        return {name: np.asarray(tensor) for name, tensor in shared.items()}

    def train(self, model: Tensors, number: int) -> _Outcome:
        """Train, then validate what was trained, whose metrics have the task's name before their own."""
        if self._awaited:
            self._take_back(model)
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

    def _optimizer(self) -> dict[str, Any]:
        """The optimizer's tensors, as far as the task runner has any; empty if they are not to be continued."""
        if self.treatment == "RESET":
            return {}
        weights = self._runner.get_tensor_dict(False)
        return {name: tensor for name, tensor in self._runner.get_tensor_dict(True).items() if name not in weights}

    def _take_back(self, model: Tensors) -> None:
        """Give the task runner the optimizer's tensors of an earlier process; those that travel with the model are the model's."""
        awaited, self._awaited = {name: model.get(name, tensor) for name, tensor in self._awaited.items()}, {}
        kept = dict(self._kept)
        try:
            missing = self._given(awaited)
            if missing:  # some task runners make them only when they train
                self.train(model, 0)
                self._kept = kept
                missing = self._given(awaited)
            why = f"it has no {', '.join(sorted(missing))}" if missing else ""
        except Exception as error:  # noqa: BLE001 -- the task runner's code may raise anything
            why = f"{type(error).__name__}: {error}"
        if why:
            print(f"the task runner does not take its optimizer's tensors back, which begins anew: {why}")  # noqa: T201 -- the app's log

    def _given(self, optimizer: Mapping[str, Any]) -> set[str]:
        """Which tensors of an optimizer the task runner does not know, after it was given them all."""
        self._runner.set_tensor_dict({**self._runner.get_tensor_dict(False), **optimizer}, with_opt_vars=True)
        return optimizer.keys() - self._optimizer().keys()

    def _run(self, task: Task, model: Tensors, number: int, made: _Outcome) -> None:
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

    def _tensor(self, key: tuple[Any, ...], model: Tensors, task: Task) -> Any:
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
