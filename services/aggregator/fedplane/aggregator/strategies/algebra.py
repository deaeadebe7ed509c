"""What a strategy is: how much each member counts, and what the server makes of the result.

A round's proposal is linear in the updates, or an order statistic of them:

    proposal = (sum of values[i] * update[i]) / divisor + rest * model          for most strategies
    proposal = combine(updates, coefficients), element by element               for medians and their like

`weigh` chooses the coefficients from what is known of the members as wholes: their examples and their metrics.
If the strategy `compares`, it is also given the inner products of their differences from the model.
`advance` takes the proposal and the server's memory, element by element, to the next model.
So everything that touches every element works on any part of the model, in any process, and what concerns whole vectors is a small matrix.
The shape is that of TensorFlow Federated's aggregators; where the elements come from and who folds them is not a strategy's business.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedplane.runtime.errors import BadInput
from fedplane.schemas.models import Configuration, Metrics

__all__ = [
    "MEMBERS_COMPARED_MAX", "Advance", "CannotFold", "Coefficients", "Cohort", "Combine", "Member", "Parameter", "Strategy", "Vector",
    "Weigh", "distances", "insist_on_few", "settle",
]  # fmt: skip

Vector = NDArray[np.float64]
"""Float64; one-dimensional unless said otherwise."""

MEMBERS_COMPARED_MAX = 256
"""A fact has 900 kB for the members' products, N(N+1)/2 numbers of up to 25 characters, and their names: 256 members take up to 840 kB."""


class CannotFold(ValueError):
    """These members cannot be folded by this strategy: the sentence says what it needs."""


@dataclass(frozen=True, slots=True)
class Member:
    """What is known of a contribution without its elements.

    `staleness` is how many training rounds it is late; `weight` is its number of examples, discounted for that.
    """

    cluster: str
    weight: float
    metrics: Metrics
    staleness: int = 0


@dataclass(frozen=True, slots=True)
class Cohort:
    """What a strategy weighs: the members of a round by name, and what they are among.

    `clusters` is how many take part in the run, of whom a round may have asked a few and heard of fewer.
    `products` are the members' inner products (members x members), None unless the strategy compares.
    `squares` are those of the lengths of their differences from the model, empty unless these are to be shortened.
    """

    members: tuple[Member, ...]
    clusters: int
    products: Vector | None = None
    squares: tuple[float, ...] = ()

    @property
    def compared(self) -> Vector:
        """The products, for a strategy that compares."""
        assert self.products is not None, "a strategy that compares is given the products"
        return self.products


@dataclass(frozen=True, slots=True)
class Coefficients:
    """How much each member counts, in the members' order; see the formula above. A value of 0 leaves a member out."""

    values: tuple[float, ...]
    divisor: float
    rest: float = 0.0


Weigh = Callable[[Cohort], Coefficients]
"""Raises CannotFold."""

Combine = Callable[[NDArray[Any], Coefficients], Vector]
"""Updates (members that count x elements, finite, float32 or float64, whichever holds them exactly) to the proposal (elements)."""

Advance = Callable[[Vector, Vector, tuple[Vector, ...], int], tuple[Vector, tuple[Vector, ...]]]
"""Model, proposal, memory (each of the same size) and the number of the training round, from 1, to the next model and memory."""


@dataclass(frozen=True, slots=True)
class Strategy:
    """A strategy, made by the function that has its name, for the parameters that a run gives it.

    `apart` are prefixes of names: tensors whose names begin so are weighed by a function of their own, and a model has to have some.
    `sums` is whether it needs no more than the sum of all updates, each times its number of examples, and the sum of these numbers.
    `counts_late` is whether a member counts that answers an earlier question.
    If it `appends`, nothing is computed: the next model is the last one and after it the updates, which need not have its layout.
    `memories` is how many vectors of the model's size the server remembers, all zeros at first; `tells` is what the clients are told.
    """

    weigh: Weigh
    apart: Mapping[str, Weigh] = field(default_factory=dict)
    compares: bool = False
    sums: bool = False
    counts_late: bool = True
    appends: bool = False
    combine: Combine | None = None
    advance: Advance | None = None
    memories: int = 0
    tells: Configuration = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A hyper-parameter: its default, the bounds within which it makes sense, both included, and whether it counts something."""

    default: float
    low: float
    high: float
    whole: bool = False


def settle(name: str, given: Mapping[str, float], known: Mapping[str, Parameter]) -> dict[str, float]:
    """The parameters of a strategy: those that are given, else the defaults.

    Raises BadInput for an unknown name or a value out of bounds.
    """
    where = "spec.strategy.parameters"
    for unknown in sorted(given.keys() - known.keys()):
        raise BadInput(f"{where}: {name} has no {unknown!r}; it has {', '.join(sorted(known)) or 'none'}")
    for parameter, value in given.items():
        low, high = known[parameter].low, known[parameter].high
        if not low <= value <= high:
            raise BadInput(f"{where}.{parameter}: {name} takes {low:g} to {high:g}, not {value:g}")
        if known[parameter].whole and value != int(value):
            raise BadInput(f"{where}.{parameter}: {name} takes a whole number, not {value:g}")
    return {parameter: given.get(parameter, bounds.default) for parameter, bounds in known.items()}


def distances(products: Vector) -> Vector:
    """Squared distances between members (members x members), from their inner products. Rounding never makes one negative."""
    own = np.diag(products)
    squared: Vector = np.maximum(own[:, None] + own[None, :] - 2 * products, 0.0)
    return squared


def insist_on_few(members: int) -> None:
    """Raise CannotFold when so many members cannot be compared."""
    if members > MEMBERS_COMPARED_MAX:
        raise CannotFold(
            f"{members} members are more than the {MEMBERS_COMPARED_MAX} that can be compared with each other; "
            "invite fewer, or choose a strategy that does not compare, such as fedmedian"
        )
