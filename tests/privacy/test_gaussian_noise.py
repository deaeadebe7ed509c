"""Normal noise of a key: that it is normal, that parts of it are those of the whole, and that nobody without the key has the same."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtri
from scipy.stats import kstest, norm

from fedplane.privacy import gaussian, keystream
from fedplane.privacy.gaussian import standard_normals

KEYS = [bytes([number]) * 32 for number in range(4)]
MANY = 200_000


@pytest.mark.parametrize("key", KEYS)
def test_it_has_the_moments_and_the_distribution_of_normal_numbers(key: bytes) -> None:
    """The seeds are fixed, so this fails always or never; a true sample would fail one of the four in some hundred cases."""
    drawn = standard_normals(key, 0, MANY)

    assert abs(drawn.mean()) < 3 / np.sqrt(MANY)
    assert abs(drawn.var() - 1) < 3 * np.sqrt(2 / MANY)
    assert abs((drawn**3).mean()) < 3 * np.sqrt(15 / MANY)
    assert abs((drawn**4).mean() - 3) < 3 * np.sqrt(96 / MANY)
    assert kstest(drawn, "norm").pvalue > 0.01


def test_neighbours_have_nothing_to_do_with_each_other() -> None:
    drawn = standard_normals(KEYS[0], 0, MANY)

    assert all(abs((drawn[lag:] * drawn[:-lag]).mean()) < 3 / np.sqrt(MANY) for lag in (1, 2, 3, gaussian.BLOCK_ELEMENTS))


def test_the_tails_are_as_heavy_as_they_should_be() -> None:
    drawn = np.abs(standard_normals(KEYS[1], 0, 1_000_000))

    for away in (1.5, 3.0, 4.0):
        expected = 1_000_000 * 2 * norm.sf(away)
        assert abs((drawn > away).sum() - expected) < 3 * np.sqrt(expected)


@given(st.integers(0, 50_000), st.lists(st.integers(1, 20_000), min_size=1, max_size=4))
def test_parts_are_those_of_the_whole_wherever_they_begin(first: int, sizes: list[int]) -> None:
    begins = [first + sum(sizes[:number]) for number in range(len(sizes))]
    parts = [standard_normals(KEYS[2], begin, size) for begin, size in zip(begins, sizes, strict=True)]

    assert np.concatenate(parts).tobytes() == standard_normals(KEYS[2], first, sum(sizes)).tobytes()


def test_another_key_has_other_noise_that_has_nothing_to_do_with_it() -> None:
    one, other = standard_normals(KEYS[0], 0, MANY), standard_normals(KEYS[3], 0, MANY)

    assert abs((one * other).mean()) < 3 / np.sqrt(MANY)


def test_a_word_of_the_stream_becomes_the_number_that_the_inverse_distribution_says() -> None:
    """SciPy's inverse is another algorithm (Cephes); the words are those of the stream, and each power of two, which reach far out."""
    words = np.zeros(50_000, keystream.RINGS[64])
    keystream.apply(words, KEYS[0], 0, 0)
    words[:128] = [1 << bit | side for bit in range(63) for side in (0, 1 << 63)] + [0, 1 << 63]
    drawn = np.empty(len(words))
    gaussian._normal(words, drawn)
    outside = ((words & np.uint64((1 << 63) - 1)).astype(np.float64) + 0.5) * 2.0**-64

    assert drawn == pytest.approx(np.where(words >> np.uint64(63), 1, -1) * ndtri(outside), rel=4e-15, abs=1e-15)
    assert (drawn.min(), drawn.max()) == pytest.approx((-9.15529, 9.15529), abs=1e-5)


def test_some_numbers_are_for_ever_what_they_are() -> None:
    """A model that was noised by one version or machine has to be had again by another, bit for bit."""
    drawn = standard_normals(bytes(range(32)), 10**9, 10_000)

    assert drawn[0].hex() == "-0x1.9468015f91a20p-2"
    assert hashlib.sha256(drawn.tobytes()).hexdigest() == "4fa85f69c64b88cbd9561ac04f5ec5d1077562e8c6666a1cfafc468ac18803e6"
