"""What every federation plays, and what came of it: one Flower app, the times of its rounds, and the model that it left."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["APP", "Played", "difference"]

APP = Path(__file__).parent / "apps" / "numbers"


@dataclass(frozen=True, slots=True)
class Played:
    """A run that has ended: seconds of each of its rounds, and its model's tensors in the order of their names."""

    rounds: list[float]
    model: list[NDArray[np.float32]]


def difference(one: Played, other: Played) -> float:
    """The largest difference between two models, relative to the largest number in the second.

    Raises ValueError if their tensors have other shapes.
    """
    if [each.shape for each in one.model] != [each.shape for each in other.model]:
        raise ValueError(f"the models have shapes {[each.shape for each in one.model]} and {[each.shape for each in other.model]}")
    apart = max(float(np.abs(mine - theirs).max()) for mine, theirs in zip(one.model, other.model, strict=True))
    return apart / max(float(np.abs(theirs).max()) for theirs in other.model)
