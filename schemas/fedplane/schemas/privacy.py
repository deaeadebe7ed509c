"""What a resource may ask for so that nobody learns more of a cluster's data than it agreed to: `spec.privacy`.

Secure aggregation hides each cluster's update from the hub, which learns only their sum.
Differential privacy bounds, as a number, what the model itself tells of one cluster, or of one example in it.
They answer different questions, so a run may ask for both. What does not go together is refused by the aggregator, which does the work.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from fedplane.schemas.parts import Part

__all__ = [
    "LOCAL_FRAMEWORK", "MASKED_MAX", "STEP_SECONDS_MAX", "Adaptive", "CentralPrivacy", "DifferentialPrivacy", "DistributedPrivacy",
    "LocalPrivacy", "Privacy", "SecureAggregation",
]  # fmt: skip

MASKED_MAX = 120
"""How many clusters may mask with one another: the fact that names them has their certificates, up to 7 kB each, and room for 900 kB."""

LOCAL_FRAMEWORK = "torch"
"""Of what apps of other frameworks do with single examples nothing is known."""

STEP_SECONDS_MAX = 24 * 3600
"""A step is a message, or one upload of the model; a day is far too long for either."""

EPSILON_MIN, DELTA_MIN, MULTIPLIER_MIN, CLIP_MIN = 1e-4, 1e-30, 1e-3, 1e-9
"""Far less than anybody asks for: odds that change by a ten-thousandth, a chance for which no universe is old enough, no noise to speak of.
Below that, accountants run out of floats.
"""

MULTIPLIER_MAX = 1e6
"""More noise than any model survives: of a million clusters, each as long as the clip, the mean would drown."""

EPSILON_MAX = 1e4
"""Of a budget that large nothing is promised any more: the odds may then change by a factor with 4,000 digits."""

CLIP_MAX = 1e9
"""Longer than any update; a bound so that squares of it are numbers."""


class SecureAggregation(Part):
    """Ours: the hub learns the sum of the clusters' updates, and none of them. An empty object means: with all defaults."""

    weights: Literal["public", "hidden"] = "public"
    """Whether the log says how many examples each cluster has, or only how many all have; hidden needs spec.rounds.weightMax."""
    clip: float | None = Field(default=None, ge=CLIP_MIN, le=CLIP_MAX)
    """The largest change of one number of the model that counts; none: eight times the model's largest number, and at least 8."""
    bits: Literal[32, 64] | None = None
    """How many bits a masked number has; none: 32, or 64 for a model with numbers of 64 bits."""
    neighbours: int | None = Field(default=None, ge=2, lt=MASKED_MAX)
    """With how many others each cluster shares its keys; none: as many as the number of clusters wants."""
    threshold: int | None = Field(default=None, ge=2, le=MASKED_MAX)
    """How many of a cluster and its neighbours have to help to take its masks off; none: two thirds."""
    step_seconds: float = Field(default=60, ge=1, le=STEP_SECONDS_MAX)
    """How long each step may take that follows training: to share keys, to send the masked update, to take the masks off."""


Delta = Annotated[float, Field(ge=DELTA_MIN, lt=1)]


class Adaptive(Part):
    """The clip follows a quantile of the lengths of the clusters' updates."""

    quantile: float = Field(default=0.5, gt=0, lt=1)
    """The share of clusters whose updates are not to be shortened."""
    rate: float = Field(default=0.2, gt=0, le=10)
    """How fast the clip follows, by a factor of e to the power of this much of what is missing."""


class _Budget(Part):
    """How much noise, and what it is to achieve."""

    epsilon: float | None = Field(default=None, ge=EPSILON_MIN, le=EPSILON_MAX)
    """What the whole run may spend; the noise is chosen for spec.server.rounds rounds, unless it is given."""
    delta: Delta = 1e-5
    """The probability with which epsilon need not hold. Choose less than one by the number of those who are protected."""
    noise_multiplier: float | None = Field(default=None, ge=MULTIPLIER_MIN, le=MULTIPLIER_MAX)
    """The standard deviation of the noise, as a multiple of the clip; none: it is chosen by epsilon."""
    clip: float = Field(default=1.0, ge=CLIP_MIN, le=CLIP_MAX)
    """How long an update, or the gradient of an example, may be (L2 norm): a longer one is shortened."""


class CentralPrivacy(_Budget):
    """The aggregators shorten updates and add noise to their mean. They see the updates, and whoever has the model does not."""

    adaptive: Adaptive | None = None
    """Whether the clip follows the updates; none: it stays as it is."""
    accountant: Literal["pld", "rdp"] = "pld"
    """How epsilon is computed: from the privacy loss distribution, which is tight, or from Rényi's divergence."""


class DistributedPrivacy(_Budget):
    """Each cluster shortens its update and adds its part of the noise before it masks it: nobody sees a sum without noise."""

    colluding: int = Field(default=0, ge=0)
    """How many clusters may work with the hub, their noise known to it; the others add more for it."""


class LocalPrivacy(_Budget):
    """Each cluster trains with noise on the gradient of every example (DP-SGD), so that its update may be seen by anybody."""


def _one_place_of_noise(given: "DifferentialPrivacy") -> "DifferentialPrivacy":
    if given.central is not None and given.distributed is not None:
        raise ValueError("has both central and distributed noise; the aggregators or the clusters add it, so leave one out")
    for budget in (given.central, given.distributed, given.local):
        if budget is not None and budget.epsilon is None and budget.noise_multiplier is None:
            raise ValueError("says neither epsilon nor noiseMultiplier; give the budget, or how much noise there is to be")
    return given


class DifferentialPrivacy(Part):
    """Ours: noise, and a number for what it achieves."""

    central: CentralPrivacy | None = None
    """Noise that the aggregators add, for whoever gets the model."""
    distributed: DistributedPrivacy | None = None
    """Noise that the clusters add to masked updates, for the hub as well; needs secureAggregation."""
    local: LocalPrivacy | None = None
    """Noise in training, for single examples; for the framework torch, with Opacus in the app's environment."""


class Privacy(Part):
    """Ours: what nobody is to learn. Metrics and the initial model are not covered by any of it."""

    secure_aggregation: SecureAggregation | None = None
    """Whether the hub learns only the sum of the updates; none: it sees each of them."""
    differential_privacy: Annotated[DifferentialPrivacy, AfterValidator(_one_place_of_noise)] | None = None
    """Noise, and what it is to achieve; none: no noise."""
