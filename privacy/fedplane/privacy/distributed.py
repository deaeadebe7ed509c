"""What the noise of several clusters achieves together: the multiplier of one Gaussian that is at least as good, for the accountant.

With distributed privacy each cluster shortens its change to `norm_max`, makes integers of it and adds noise (`discrete`) before it masks.
Nobody sees less than the sum, so the noise of all is in what anybody sees, and each cluster needs to add only a part.
Two things keep that from being one Gaussian of the sum's variance on a vector of length `norm_max`, and both are paid for here:

- Rounding to integers makes a vector longer: by half a step in each of d elements, hence by sqrt(d)/2 steps,
  and to no more than twice its length, because what is below half a step becomes 0.
- A sum of n discrete Gaussians is no discrete Gaussian, but the logarithms of their probabilities differ by at most tau in each element:
  tau = 10 * sum over k = 1, ..., n-1 of exp(-2 pi**2 s**2 k/(k+1)), where s is one cluster's deviation in steps.
  With s = 3 that is 3e-38, so it matters only where noise is hardly larger than a step.

Then the Rényi divergence of order a, for every a > 1, is at most a/2 (S/(sqrt(n) s) + tau sqrt(d))**2,
where S is the length after rounding (Kairouz, Liu and Steinke 2021, "The Distributed Discrete Gaussian Mechanism
for Federated Learning with Secure Aggregation", proposition 14). Of a Gaussian of multiplier m it is a/2 (1/m)**2.
So the bracket's inverse is the effective multiplier, and an accountant by Rényi's divergence takes it.
One by privacy loss distributions may not: it would use the Gaussian's own loss, of which nothing is proven here.

It holds for one cluster's contribution replaced by zeros, its noise still there. `honest` counts those whose noise is in the sum
and whom the hub does not work with: a cluster that dropped out or tells the hub its noise adds nothing to anybody's privacy.
Lengths and deviations are in the units of the model. How noise is drawn, and what epsilon follows, is not this module's business.
"""

import math

from fedplane.privacy.discrete import DEVIATION_MIN

__all__ = ["deviation_of_each", "effective_multiplier", "rounded_norm", "tau"]

FLOATS = 1 + 2.0**-40
"""What is lost where lengths and steps are computed with floats is far less, also over a thousand million elements."""

DEVIATION_LEAST = 3.0
"""In steps, what a cluster is asked to add at least. From there on tau is below 3e-38 for any number of clusters, so whoever takes part
besides only helps. With less noise than that a further cluster's tau may cost more than its noise is worth."""


def tau(deviation_steps: float, clusters: int) -> float:
    """By how much the sum of so many clusters' noise differs from one discrete Gaussian, in each element."""
    exponent = -2 * (math.pi * deviation_steps) ** 2
    return 10 * math.fsum(math.exp(exponent * k / (k + 1)) for k in range(1, clusters))


def rounded_norm(norm_max: float, step: float, elements: int) -> float:
    """How long a change may be, in steps, after it was shortened to `norm_max` and rounded to integers."""
    norm = norm_max / step * FLOATS
    return norm + min(math.sqrt(elements) / 2, norm)


def effective_multiplier(deviation: float, norm_max: float, step: float, elements: int, honest: int) -> float:
    """The noise multiplier of one Gaussian that protects no better; 0 if what is known of such sums does not cover so little noise.

    Of `honest` clusters each adds noise of that deviation to `elements` numbers.
    """
    steps = deviation / step
    if steps < DEVIATION_MIN or honest < 1:
        return 0.0
    return 1 / (rounded_norm(norm_max, step, elements) / (math.sqrt(honest) * steps) + tau(steps, honest) * math.sqrt(elements))


def deviation_of_each(multiplier: float, norm_max: float, step: float, elements: int, honest: int) -> float:
    """What each cluster has to add, so that the effective multiplier of that many, or more, is at least that.

    A finer step needs no more, so if the step is not known yet, the coarsest one will do.
    """
    needed = multiplier * FLOATS * rounded_norm(norm_max, step, elements) * step / math.sqrt(honest)
    return max(needed, DEVIATION_LEAST * step)
