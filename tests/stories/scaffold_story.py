"""Clusters whose data differ, and the client that the how-to prints, for tests of whether SCAFFOLD does what it is for."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PAGE = Path(__file__).parents[2] / "docs/how-to/choose-a-strategy.md"
CLUSTERS, STEPS, LR = 4, 10, 0.1

_RANDOM = np.random.default_rng(0)
CURVATURE = _RANDOM.uniform(0.1, 2.0, (CLUSTERS, 3))
TARGET = 3 * _RANDOM.standard_normal((CLUSTERS, 3))
OPTIMUM = (CURVATURE * TARGET).sum(axis=0) / CURVATURE.sum(axis=0)
"""Where the mean of the clusters' losses, each of them half of CURVATURE * (w - TARGET)^2, is the least."""

Tensors = dict[str, NDArray[Any]]


def printed_client() -> Callable[..., tuple[Tensors, Any]]:
    """The function in the how-to, as it stands there."""
    found = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None, "the how-to shows a client"
    names: dict[str, Any] = {}
    exec(found[1], names)
    client: Callable[..., tuple[Tensors, Any]] = names["train"]
    return client


def gradient(cluster: int) -> Callable[[Tensors], Tensors]:
    """Of that cluster's loss."""
    return lambda model: {"w": CURVATURE[cluster] * (model["w"] - TARGET[cluster])}


def initial() -> Tensors:
    return {"w": np.zeros(3), "control.w": np.zeros(3), "control.counted": np.zeros(CLUSTERS), "batches": np.zeros(1, np.int64)}


def drifting(sent: Tensors, cluster: int) -> Tensors:
    """What a cluster answers that trains by plain gradient descent."""
    moved = sent["w"]
    for _ in range(STEPS):
        moved = moved - LR * gradient(cluster)({"w": moved})["w"]
    return {**sent, "w": moved}
