"""What noise costs: the (epsilon, delta) that rounds of Gaussian noise add up to, and the noise that a budget leaves.

In every round each cluster's change has at most the length C, and their sum gets noise of the standard deviation `multiplier` * C.
Without one cluster, its change replaced by zeros, the sum moves by C at most: that is the Gaussian mechanism (Dwork and Roth 2014).
Whoever sees the results of all rounds cannot tell with and without apart, but by odds that change by a factor of e**epsilon at most,
and with a probability delta beyond that. Who takes part is public, and so is how many do; nothing is claimed for sampling them.

Two accountants add rounds up, both of Google's dp-accounting:

- `rdp`: Rényi's divergence of order a is a / (2 multiplier**2) in each round, and is added; the best order is then turned into epsilon
  (Mironov 2017, https://arxiv.org/abs/1702.07476; Canonne, Kamath and Steinke 2020, https://arxiv.org/abs/2004.00010, proposition 12).
- `pld`: the distribution of the privacy loss itself, which is tight
  (Koskela et al. 2020, https://arxiv.org/abs/1906.03049; Doroshenko et al. 2022, https://arxiv.org/abs/2207.04380).

Both are upper bounds. For Gaussian noise alone there is a closed form (Balle and Wang 2018, https://arxiv.org/abs/1805.06530):
the tests compare with it, and `pld` is above it by less than 0.03 percent.
How noise is drawn, and which rounds count, is not this module's business.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Literal

from fedplane.runtime.errors import BadInput

__all__ = ["Accountant", "Unaccountable", "epsilon", "multiplier"]

Accountant = Literal["pld", "rdp"]

POINTS, POINTS_MAX = 300, 10_000
"""How finely `pld` divides a standard deviation of the privacy loss, and its mean. An epsilon below ten then takes 5 ms and is exact to
a millionth. The library's own step, 0.0001 whatever the noise, takes two minutes and gigabytes for an epsilon of some thousands."""

TRUNCATED = 30.0
"""Of the loss's tails as much is left out as is this far below delta, as logarithms: less than a millionth of a millionth of it."""

DELTA_MAX = 1 - 1e-9
"""Nearer to one the library adds up what is larger than any float. What holds for this delta holds for a larger one."""

EFFECTIVE_MIN = 1e-3
"""Less noise than this, all rounds taken together, is none: its epsilon is half a million."""

TOLERANCE = 1e-6
"""By what share of itself a multiplier may be larger than the least one that keeps to its budget."""

DOUBLINGS_MAX = 100
"""From a first guess that is off by less than that, whatever the budget."""

REMEMBERED = 1_000
"""Answers that are kept: a service asks the same again whenever it looks at its runs."""


class Unaccountable(BadInput):
    """What a budget comes to cannot be computed here: the sentence says what is missing."""


@lru_cache(REMEMBERED)
def epsilon(multiplier: float, delta: float, rounds: int, accountant: Accountant) -> float:
    """What so many rounds with that noise multiplier cost, for that delta; infinite, if that is hardly any noise."""
    if rounds == 0:
        return 0.0
    effective = multiplier / math.sqrt(rounds)  # Gaussian noise in T rounds is as good as that in one with this multiplier
    if effective < EFFECTIVE_MIN:
        return math.inf
    return _accountants()[accountant](effective, min(delta, DELTA_MAX))


@lru_cache(REMEMBERED)
def multiplier(budget: float, delta: float, rounds: int, accountant: Accountant) -> float:
    """The least noise multiplier with which so many rounds cost no more than the budget, an epsilon, for that delta."""
    low = high = math.sqrt(2 * math.log(1.25 / delta) * rounds) / budget  # what Dwork and Roth prove of an epsilon below 1
    for _ in range(DOUBLINGS_MAX):
        if epsilon(high, delta, rounds, accountant) <= budget:
            break
        low, high = high, high * 2
    for _ in range(DOUBLINGS_MAX):
        if epsilon(low, delta, rounds, accountant) > budget:
            break
        low, high = low / 2, low
    while high - low > TOLERANCE * high:
        middle = (low + high) / 2
        if epsilon(middle, delta, rounds, accountant) <= budget:
            high = middle
        else:
            low = middle
    return high


@lru_cache(1)
def _accountants() -> dict[str, Callable[[float, float], float]]:
    """By name, what Gaussian noise of a multiplier costs once, for a delta.

    Loaded when a run first asks for noise, for SciPy comes with it: a second, and 70 MB of memory, that no other run has to pay.
    """
    try:
        import dp_accounting  # noqa: PLC0415 -- see above
        from dp_accounting.pld import privacy_loss_distribution  # noqa: PLC0415
        from dp_accounting.rdp import RdpAccountant  # noqa: PLC0415
    except ImportError as error:
        raise Unaccountable("dp-accounting is not installed, without which noise has no price; it is in fedplane[aggregator]") from error
    zeroed = dp_accounting.NeighboringRelation.REPLACE_SPECIAL

    def rdp(effective: float, delta: float) -> float:
        accountant = RdpAccountant(neighboring_relation=zeroed).compose(dp_accounting.GaussianDpEvent(effective))
        return float(accountant.get_epsilon(delta))

    def pld(effective: float, delta: float) -> float:
        losses = privacy_loss_distribution.from_gaussian_mechanism(
            standard_deviation=effective,
            value_discretization_interval=max(1 / (effective * POINTS), 1 / (effective**2 * POINTS_MAX)),
            log_mass_truncation_bound=math.log(delta) - TRUNCATED,
            neighboring_relation=zeroed,
        )
        return float(losses.get_epsilon_for_delta(delta))

    return {"rdp": rdp, "pld": pld}
