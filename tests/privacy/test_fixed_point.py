"""Changes as integers: how exact their mean is, that their sum cannot overflow, and what is refused."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fedplane.privacy.fixed import BLOCK_ELEMENTS, LEVELS_MAX, LEVELS_MIN, Fixed
from fedplane.privacy.keystream import apply
from fedplane.runtime.errors import BadInput

both = pytest.mark.parametrize("bits", [32, 64])
clips = st.floats(2.0**-40, 2.0**40)
shares = st.floats(0, 1)


@st.composite
def rounds(draw: st.DrawFn) -> tuple[Fixed, list[list[float]], list[float]]:
    """A round's arithmetic, every member's changes, and every member's share."""
    members, size = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    fixed = Fixed(draw(clips), draw(st.sampled_from([32, 64])), members)
    change = st.floats(-2 * fixed.clip, 2 * fixed.clip) | st.sampled_from([fixed.clip, -fixed.clip, fixed.step / 2, 0.0, 5e-324, 1e300])
    changes = [draw(st.lists(change, min_size=size, max_size=size)) for _ in range(members)]
    some = [draw(shares) for _ in range(members - 1)]
    return fixed, changes, [*some, draw(st.floats(2.0**-10, 1))]


def summed(fixed: Fixed, changes: list[list[float]], its_shares: list[float]) -> np.ndarray[Any, Any]:
    total = np.zeros(len(changes[0]), fixed.dtype)
    for change, share in zip(changes, its_shares, strict=True):
        total += fixed.quantized(np.array(change), share)[0]
    return total


@settings(max_examples=150)
@given(rounds())
def test_the_mean_is_as_exact_as_is_said(given: tuple[Fixed, list[list[float]], list[float]]) -> None:
    fixed, changes, its_shares = given
    together, clip = math.fsum(its_shares), Fraction(fixed.clip)
    mean = fixed.mean(summed(fixed, changes, its_shares), together)
    hidden = fixed.shares(sum(fixed.weight(share) for share in its_shares))
    mean_of_hidden = fixed.mean(summed(fixed, changes, its_shares), hidden)

    for element, (got, got_hidden) in enumerate(zip(mean, mean_of_hidden, strict=True)):
        exact = sum(
            Fraction(share) * max(-clip, min(clip, Fraction(change[element]))) for share, change in zip(its_shares, changes, strict=True)
        )
        assert abs(Fraction(float(got)) - exact / Fraction(together)) <= Fraction(fixed.error(together))
        assert abs(Fraction(float(got_hidden)) - exact / sum(map(Fraction, its_shares))) <= Fraction(fixed.error(hidden, hidden=True))


@settings(max_examples=50)
@example(0.1, 64, 5, 0.0, 1.0)
@given(clips, st.sampled_from([32, 64]), st.integers(1, 10**6), st.floats(0, 100), shares)
def test_no_number_of_members_can_leave_a_quarter_of_the_ring(clip: float, bits: int, members: int, noise: float, share: float) -> None:
    fixed = Fixed(clip, bits, members, noise * clip / math.sqrt(members))
    largest = np.array([1e300, clip, -clip, -1e300])
    values, _ = fixed.quantized(largest, share)
    most = int(np.abs(values.view(f"<i{bits // 8}")).max())

    assert most <= fixed.weight(share) + 1 and most <= fixed.levels
    noise_steps = Fraction(8 * math.sqrt(members) * fixed.noise_deviation) * fixed.levels / Fraction(clip)
    assert members * fixed.levels + noise_steps * Fraction("0.999999") <= fixed.reach <= 2 ** (bits - 2)
    assert LEVELS_MIN <= fixed.levels <= LEVELS_MAX


@both
def test_the_sum_of_everybodys_largest_change_is_in_range_and_exact(bits: int) -> None:
    fixed = Fixed(0.1, bits, members=1000)
    total = summed(fixed, [[9.0, -9.0, 0.0]] * 1000, [1.0] * 1000)

    assert fixed.in_range(total)
    assert fixed.mean(total, 1000.0).tolist() == pytest.approx([0.1, -0.1, 0.0], abs=fixed.error(1000.0))


@both
def test_a_sum_with_a_mask_still_on_it_is_found_out(bits: int) -> None:
    fixed = Fixed(1.0, bits, members=10)
    total = summed(fixed, [[0.5] * 40] * 10, [1.0] * 10)
    assert fixed.in_range(total)

    apply(total, bytes(32), 0)

    assert not fixed.in_range(total)


@both
def test_a_single_element_farther_out_than_members_can_be_is_found_out(bits: int) -> None:
    fixed = Fixed(1.0, bits, members=3)
    reach = np.array([fixed.reach, -fixed.reach])

    assert fixed.in_range(reach.astype(fixed.dtype))
    assert not fixed.in_range(np.add(reach, [1, 0]).astype(fixed.dtype))
    assert not fixed.in_range(np.subtract(reach, [0, 1]).astype(fixed.dtype))
    assert fixed.in_range(np.zeros(0, fixed.dtype))


@both
def test_changes_are_those_of_the_update_from_the_model_and_those_that_are_clipped_are_counted(bits: int) -> None:
    """Over several blocks, with any two dtypes."""
    fixed, size = Fixed(1.0, bits, members=4), 2 * BLOCK_ELEMENTS + 5
    model = np.arange(size) % 7
    change = np.arange(size) % 5 - 2.0  # two of five are beyond the clip
    for update_dtype, model_dtype in [("<f4", "<f4"), ("<f8", "<f2"), ("<i4", "<u1")]:
        values, clipped = fixed.quantized((model + change).astype(update_dtype), 0.5, model.astype(model_dtype))

        assert clipped == np.count_nonzero(np.abs(change) > 1)
        assert np.array_equal(values.view(f"<i{bits // 8}"), np.rint(np.clip(change, -1, 1) * 0.5 * fixed.levels))


def test_nothing_that_is_given_is_changed() -> None:
    update, model = np.array([5.0, -7.0]), np.array([1.0, 1.0])

    Fixed(1.0, 32, 3).quantized(update, 1.0, model)

    assert (update.tolist(), model.tolist()) == ([5.0, -7.0], [1.0, 1.0])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_change_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(BadInput, match=r"not finite.*diverged"):
        Fixed(1.0, 32, 3).quantized(np.array([0.0, value, 2.0]), 1.0)


def test_noise_takes_room_from_levels() -> None:
    quiet, loud = Fixed(1.0, 32, 100), Fixed(1.0, 32, 100, noise_deviation=1.25)

    assert (quiet.levels, loud.levels) == (2**30 // 100, 2**30 // 200)


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ((1.0, 16, 3), "a ring has 32 or 64 bits, and not 16"),
        ((0.0, 32, 3), "a clip is a positive number, and not 0.0"),
        ((math.inf, 32, 3), "a clip is a positive number, and not inf"),
        ((math.nan, 32, 3), "a clip is a positive number, and not nan"),
        ((1e-320, 64, 3), "too small to be divided"),
        ((1.0, 32, 0), "from 0 members"),
        ((1.0, 32, 3, -1.0), "no noise of deviation -1.0"),
        ((1.0, 32, 5 * 10**6), "has 214 levels .* 256 are needed; use 64 bits"),
        ((1.0, 32, 100, 1e6), "use 64 bits, less noise or fewer members"),
    ],
)
def test_a_round_whose_numbers_do_not_fit_the_ring_is_refused(numbers: tuple[Any, ...], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        Fixed(*numbers)


def test_what_no_members_can_have_sent_has_no_mean() -> None:
    fixed = Fixed(1.0, 32, 3)

    with pytest.raises(BadInput, match="shares sum to 0"):
        fixed.mean(np.zeros(2, np.uint32), 0.0)
    with pytest.raises(BadInput, match="the sum of weights is none"):
        fixed.shares(3 * fixed.levels + 1)
    with pytest.raises(BadInput, match="sums have the type uint32, and not uint64"):
        fixed.in_range(np.zeros(2, np.uint64))
    with pytest.raises(BadInput, match=r"from 0 to 1, and not 1.5; say a larger weightMax"):
        fixed.quantized(np.zeros(2), 1.5)
