"""A secret cut into shares: as many as the threshold tell it, and one fewer tells nothing.

The secret is the value at 0 of a polynomial over the integers modulo a prime p; its other coefficients are chance:

    f(x) = secret + c1 x + c2 x^2 + ... + c(t-1) x^(t-1)   (mod p)

Holder i has f(i+1). Any t values determine f, by Lagrange's interpolation; with t-1 of them each secret fits exactly one polynomial,
so they say nothing, to however large a computer. Source: A. Shamir, "How to Share a Secret", CACM 22(11), 1979.

The prime is just above 2^256, so that every secret of 32 bytes is a number below it, and a share has 33 bytes.
Coefficients are the caller's random bytes, 136 bits more than p has, modulo p: within 2^-136 of uniform (RFC 9380, section 5).
Whether a share is the one that was handed out is not seen here, but by the commitments that go with it (`fedplane.privacy.recovering`).
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from fedplane.runtime.errors import BadInput

__all__ = ["PRIME", "SECRET_BYTES", "SHARE_BYTES", "evaluated", "join", "randomness_bytes", "split", "weights_at_zero"]

PRIME = 2**256 + 297
"""The smallest prime above 2^256."""

SECRET_BYTES = 32
SHARE_BYTES = 33
"""What a number below the prime takes."""

COEFFICIENT_BYTES = 49
"""Random bytes for one coefficient: the prime's 257 bits and 128 more, in whole bytes."""

WEIGHTS_KEPT = 256
"""Members of one neighbourhood are recovered from the same holders as a rule; the weights of 100 holders take 8 kB."""


def randomness_bytes(threshold: int) -> int:
    """How many random bytes a split needs."""
    return (threshold - 1) * COEFFICIENT_BYTES


def split(secret: bytes, holders: int, threshold: int, randomness: bytes) -> tuple[bytes, ...]:
    """A share for each holder, by number. The randomness may serve no other split."""
    if len(secret) != SECRET_BYTES:
        raise BadInput(f"a secret has {SECRET_BYTES} bytes, and this one {len(secret)}")
    if not 1 <= threshold <= holders:
        raise BadInput(f"{threshold} of {holders} shares cannot be asked for; the threshold is a number from 1 to the number of holders")
    if len(randomness) != randomness_bytes(threshold):
        raise BadInput(f"a threshold of {threshold} needs {randomness_bytes(threshold)} random bytes, and there are {len(randomness)}")
    chance = (randomness[begin : begin + COEFFICIENT_BYTES] for begin in range(0, len(randomness), COEFFICIENT_BYTES))
    polynomial = [int.from_bytes(secret, "big"), *(int.from_bytes(each, "big") % PRIME for each in chance)]
    return tuple(evaluated(polynomial, holder + 1, PRIME).to_bytes(SHARE_BYTES, "big") for holder in range(holders))


def join(shares: Mapping[int, bytes], threshold: int) -> bytes:
    """The secret, from the shares of these holders. More than the threshold are not needed, and those with higher numbers are not read."""
    if threshold < 1 or len(shares) < threshold:
        raise BadInput(f"there are {len(shares)} shares, and {max(threshold, 1)} are needed")
    holders = tuple(sorted(shares)[:threshold])
    values = [_value(holder, shares[holder]) for holder in holders]
    weights = weights_at_zero(tuple(holder + 1 for holder in holders), PRIME)
    secret = sum(weight * value for weight, value in zip(weights, values, strict=True)) % PRIME
    if secret >= 1 << 8 * SECRET_BYTES:
        raise BadInput("the shares are not of one secret: what they make is larger than any")
    return secret.to_bytes(SECRET_BYTES, "big")


def evaluated(polynomial: Sequence[int], x: int, prime: int) -> int:
    """The value of the polynomial at x, its coefficients given from the constant up (Horner's rule)."""
    value = 0
    for coefficient in reversed(polynomial):
        value = (value * x + coefficient) % prime
    return value


@lru_cache(WEIGHTS_KEPT)
def weights_at_zero(places: tuple[int, ...], prime: int) -> tuple[int, ...]:
    """What the values at these places count for in the value at 0: of place j the product of all m / (m - j) of the other places m."""
    weights = []
    for place in places:
        above, below = 1, 1
        for other in places:
            if other != place:
                above, below = above * other % prime, below * (other - place) % prime
        weights.append(above * pow(below, -1, prime) % prime)
    return tuple(weights)


def _value(holder: int, share: bytes) -> int:
    value = int.from_bytes(share, "big")
    if holder < 0 or len(share) != SHARE_BYTES or value >= PRIME:
        raise BadInput(f"what holder {holder} sent is no share: {SHARE_BYTES} bytes, as a number below the prime")
    return value
