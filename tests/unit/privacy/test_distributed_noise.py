"""What the noise of several clusters achieves together: against exact probabilities, and in the units of a model."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedplane.privacy.distributed import deviation_of_each, effective_multiplier, rounded_norm, tau

NORMS = st.floats(1e-3, 1e3)
STEPS = st.floats(1e-9, 1e-2)
MULTIPLIERS = st.floats(0.01, 1e3)
ELEMENTS = st.integers(1, 10**9)
CLUSTERS = st.integers(1, 120)
NUMBERS = np.arange(-60, 61)


def gaussian(variance: float) -> NDArray[np.float64]:
    """The probabilities of the discrete Gaussian on NUMBERS."""
    likely = np.exp(-(NUMBERS**2) / (2 * variance))
    return likely / likely.sum()


@pytest.mark.parametrize("clusters", [2, 3, 5])
@pytest.mark.parametrize("deviation", [0.5, 0.6, 0.8, 1.0])
def test_a_sum_of_noise_is_within_tau_of_one_discrete_gaussian(deviation: float, clusters: int) -> None:
    total = one = gaussian(deviation**2)
    for _ in range(clusters - 1):
        total = np.convolve(total, one, "same")
    near = abs(NUMBERS) <= 5 * deviation * math.sqrt(clusters)  # beyond, floats have no digits left
    apart = abs(np.log(total[near] / gaussian(clusters * deviation**2)[near])).max()

    assert apart < tau(deviation, clusters)


def test_tau_is_nothing_as_soon_as_noise_is_larger_than_a_few_steps() -> None:
    assert (tau(0.5, 1), tau(3.0, 120) < 3e-38, tau(10.0, 120)) == (0, True, 0)
    assert tau(0.5, 3) == pytest.approx(10 * (math.exp(-(math.pi**2) / 4) + math.exp(-(math.pi**2) / 3)))


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=30))
def test_no_change_is_longer_after_rounding_than_is_paid_for(change: list[float]) -> None:
    norm = math.hypot(*change)
    assume(norm > 0)

    assert np.linalg.norm(np.rint(change)) <= rounded_norm(norm, 1.0, len(change))


def test_noise_of_all_clusters_counts_together_and_fine_steps_cost_nothing() -> None:
    fine = effective_multiplier(0.5, 2.0, 1e-9, 1_000_000, 16)
    coarse = effective_multiplier(0.5, 2.0, 1e-3, 1_000_000, 16)

    assert fine == pytest.approx(0.5 * 4 / 2, rel=1e-6)
    assert coarse == pytest.approx(0.5 * 4 / 2.5)  # a thousand steps in each of a million elements are half a unit


@given(MULTIPLIERS, NORMS, STEPS, ELEMENTS, CLUSTERS, st.floats(0.01, 1), st.integers(0, 100))
def test_a_deviation_that_is_asked_for_gives_the_multiplier_also_to_more_clusters_with_a_finer_step(
    multiplier: float, norm: float, step: float, elements: int, clusters: int, finer: float, more: int
) -> None:
    deviation = deviation_of_each(multiplier, norm, step, elements, clusters)

    assert effective_multiplier(deviation, norm, step * finer, elements, clusters + more) >= multiplier


@given(MULTIPLIERS, NORMS, STEPS, ELEMENTS, CLUSTERS)
def test_no_more_is_asked_for_than_is_needed_or_than_three_steps(
    multiplier: float, norm: float, step: float, elements: int, clusters: int
) -> None:
    deviation = deviation_of_each(multiplier, norm, step, elements, clusters)

    assert deviation == 3 * step or effective_multiplier(deviation, norm, step, elements, clusters) < multiplier * (1 + 1e-9)


def test_noise_of_nobody_or_smaller_than_half_a_step_protects_nobody() -> None:
    assert [effective_multiplier(0.49, 1.0, 1.0, 10, 5), effective_multiplier(1.0, 1.0, 0.1, 10, 0)] == [0, 0]
