"""What an app's answer must be before it is written: the checks that are the same whatever the framework.

They run here, beside the app, because here the answer is still arrays with names, and the user is told which one is wrong.
Whoever receives an update checks it again; this module protects the user's time, not the federation.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np

from . import Unanswerable, judging

__all__ = ["BFLOAT16", "Answer", "App", "Tensors", "checked", "dtype_name", "forms", "without_bfloat16"]

BFLOAT16 = np.dtype([("bfloat16", "<u2")])
"""numpy has no bfloat16, so its 16 bits are a field of that name, and nobody takes them for integers."""

_EXPONENT = 0x7F80
"""Of a bfloat16, which is the first half of a float32: the bits that are all set in what is infinite or not a number."""

Tensors = dict[str, "np.ndarray[Any, np.dtype[Any]]"]
"""A model's arrays by name, in the app's order."""


class Answer(NamedTuple):
    """What an app answered; `weight` and the metrics as the app gave them, `tensors` None if none were asked for.

    `told` is what the file of the tensors says besides them.
    """

    weight: Any
    metrics: dict[str, Any]
    tensors: Tensors | None = None
    configuration: Mapping[str, Any] = MappingProxyType({})
    told: Mapping[str, str] = MappingProxyType({})


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

    def reply(self, invitation: dict[str, Any], sent: Tensors, told: Mapping[str, str]) -> Answer:
        """What the app's client replies to what its own server sent, both as `records` packs them; weight and metrics are for people."""
        ...


def checked(answer: Answer, model: Tensors | None) -> Answer:
    """The answer with its tensors in the model's order, its numbers as plain floats.

    Raises Unanswerable when it cannot be used.
    """
    tensors = answer.tensors
    if tensors is not None and model is not None:
        if wrong := judging.differences(forms(model), forms(tensors)):
            raise Unanswerable("wrong-layout", f"the app must return the tensors that it was sent: {wrong}")
        tensors = {name: tensors[name] for name in model}
    for name, tensor in (tensors or {}).items():
        if not _is_finite(tensor):
            raise Unanswerable("not-finite", f"tensor {name!r} has values that are infinite or not a number; has training diverged?")
    metrics = {name: judging.metric(name, value) for name, value in answer.metrics.items()}
    return Answer(judging.weight(answer.weight), metrics, tensors, answer.configuration)


def forms(tensors: Tensors) -> dict[str, str]:
    """Each tensor's dtype and shape in a few characters, for people and for comparing."""
    return {name: f"{dtype_name(tensor.dtype)}{list(tensor.shape)}" for name, tensor in tensors.items()}


def without_bfloat16(model: Tensors) -> Tensors:
    """The model, for an app that can only be given what numpy knows. Raises Unanswerable for any other."""
    for name, tensor in model.items():
        if tensor.dtype == BFLOAT16:
            raise Unanswerable("not-supported", f"tensor {name!r} is bfloat16, which numpy and hence this app does not have; use float32")
    return model


def dtype_name(dtype: np.dtype[Any]) -> str:
    """What numpy calls the dtype, and we call bfloat16."""
    return "bfloat16" if dtype == BFLOAT16 else dtype.name


def _is_finite(tensor: np.ndarray[Any, np.dtype[Any]]) -> bool:
    if tensor.dtype == BFLOAT16:
        return not bool(((tensor["bfloat16"] & _EXPONENT) == _EXPONENT).any())
    return not np.issubdtype(tensor.dtype, np.inexact) or bool(np.isfinite(tensor).all())
