"""An update that is masked with one honest neighbour looks like chance, even to who knows everything else; unmasked it does not.

The hub knows the cluster's own mask and those of all its other neighbours, so one stream is all that is left on the integers.
Keys are fixed, so a test's outcome is too. Each statistic is a standard normal variable if bytes are uniform and independent.
The limit of 4.5 deviations is exceeded once in 150,000 times: a wrong mask misses it by far, as the tests of the tests show.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fedplane.privacy.agreement import public_of, shared_secret
from fedplane.privacy.fixed import Fixed
from fedplane.privacy.keystream import apply

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Ring = np.ndarray[Any, Any]

ELEMENTS = 100_000
LIMIT = 4.5


def unmasked(bits: int) -> Ring:
    """Changes as training makes them: small, and both signs."""
    changes = np.random.default_rng(11).standard_normal(ELEMENTS) * 0.01
    return Fixed(clip=8.0, bits=bits, members=10).quantized(changes, share=0.7)[0]


def masked(bits: int, cluster: bytes, neighbour: bytes) -> Ring:
    values = unmasked(bits)
    apply(values, shared_secret(cluster, public_of(neighbour), b"round 3"), shard=0)
    return values


def masked_by_one_number(bits: int) -> Ring:
    """What OpenFL does: the same mask for every element."""
    values = unmasked(bits)
    values += values.dtype.type(0x9E3779B97F4A7C15 % 2**bits)
    return values


def scrambled(bits: int) -> Ring:
    """All bytes equally often, too equally, and each predicted by the one before."""
    return np.cumsum(np.full(ELEMENTS * bits // 8, 3, np.uint8), dtype=np.uint8).view(f"<u{bits // 8}")


def frequencies(data: Bytes) -> float:
    """The chi-square of the frequencies of bytes."""
    expected = len(data) / 256
    square = float((((np.bincount(data, minlength=256) - expected) ** 2) / expected).sum())
    return (square - 255) / np.sqrt(2 * 255)


def balance(data: Bytes) -> float:
    """As many ones as zeros: NIST SP 800-22, section 2.1."""
    ones = int(np.unpackbits(data).sum())
    return (2 * ones - 8 * len(data)) / np.sqrt(8 * len(data))


def runs(data: Bytes) -> float:
    """How often bits differ from those before: half the time."""
    bits = np.unpackbits(data)
    changes = int(np.count_nonzero(bits[1:] != bits[:-1]))
    return (2 * changes - (len(bits) - 1)) / np.sqrt(len(bits) - 1)


def serial(data: Bytes) -> float:
    """The correlation of each byte with the one before."""
    centred = data - data.mean()
    return float(centred[1:] @ centred[:-1] / (centred @ centred)) * np.sqrt(len(data))


STATISTICS = (frequencies, balance, runs, serial)


def conspicuous(values: Ring) -> list[str]:
    """The statistics by which these are not chance."""
    return [statistic.__name__ for statistic in STATISTICS if abs(statistic(values.view(np.uint8))) > LIMIT]


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("pair", ["ab", "ac", "cd"])
def test_with_one_honest_neighbour_an_update_looks_like_chance(pair: str, bits: int) -> None:
    assert conspicuous(masked(bits, *(name.encode() * 32 for name in pair))) == []


@pytest.mark.parametrize("bits", [32, 64])
def test_what_it_hides_is_not_to_be_seen_in_what_it_has_in_common_with_the_update(bits: int) -> None:
    """Nor by whoever guesses the update: masked integers do not go up and down with it."""
    signed = f"<i{bits // 8}"
    seen, hidden = masked(bits, b"a" * 32, b"b" * 32).view(signed).astype(float), unmasked(bits).view(signed).astype(float)

    assert abs(np.corrcoef(seen, hidden)[0, 1]) * np.sqrt(ELEMENTS) < LIMIT


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize(
    ("made", "by"),
    [
        (unmasked, ["frequencies", "runs", "serial"]),
        (masked_by_one_number, ["frequencies", "balance", "runs", "serial"]),
        (scrambled, ["frequencies", "serial"]),
    ],
)
def test_the_statistics_see_what_is_not_masked(made: Callable[[int], Ring], by: list[str], bits: int) -> None:
    assert conspicuous(made(bits)) == by


def test_the_masks_of_two_cancel_in_their_sum_and_in_neither_of_them() -> None:
    one, other = unmasked(32), unmasked(32)
    key = shared_secret(b"a" * 32, public_of(b"b" * 32), b"round 3")
    apply(one, key, 0)
    apply(other, key, 0, subtract=True)

    assert (conspicuous(one), conspicuous(other)) == ([], [])
    assert np.array_equal(one + other, 2 * unmasked(32))
