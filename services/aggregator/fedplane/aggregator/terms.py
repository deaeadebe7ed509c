"""How a training round's updates are masked: what the resource leaves open is chosen from the model, and stated when the round is opened.

A change of one number that is larger than the clip would be cut, and a clip that is too large wastes the bits of a masked integer.
So if the resource says nothing, the clip is eight times the model's largest number, rounded up to a power of two, and 8 at least.
Training moves a number by far less than that as a rule. With 32 bits and 16 clusters a step is then 2.4e-7 of the largest number or less;
numbers of that size are 1.2e-7 apart in float32. A model with float64 is given 64 bits.
Integers are cut by the clip as well: a counter that moves by more in a round, of batches say, lags behind. Who minds that sets the clip.

With noise of the clusters (`differentialPrivacy.distributed`) a change is shortened to a length before, and no number in it is larger.
How much noise each adds follows from the multiplier that is asked for, or that the budget leaves, and from how many will be there:
as few as the resource allows, without those who work with the hub. What it costs is said in `budgets`, the mathematics in `distributed`.
"""

import math
from functools import lru_cache

from fedplane.aggregator import budgets
from fedplane.privacy import distributed, graph
from fedplane.privacy.fixed import Fixed
from fedplane.runtime.errors import BadInput
from fedplane.schemas.facts import Opened
from fedplane.schemas.models import Contents, Model, Task
from fedplane.schemas.privacy import MASKED_MAX, SecureAggregation
from fedplane.schemas.privacy_terms import MaskingTerms
from fedplane.schemas.resources import Spec

__all__ = ["agrees", "check", "check_graph", "chosen"]

LARGEST_MAX = 2.0**1000
"""Of a float64 that is larger nobody has a use, and eight times the largest is no float."""

ROOM = 8.0
"""How many times larger than the largest number of the model a change may be; a fresh model's largest may be a tenth of a trained one's."""

SETTLINGS_MAX = 50
"""More noise wants a coarser step, and a coarser step a little more noise. What fits the bits settles in a few turns."""

MORE = 1 + 1e-6
"""By so much more noise than the last turn found wanting, so that the next one finds enough."""

REMEMBERED = 256
"""Deviations that are kept: a service asks the same again whenever it looks at its runs."""


def chosen(spec: Spec, model: Model | None, task: Task, clusters: int, minimum: int) -> MaskingTerms | None:
    """How so many clusters mask their updates of the model, of whom `minimum` have to be left; None if they do not.

    Raises BadInput if they cannot.
    """
    secure, noise = spec.privacy.secure_aggregation, spec.privacy.differential_privacy
    if secure is None or model is None or task is not Task.TRAIN:
        return None
    if len(model.contents) != len(model.shards):
        raise BadInput("nobody has said what numbers the model has, on which masks depend; was it made by an older aggregator?")
    if clusters > MASKED_MAX:
        raise BadInput(f"spec.rounds.invite: {clusters} clusters cannot mask with one another, {MASKED_MAX} can; invite fewer")
    check_graph(secure, minimum, clusters)
    contents, added = model.contents, noise.distributed if noise is not None else None
    clip = secure.clip or (_clip(contents) if added is None else added.clip)
    bits = secure.bits or (64 if any(each.doubles for each in contents) else 32)
    return MaskingTerms(
        clip=clip, bits=bits, weights=secure.weights, weight_max=spec.rounds.weight_max, step_seconds=secure.step_seconds,
        neighbours=secure.neighbours, threshold=secure.threshold, norm_max=None if added is None else added.clip,
        deviation=_deviation(spec, clip, bits, sum(each.elements for each in contents), clusters, minimum),
    )  # fmt: skip


def check_graph(secure: SecureAggregation, fewest: int, most: int) -> None:
    """Raise BadInput if the neighbours and the threshold that are asked for cannot be had with as many members as there may be."""
    for members in range(max(fewest, graph.MEMBERS_MIN), most + 1):
        try:
            graph.chosen(members, secure.neighbours, secure.threshold)
        except BadInput as problem:
            raise BadInput(f"spec.privacy.secureAggregation: if {members} clusters take part in a round: {problem}") from problem


def check(spec: Spec, clusters: int, minimum: int) -> None:
    """Raise BadInput if so many clusters could not mask their updates of the smallest model, in whatever its numbers are."""
    secure, noise = spec.privacy.secure_aggregation, spec.privacy.differential_privacy
    if secure is not None:
        added = noise.distributed if noise is not None else None
        clip = secure.clip or (ROOM if added is None else added.clip)
        _deviation(spec, clip, secure.bits or 64, 1, clusters, minimum)


def agrees(question: Opened, spec: Spec) -> bool:
    """Whether a round is masked as the resource wants, or not at all. No aggregator opens another, but on an open bus anybody may."""
    secure, terms, model = spec.privacy.secure_aggregation, question.masking, question.model
    if secure is None or question.task is not Task.TRAIN:
        return terms is None
    if terms is None or model is None or len(model.contents) != len(model.shards) or len(question.clusters) > MASKED_MAX:
        return False
    wanted = (secure.weights, spec.rounds.weight_max, secure.step_seconds, secure.neighbours, secure.threshold)
    return (terms.weights, terms.weight_max, terms.step_seconds, terms.neighbours, terms.threshold) == wanted


def _clip(contents: tuple[Contents, ...]) -> float:
    largest = max((each.largest for each in contents), default=0.0)
    mantissa, exponent = math.frexp(min(max(1.0, largest), LARGEST_MAX))
    return math.ldexp(ROOM, exponent - 1 if mantissa == 0.5 else exponent)  # rounded up to a power of two, unless it is one


def _deviation(spec: Spec, clip: float, bits: int, elements: int, clusters: int, minimum: int) -> float | None:
    """The standard deviation of the noise that each cluster adds, None if none does. Raises BadInput if the bits have no room."""
    noise = spec.privacy.differential_privacy
    added = noise.distributed if noise is not None else None
    budget = budgets.budget_of(spec)
    try:
        if added is not None and budget is not None:
            return _settled(budget.multiplier, added.clip, elements, minimum - added.colluding, clip, bits, clusters)
        Fixed(clip, bits, clusters)
    except BadInput as problem:
        raise BadInput(f"spec.privacy: the updates of {clusters} clusters cannot be masked: {problem}") from problem
    return None


@lru_cache(REMEMBERED)
def _settled(multiplier: float, norm_max: float, elements: int, honest: int, clip: float, bits: int, clusters: int) -> float:
    """The deviation for the coarsest step that there may be: that of a round with all clusters."""
    found = 0.0
    for _ in range(SETTLINGS_MAX):
        wanted = distributed.deviation_of_each(multiplier, norm_max, Fixed(clip, bits, clusters, found).step, elements, honest)
        if wanted <= found:
            return found
        found = wanted * MORE
    raise BadInput(f"so much noise leaves no room in {bits} bits; set spec.privacy.secureAggregation.bits to 64")
