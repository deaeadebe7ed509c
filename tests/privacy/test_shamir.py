"""Shares of a secret: the threshold tells it, one fewer tells nothing."""

from collections import Counter
from itertools import combinations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedplane.privacy.shamir import PRIME, SECRET_BYTES, SHARE_BYTES, evaluated, join, randomness_bytes, split, weights_at_zero
from fedplane.runtime.errors import BadInput

SECRET = bytes(range(SECRET_BYTES))


def chance(threshold: int) -> bytes:
    return bytes(index * 151 % 256 for index in range(randomness_bytes(threshold)))


@settings(max_examples=60)
@given(st.data(), st.binary(min_size=SECRET_BYTES, max_size=SECRET_BYTES), st.integers(1, 12))
def test_any_threshold_of_the_shares_tell_the_secret(data: st.DataObject, secret: bytes, holders: int) -> None:
    threshold = data.draw(st.integers(1, holders))
    size = randomness_bytes(threshold)
    shares = split(secret, holders, threshold, data.draw(st.binary(min_size=size, max_size=size)))
    some = data.draw(st.permutations(range(holders)))[: data.draw(st.integers(threshold, holders))]

    assert {len(share) for share in shares} == {SHARE_BYTES}
    assert join({holder: shares[holder] for holder in some}, threshold) == secret


def test_one_share_fewer_fits_every_secret_equally_often() -> None:
    """Exhaustively, in a small field: the arithmetic is the same in a large one."""
    prime, holders, threshold = 7, 4, 3
    for places in combinations(range(1, holders + 1), threshold - 1):
        seen = Counter(
            (tuple(evaluated(polynomial, place, prime) for place in places), polynomial[0])
            for polynomial in product(range(prime), repeat=threshold)
        )
        assert seen == dict.fromkeys(product(product(range(prime), repeat=threshold - 1), range(prime)), 1)


def test_the_threshold_fits_one_secret_only_in_the_small_field_too() -> None:
    prime, places = 7, (1, 3, 4)
    weights = weights_at_zero(places, prime)

    for polynomial in product(range(prime), repeat=3):
        values = [evaluated(polynomial, place, prime) for place in places]
        assert sum(weight * value for weight, value in zip(weights, values, strict=True)) % prime == polynomial[0]


def test_the_modulus_is_the_smallest_prime_above_every_secret() -> None:
    def is_prime(number: int) -> bool:
        """Miller and Rabin's test to the first twenty prime bases."""
        odd, twos = number - 1, 0
        while odd % 2 == 0:
            odd, twos = odd // 2, twos + 1
        for base in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71):
            powers = [pow(base, odd << two, number) for two in range(twos)]
            if powers[0] != 1 and number - 1 not in powers:
                return False
        return True

    assert [number for number in range(2**256 + 1, 2**256 + 298, 2) if is_prime(number)] == [PRIME]


def test_shares_of_the_largest_secret_are_joined() -> None:
    largest = b"\xff" * SECRET_BYTES

    assert join(dict(enumerate(split(largest, 3, 2, b"\xff" * randomness_bytes(2)))), 2) == largest


def test_a_share_that_was_changed_gives_another_secret() -> None:
    shares = dict(enumerate(split(SECRET, 3, 2, chance(2))))
    shares[1] = shares[1][:-1] + bytes([shares[1][-1] ^ 1])

    assert join(shares, 2) != SECRET


def test_shares_beyond_the_threshold_are_not_needed_and_not_read() -> None:
    shares = dict(enumerate(split(SECRET, 4, 2, chance(2))))

    assert join({**shares, 3: bytes(SHARE_BYTES)}, 2) == SECRET


def test_shares_of_no_secret_are_found_out_if_they_make_more_than_any() -> None:
    with pytest.raises(BadInput, match="not of one secret"):
        join({0: (PRIME - 1).to_bytes(SHARE_BYTES, "big")}, 1)


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ({0: bytes(SHARE_BYTES)}, "there are 1 shares, and 2 are needed"),
        ({0: bytes(SHARE_BYTES), 1: bytes(SHARE_BYTES - 1)}, "what holder 1 sent is no share"),
        ({0: bytes(SHARE_BYTES), 1: PRIME.to_bytes(SHARE_BYTES, "big")}, "what holder 1 sent is no share"),
    ],
)
def test_what_is_no_share_is_refused(shares: dict[int, bytes], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        join(shares, 2)


@pytest.mark.parametrize(
    ("secret", "holders", "threshold", "randomness", "said"),
    [
        (SECRET[1:], 3, 2, chance(2), "a secret has 32 bytes"),
        (SECRET, 3, 4, chance(4), "4 of 3 shares cannot be asked for"),
        (SECRET, 3, 0, b"", "0 of 3 shares cannot be asked for"),
        (SECRET, 3, 3, chance(2), "needs 98 random bytes, and there are 49"),
    ],
)
def test_what_cannot_be_split_is_refused(secret: bytes, holders: int, threshold: int, randomness: bytes, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        split(secret, holders, threshold, randomness)
