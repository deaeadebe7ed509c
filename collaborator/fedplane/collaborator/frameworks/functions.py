"""Apps that are a file of functions, for frameworks that bring no federated app of their own.

A person who trains a model has a function that does so, and should not have to write more than that.
So the app's directory holds `federated.py` with

    initial(config)                 makes the model: the first one, and afterwards one that is given the federation's tensors
    train(model, data, config)      trains it in place; returns metrics, and how many examples were used as `num-examples`
    evaluate(model, data, config)   measures it; returns the same. Needed unless `spec.rounds.evaluate` is false
    CONFIG                          optional: what the app can be told, with defaults. `spec.config` may set these and nothing else
    TRAVELS                         optional: which tensors travel, as patterns like "head.*". All, if it is not said

`train` may have a fourth parameter, `private`; for a run with local differential privacy it must. What that is, is the adapter's to say.

`data` is what the cluster's claim says of where its data is.
`config` is CONFIG as the run sets it, what the strategy tells its clients, and
`round` (from 1), `cluster` (its name), `position` (from 0), `clusters` (how many there are).

Every model is made anew by `initial`, so a cluster that is killed loses nothing.
A tensor that does not travel is what `initial` makes it, in every round and on every cluster.
Chance is seeded before each call: in `initial` by `config["seed"]`, or 0; else by that, the round, the cluster and the task.
So a question has one answer in whatever process, as far as the framework can do so.
How a framework's models become tensors is its adapter's to say; see `Translation`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import random
import sys
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Protocol

import numpy as np

from . import Unanswerable
from .answers import Answer, Tensors, forms
from .judging import NAMES_SHOWN_MAX, WEIGHT, differences

__all__ = ["FunctionsApp", "Noise", "Translation", "open_functions"]

_FILE = "federated.py"

_WRITE = f"write {_FILE} with initial(config) and train(model, data, config)"

_PRIVATE = "private"
"""The parameter by whose name `train` says that it can train with noise."""

_TOLD = {"round": "training_round", "cluster": "cluster", "position": "position", "clusters": "clusters"}
"""What `config` has of the invitation, and by which name that has it."""

_SEED_BYTES = 4
"""numpy's own generator takes seeds of 32 bits."""


def _no_chance(seed: int) -> None:
    """A framework that draws from Python's or numpy's generators has none of its own to seed."""


class Noise(Protocol):
    """What `train` calls to train with noise, however the framework does so."""

    def spent(self) -> Mapping[str, float]:
        """What privacy the training has cost, as metrics. Raises Unanswerable if it was none that protects anybody."""
        ...


class Translation(NamedTuple):
    """How the models of a framework become tensors and back.

    `take` gives a model's tensors by name. `put` changes a model so that it has these tensors, some or all of its own;
    their arrays are read-only, so it copies them. `seed` seeds what chance the framework has besides Python's and numpy's.
    `added`, for models to which updates are appended, gives what training has added to a model since it was put those tensors.
    Then these are the tensors of all who have added something, and not those that `initial` makes.
    `privately`, for frameworks that can train with noise, makes of an invitation what `train` gets as `private`.
    """

    take: Callable[[Any], Tensors]
    put: Callable[[Any, Tensors], None]
    seed: Callable[[int], object] = _no_chance
    added: Callable[[Any, Tensors], Tensors] | None = None
    privately: Callable[[dict[str, Any]], Noise] | None = None


def open_functions(directory: Path, translation: Translation) -> FunctionsApp:
    """The app of the directory. Raises Unanswerable."""
    app = _loaded(directory / _FILE)
    for needed in ("initial", "train"):
        if not callable(getattr(app, needed, None)):
            raise Unanswerable("load-failed", f"{_FILE} has no function {needed}; {_WRITE}")
    defaults = getattr(app, "CONFIG", {})
    if not isinstance(defaults, dict) or set(defaults) & set(_TOLD):
        raise Unanswerable("load-failed", f"CONFIG in {_FILE} must be a dict without {', '.join(_TOLD)}, which every app is told anyway")
    if isinstance(getattr(app, "TRAVELS", ()), str):
        raise Unanswerable("load-failed", f'TRAVELS in {_FILE} is one text; it must be a tuple of patterns, as in ("head.*",)')
    return FunctionsApp(app, translation)


def _loaded(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if not file.is_file() or spec is None or spec.loader is None:
        raise Unanswerable("load-failed", f"{file.parent} has no {_FILE}; {_WRITE}")
    app = sys.modules[file.stem] = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(file.parent))  # for the app's other files
    try:
        spec.loader.exec_module(app)
    except (Exception, SystemExit) as error:  # importing the app runs the user's code, which may raise anything
        mend = "install the app's dependencies, or mend the file"
        raise Unanswerable("load-failed", f"{_FILE} cannot be loaded: {type(error).__name__}: {error}; {mend}") from error
    return app


class FunctionsApp:
    """A file of functions and a translation, as an `App`."""

    def __init__(self, app: ModuleType, translation: Translation) -> None:
        self._app = app
        self._translation = translation

    def initialize(self, invitation: dict[str, Any]) -> Answer:
        """See `App.initialize`."""
        return Answer(1, {}, self._travelling(self._made(self._config(invitation))))

    def train(self, invitation: dict[str, Any], model: Tensors) -> Answer:
        """See `App.train`."""
        noise = self._noise(invitation)
        own, metrics = self._use("train", invitation, model, **({} if noise is None else {_PRIVATE: noise}))
        metrics.update({} if noise is None else noise.spent())
        added = self._translation.added
        return Answer(metrics.pop(WEIGHT, None), metrics, added(own, model) if added else self._travelling(own))

    def evaluate(self, invitation: dict[str, Any], model: Tensors) -> Answer:
        """See `App.evaluate`."""
        if not callable(getattr(self._app, "evaluate", None)):
            mend = "write evaluate(model, data, config), or set spec.rounds.evaluate to false"
            raise Unanswerable("not-supported", f"{_FILE} has no function evaluate; {mend}")
        _, metrics = self._use("evaluate", invitation, model)
        return Answer(metrics.pop(WEIGHT, None), metrics)

    def _noise(self, invitation: dict[str, Any]) -> Noise | None:
        """What `train` is given besides; None if it takes nothing."""
        wanted, takes = "local_privacy" in invitation, _PRIVATE in inspect.signature(self._app.train).parameters
        make = self._translation.privately
        if wanted and make is None:
            mend = "leave out spec.privacy.differentialPrivacy.local, or write the app for torch"
            raise Unanswerable("not-supported", f"apps of this framework cannot be trained with local differential privacy; {mend}")
        if wanted and not takes:
            mend = "write train(model, data, config, private), and call it before training: model, optimizer, loader = private(...)"
            raise Unanswerable("not-private", f"the run asks for local differential privacy, and train in {_FILE} takes no private; {mend}")
        return make(invitation) if make and takes else None

    def _use(self, task: str, invitation: dict[str, Any], tensors: Tensors, **besides: Noise) -> tuple[Any, dict[str, Any]]:
        """The model after the app's function has had it, and what that said."""
        config = self._config(invitation)
        model = self._made(config)
        if not self._translation.added and (wrong := differences(forms(self._travelling(model)), forms(tensors))):
            raise Unanswerable("wrong-layout", f"the federation's model is not one that initial in {_FILE} makes: {wrong}")
        self._seed(config.get("seed", 0), task, config["round"], config["cluster"])
        self._translation.put(model, tensors)
        said = getattr(self._app, task)(model, invitation["data"], config, **besides)
        if not isinstance(said, Mapping):
            raise Unanswerable("app-raised", f"{task} returned a {type(said).__name__}; it must return a dict of numbers with {WEIGHT!r}")
        return model, dict(said)

    def _config(self, invitation: dict[str, Any]) -> dict[str, Any]:
        defaults, wanted = getattr(self._app, "CONFIG", {}), invitation["run_configuration"]
        if unheard := sorted(set(wanted) - set(defaults)):
            known = ", ".join(defaults) or "nothing"
            raise Unanswerable("load-failed", f"spec.config sets {', '.join(unheard)}, and CONFIG in {_FILE} has {known}; mend either")
        told = {name: invitation[said] for name, said in _TOLD.items()}
        return {**defaults, **invitation["configuration"], **wanted, **told}

    def _made(self, config: dict[str, Any]) -> Any:
        self._seed(config.get("seed", 0))
        return self._app.initial(dict(config))

    def _travelling(self, model: Any) -> Tensors:
        tensors, patterns = self._translation.take(model), getattr(self._app, "TRAVELS", ("*",))
        chosen = {name: tensor for name, tensor in tensors.items() if any(fnmatchcase(name, pattern) for pattern in patterns)}
        if not chosen:
            mend = f"the model has {', '.join(list(tensors)[:NAMES_SHOWN_MAX])}"
            raise Unanswerable("load-failed", f"no tensor travels by TRAVELS = {patterns!r} in {_FILE}; {mend}")
        return chosen

    def _seed(self, *said: object) -> None:
        digest = hashlib.sha256("/".join(map(str, said)).encode()).digest()
        number = int.from_bytes(digest[:_SEED_BYTES], "big")
        random.seed(number)
        np.random.seed(number)  # the generator that libraries share
        self._translation.seed(number)
