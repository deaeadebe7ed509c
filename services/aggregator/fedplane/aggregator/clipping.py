"""How updates are shortened before noise hides them, and how long they may be: `spec.privacy.differentialPrivacy.central`.

    scale[i] = min(1, clip / |update[i] - model|)
    proposal = model + (sum of scale[i] * (update[i] - model) + noise) / members,   noise of the deviation multiplier * clip

Every cluster counts as much as every other, whatever its number of examples: else it could make its part larger than the clip.
So a sum moves by the clip at most if one cluster's part is replaced by zeros, which is what noise of that size is accounted for.
The length is the Euclidean norm over all floats of the model. What is no float keeps the model's value.
What the strategy then makes of the proposal, a step of a server's optimizer or nothing, costs no more: it sees no update.
Source: McMahan, Ramage, Talwar and Zhang, "Learning Differentially Private Recurrent Language Models", 2018
(https://arxiv.org/abs/1710.06963), with noise of a fixed size and all clusters that were asked.

A clip that suits the updates is not known before. If the resource says so, it follows a quantile of their lengths:

    below = 1/2 + (sum of (1 if |update[i] - model| <= clip else 0) - 1/2, + noise of count_deviation) / members
    clip  = clip * exp(-rate * (below - quantile))

Source: Andrew, Thakkar, McMahan and Ramaswamy, "Differentially Private Learning with Adaptive Clipping", 2021, algorithm 1
(https://arxiv.org/abs/1905.03871). A cluster moves the count by 1/2 at most, if its part is replaced by nothing.
Both noises together cost what noise of the `multiplier` m on the updates alone does, if that of the updates is larger (theorem 1):
1 / m**2 = 1 / update_multiplier**2 + 1 / (2 count_deviation)**2.
What that costs is the business of `budgets`, and where noise comes from that of `noising`.
"""

import math
from dataclasses import replace

from fedplane.aggregator import budgets
from fedplane.aggregator.rounds import Round
from fedplane.aggregator.strategies.algebra import Coefficients, Cohort, Strategy
from fedplane.privacy.accounting import Unaccountable
from fedplane.schemas.facts import Opened
from fedplane.schemas.models import Task
from fedplane.schemas.privacy import CLIP_MAX, CLIP_MIN, CentralPrivacy
from fedplane.schemas.privacy_terms import NoiseTerms
from fedplane.schemas.resources import Spec

__all__ = ["agrees", "clipped", "next_clip", "terms"]

COUNT_SHARE = 1 / 20
"""The noise in the count, as a share of the clusters that are asked: what the authors recommend."""

COUNT_MULTIPLIER_MIN = 1.2
"""The least of it, as a multiple of the noise multiplier: then that of the updates is larger by a tenth at most.
With fewer than some dozens of clusters, which the authors do not consider, a twentieth of them would leave nothing for the updates."""

MARGIN = 1e-9
"""Lengths are sums of up to a thousand million rounded squares, so by this share they may be longer than they seem."""

STEP_MAX = 1.0
"""A round changes the clip by a factor of e at most, whatever the noise in the count: with two or three clusters it may be large."""

AGREEMENT = 1e-9
"""Two machines may compute the same number with another last digit."""


def terms(spec: Spec, task: Task, clip: float | None, clusters: int) -> NoiseTerms | None:
    """The noise of a round that asks so many clusters, when the clip has come to that; None if it has none. Raises Unaccountable."""
    central, budget = _central(spec), budgets.budget_of(spec)
    if central is None or budget is None or task is not Task.TRAIN:
        return None
    clip = central.clip if clip is None else clip
    if central.adaptive is None:
        return NoiseTerms(clip=clip, multiplier=budget.multiplier)
    count = max(COUNT_SHARE * clusters, COUNT_MULTIPLIER_MIN * budget.multiplier)
    return NoiseTerms(clip=clip, multiplier=1 / math.sqrt(1 / budget.multiplier**2 - 1 / (2 * count) ** 2), count_deviation=count)


def agrees(question: Opened, spec: Spec, clip: float | None) -> bool:
    """Whether a round has the noise that it should have. No aggregator opens another, but on an open bus anybody may."""
    try:
        wanted = terms(spec, question.task, clip, len(question.clusters))
    except Unaccountable:  # the run fails of it
        return False
    told = question.noise
    if told is None or wanted is None:
        return told is wanted
    pairs = zip(told.model_dump().values(), wanted.model_dump().values(), strict=True)
    return all(one == other or (one and other and math.isclose(one, other, rel_tol=AGREEMENT)) for one, other in pairs)


def clipped(strategy: Strategy, clip: float) -> Strategy:
    """The strategy, a sum, of updates that are as long as the clip at most and count equally."""

    def weigh(cohort: Cohort) -> Coefficients:
        lengths = [math.sqrt(square) * (1 + MARGIN) for square in cohort.squares]
        scales = tuple(clip / max(length, clip) for length in lengths)
        return Coefficients(scales, len(scales), 1 - math.fsum(scales) / len(scales))

    return replace(strategy, weigh=weigh, compares=False)


def next_clip(spec: Spec, clip: float | None, state: Round) -> float | None:
    """What the clip has come to after a round, if it follows the updates. A round that failed may have told how large a share was below."""
    central, noise = _central(spec), state.opened.noise
    if central is None or central.adaptive is None or noise is None or 0 not in state.folded:
        return clip
    below = state.folded[0].below
    if below is None:
        return clip
    step = central.adaptive.rate * (central.adaptive.quantile - below)
    return min(max(noise.clip * math.exp(min(max(step, -STEP_MAX), STEP_MAX)), CLIP_MIN), CLIP_MAX)


def _central(spec: Spec) -> CentralPrivacy | None:
    wanted = spec.privacy.differential_privacy
    return None if wanted is None else wanted.central
