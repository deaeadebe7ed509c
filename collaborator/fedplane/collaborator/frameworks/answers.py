"""What an app's answer must be before it is written: the checks that are the same whatever the framework.

They run here, beside the app, because here the answer is still arrays with names, and the user is told which one is wrong.
Whoever receives an update checks it again; this module protects the user's time, not the federation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np

from . import Unanswerable

__all__ = ["Answer", "App", "Tensors", "checked"]

NAMES_SHOWN_MAX = 5
"""How many tensors an error names: the first few show the pattern, and a model may have thousands."""

Tensors = dict[str, "np.ndarray[Any, np.dtype[Any]]"]
"""A model's arrays by name, in the app's order."""


class Answer(NamedTuple):
    """What an app answered; `weight` and the metrics as the app gave them, `tensors` None if none were asked for."""

    weight: Any
    metrics: dict[str, Any]
    tensors: Tensors | None = None
    configuration: Mapping[str, Any] = MappingProxyType({})


class App(Protocol):
    """An app that is loaded. An invitation is `invitation.json`; whatever the app's own code raises passes through."""

    def initialize(self, invitation: dict[str, Any]) -> Answer:
        """The first model."""
        ...

    def train(self, invitation: dict[str, Any], model: Tensors) -> Answer:
        """The model after training on this cluster's data."""
        ...

    def evaluate(self, invitation: dict[str, Any], model: Tensors) -> Answer:
        """What the model is worth on this cluster's data."""
        ...


def checked(answer: Answer, model: Tensors | None) -> Answer:
    """The answer with its tensors in the model's order, its numbers as plain floats.

    Raises Unanswerable when it cannot be used.
    """
    tensors = answer.tensors
    if tensors is not None and model is not None:
        tensors = _like(model, tensors)
    for name, tensor in (tensors or {}).items():
        if np.issubdtype(tensor.dtype, np.inexact) and not np.isfinite(tensor).all():
            raise Unanswerable("not-finite", f"tensor {name!r} has values that are infinite or not a number; has training diverged?")
    return Answer(
        _weight(answer.weight), {name: _metric(name, value) for name, value in answer.metrics.items()}, tensors, answer.configuration
    )


def _like(model: Tensors, tensors: Tensors) -> Tensors:
    differences = [f"{name!r} is missing" for name in model if name not in tensors]
    differences += [f"{name!r} is unexpected" for name in tensors if name not in model]
    differences += [
        f"{name!r} is {_form(tensors[name])} and was {_form(sent)}"
        for name, sent in model.items()
        if name in tensors and _form(tensors[name]) != _form(sent)
    ]
    if differences:
        shown = "; ".join(differences[:NAMES_SHOWN_MAX])
        rest = len(differences) - NAMES_SHOWN_MAX
        more = f"; and {rest} more" if rest > 0 else ""
        raise Unanswerable("wrong-layout", f"the app must return the tensors that it was sent: {shown}{more}")
    return {name: tensors[name] for name in model}


def _form(tensor: np.ndarray[Any, np.dtype[Any]]) -> str:
    return f"{tensor.dtype.name}{list(tensor.shape)}"


def _weight(weight: Any) -> float:
    if weight is None:
        raise Unanswerable("no-weight", "the app did not say how many examples it used; return the metric num-examples")
    if isinstance(weight, (list, str)) or not math.isfinite(weight) or weight <= 0:
        raise Unanswerable("no-weight", f"the number of examples must be positive, and the app said num-examples = {weight!r}")
    return float(weight)


def _metric(name: str, value: Any) -> float:
    if not math.isfinite(value):
        raise Unanswerable("not-finite", f"metric {name!r} is {float(value)!r}; return a finite number, or leave it out")
    return float(value)
