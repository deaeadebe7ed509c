"""Noise in whole numbers: whether it has the distribution that proofs are about, and is the same in whatever parts it is drawn."""

import math
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedplane.privacy.discrete import BLOCK_ELEMENTS, BOUNDARIES, UNDECIDED, judged, judged_exactly, noise
from fedplane.runtime.errors import BadInput

KEY, OTHER_KEY = bytes(range(32)), bytes(range(1, 33))
DRAWN = 200_000
CELL_MIN = 20
"""How often a number is to be expected, so that how often it came is nearly normal."""

WORDS = st.integers(0, 2**64 - 1)
DEVIATIONS = st.floats(0.5, 2.0**40)


@pytest.mark.parametrize("deviation", [0.5, 0.7, 1.0, 1.42, 3.3, 11.4])
def test_small_noise_has_the_probabilities_of_the_discrete_gaussian(deviation: float) -> None:
    numbers = np.arange(-200, 201)
    likely = np.exp(-(numbers**2) / (2 * deviation**2))
    expected = likely / likely.sum() * DRAWN
    came = np.bincount(noise(DRAWN, deviation, KEY, 0) + 200, minlength=401)

    cells = expected >= CELL_MIN
    tail, tail_expected = came[~cells].sum(), expected[~cells].sum()
    chi_square = (((came - expected) ** 2)[cells] / expected[cells]).sum() + (tail - tail_expected) ** 2 / max(tail_expected, 1)

    freedom = cells.sum()  # the tail is one cell more, and the sum is given
    assert came.sum() == DRAWN
    assert chi_square < freedom + 4 * math.sqrt(2 * freedom), (chi_square, freedom)


@pytest.mark.parametrize("deviation", [100.0, 1449.3, 2.0**30.5, 2.0**40])
def test_large_noise_is_as_near_to_a_gaussian_as_chance_allows(deviation: float) -> None:
    drawn = np.sort(noise(DRAWN, deviation, KEY, 1)) / deviation
    wanted = np.array([NormalDist().inv_cdf((index + 0.5) / 1000) for index in range(1000)])
    below = np.searchsorted(drawn, wanted) / DRAWN

    assert abs(drawn.mean()) * math.sqrt(DRAWN) < 3.5
    assert abs((drawn**2).mean() - 1) * math.sqrt(DRAWN / 2) < 3.5
    assert abs(below - (np.arange(1000) + 0.5) / 1000).max() * math.sqrt(DRAWN) < 1.95  # Kolmogorov: once in a thousand


def test_tails_are_as_heavy_as_they_should_be() -> None:
    drawn = abs(noise(1_000_000, 1000.0, KEY, 2)) / 1000
    expected = np.array([2e6 * NormalDist().cdf(-far) for far in (2, 3, 4)])
    beyond = np.array([(drawn > far).sum() for far in (2, 3, 4)])

    assert (abs(beyond - expected) < 4 * np.sqrt(expected)).all(), (beyond, expected)
    assert drawn.max() < 7


def test_elements_shards_and_keys_have_nothing_to_do_with_each_other() -> None:
    drawn = noise(DRAWN, 50.0, KEY, 3) / 50
    others = [drawn[1:], noise(DRAWN, 50.0, KEY, 4)[:-1] / 50, noise(DRAWN, 50.0, OTHER_KEY, 3)[:-1] / 50, drawn[BLOCK_ELEMENTS:]]

    assert all(abs((drawn[: len(other)] * other).mean()) * math.sqrt(len(other)) < 3.5 for other in others)


@cache
def whole() -> NDArray[np.int64]:
    return noise(3 * BLOCK_ELEMENTS, 1000.0, KEY, 5)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 3 * BLOCK_ELEMENTS), st.integers(0, 3 * BLOCK_ELEMENTS))
def test_a_part_of_a_shards_noise_is_the_same_as_in_the_whole(one: int, other: int) -> None:
    begin, end = sorted((one, other))

    part = noise(end - begin, 1000.0, KEY, 5, begin)

    assert part.dtype == np.int64 and np.array_equal(part, whole()[begin:end])


@settings(max_examples=60, deadline=None)
@given(WORDS, WORDS, st.floats(-1, 1), DEVIATIONS)
def test_floats_decide_as_exact_arithmetic_does_also_beside_the_boundary(first: int, second: int, near: float, deviation: float) -> None:
    value, _ = judged_exactly(first, second, 0, bytes(64), deviation)
    boundary = probability(first, abs(value), deviation)
    third = min(max(round((boundary + near * 8 * UNDECIDED) * 2**53), 0), 2**53 - 1) << 11

    words = (np.array([word], np.uint64) for word in (first, second, third))
    values, kept, undecided = judged(*words, deviation)

    assert undecided[0] or (values[0], kept[0]) == judged_exactly(first, second, third, bytes(64), deviation)
    assert undecided[0] or abs(near) * 8 > 0.5 or boundary < 2 * UNDECIDED
    assert not undecided[0] or abs(near) * 8 < 1.5 or boundary < 2 * UNDECIDED or second in BOUNDARIES


def probability(first: int, magnitude: int, deviation: float) -> float:
    """With which a proposal is kept, by forty digits."""
    scale = 2 ** max(round(math.log2(deviation)), 0)
    spread = Fraction(deviation) ** 2
    exponent = Fraction(first % scale, scale) + (magnitude - spread / scale) ** 2 / (2 * spread)
    with localcontext(prec=40):
        return float((-Decimal(exponent.numerator) / exponent.denominator).exp())


@pytest.mark.parametrize("times", [1, 2, 7, 40])
def test_a_word_at_a_boundary_is_decided_by_further_chance(times: int) -> None:
    boundary = int(BOUNDARIES[-times])
    _, _, undecided = judged(*(np.array([word], np.uint64) for word in (0, boundary, 0)), 1.0)
    drawn = [judged_exactly(0, boundary, 0, further * 64, 1.0)[0] for further in (b"\x00", b"\xff")]

    assert undecided[0]
    assert drawn == [times, times - 1]


@pytest.mark.parametrize("deviation", [0.4, 2.0**41, math.nan, math.inf])
def test_noise_that_cannot_be_drawn_is_refused(deviation: float) -> None:
    with pytest.raises(BadInput, match=r"noise with a deviation of .* steps cannot be drawn, only of at least 0.5 and at most 2\*\*40"):
        noise(1, deviation, KEY, 0)
