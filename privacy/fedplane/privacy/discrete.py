"""Noise in whole numbers: the discrete Gaussian, which a cluster adds to its integers before it masks them.

An integer x has a probability proportional to exp(-x**2 / (2 deviation**2)). Masked sums are integers modulo a power of two,
so noise that is an integer survives them as it is, and what is proven of it holds of what the hub sees.
Rounded floats have no such proof: their lowest bits tell what was added (Mironov 2012).

The sampler is that of Canonne, Kamath and Steinke 2020 ("The Discrete Gaussian for Differential Privacy", algorithms 2 and 3).
It proposes a number y by the discrete Laplace distribution of a scale t, and keeps it with probability
exp(-(|y| - s/t)**2 / (2 s)), where s is deviation**2. To propose is itself to draw an offset u below t and a number v of times t,
and to keep them with probability exp(-u / t). Two things are done otherwise here, and change no probability:
both tests are one, by the product of their probabilities, and t is a power of two near the deviation, for the proof holds with any t.

Tests are made with floats, whose error is far below `UNDECIDED`. Where chance falls that near to a boundary, once in a million
models of ten million numbers, the proposal is judged anew by exact arithmetic with 256 further bits of chance.
So the distribution is exact, for the deviation as the float that it is, but for 2**-256, and as far as AES in counter mode is random.
How long it takes is not hidden: it varies with the noise, by a few proposals in a hundred thousand.

Elements come in blocks, each from a place of its own in the key's stream, so any part of a shard's noise is the same as in the whole.
A key is for noise and nothing else: beside a mask of the same stream the noise could be seen.
How much noise there has to be, and what it achieves, is the business of `distributed`.
"""

import math
from decimal import Context, Decimal
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from fedplane.privacy import keystream
from fedplane.privacy.keystream import RINGS
from fedplane.runtime.errors import BadInput

__all__ = ["BLOCK_ELEMENTS", "BOUNDARIES", "DEVIATION_MAX", "DEVIATION_MIN", "UNDECIDED", "judged", "judged_exactly", "noise"]

DEVIATION_MIN = 0.5
"""Below it, what is known of sums of such noise does not hold (Kairouz, Liu and Steinke 2021, proposition 14)."""

DEVIATION_MAX = 2.0**40
"""Far beyond what 64 bits have room for beside a model's changes; 45 times as much is still exact as a float."""

BLOCK_ELEMENTS = 1 << 16
"""So many elements are drawn together: few enough for their arrays to stay in a core's cache, and enough for numpy to be fast."""

ROW_WORDS = 1 << 30
"""A proposal is made of three words of 64 bits: u and the sign, v, and the test. A block's first words are that far from its second ones.
Behind the third ones it has further bits, eight words for each proposal."""

PROPOSALS = 2.15
"""How many are made for each element at first. 48 of 100 are kept, or 41 if t suits the deviation least; what is missing is drawn next."""

TESTED_BITS = 53
"""As many bits has a float's mantissa, so a number of them below 1 is exact."""

UNDECIDED = 2.0**-46
"""A test that is nearer to its boundary is made again exactly. Arithmetic and exp are wrong by less than a quarter of that."""

DIGITS = Context(prec=140)
"""For exact tests: 2**-320 has 97 digits, and some are lost on the way."""

Words = NDArray[np.uint64]


def _boundaries() -> Words:
    """exp(-k), k = 1, 2, ..., as integers of 64 bits, rounded down, in ascending order, from 0."""
    scaled = [int(Decimal(-k).exp(DIGITS) * 2**64) for k in range(1, 46)]
    return np.array(scaled[::-1], np.uint64)


BOUNDARIES = _boundaries()
"""v is at least k with probability exp(-k): a word below the boundary of k. At a boundary itself, further bits decide."""


def noise(count: int, deviation: float, key: bytes, shard: int, first_element: int = 0) -> NDArray[np.int64]:
    """The noise of `count` elements of the shard, from that one on: the same numbers in whatever parts it is asked for.

    The key has 32 bytes, is secret, and belongs to one cluster and one round. Raises BadInput for a deviation that is out of bounds.
    """
    if not DEVIATION_MIN <= deviation <= DEVIATION_MAX:
        bounds = f"only of at least {DEVIATION_MIN} and at most 2**40 steps of the fixed-point numbers"
        raise BadInput(f"noise with a deviation of {deviation:g} steps cannot be drawn, {bounds}; change the noise, the clip or the bits")
    drawn = np.empty(count, np.int64)
    done = 0
    while done < count:
        block, begin = divmod(first_element + done, BLOCK_ELEMENTS)
        end = min(begin + count - done, BLOCK_ELEMENTS)
        drawn[done : done + end - begin] = _block(block, end, deviation, key, shard)[begin:]
        done += end - begin
    return drawn


def _block(block: int, wanted: int, deviation: float, key: bytes, shard: int) -> NDArray[np.int64]:
    """The block's first elements: of the proposals in the stream's order, those that are kept."""
    parts, proposed, rows = [], 0, [(4 * block + row) * ROW_WORDS for row in range(4)]
    while wanted > 0:
        proposals = int(wanted * PROPOSALS) + 16
        first, second, third = (_words(key, shard, row + proposed, proposals) for row in rows[:3])
        values, kept, undecided = judged(first, second, third, deviation)
        for index in np.flatnonzero(undecided):
            further = _words(key, shard, rows[3] + 8 * (proposed + int(index)), 8).tobytes()
            again = judged_exactly(int(first[index]), int(second[index]), int(third[index]), further, deviation)
            values[index], kept[index] = again
        parts.append(values[kept][:wanted])
        wanted -= len(parts[-1])
        proposed += proposals
    return np.concatenate(parts)


def _words(key: bytes, shard: int, first: int, count: int) -> Words:
    words = np.zeros(count, RINGS[64])
    keystream.apply(words, key, shard, first)
    return words


def _scale_bits(deviation: float) -> int:
    """t is 2 to the power of this."""
    return max(round(math.log2(deviation)), 0)


def judged(first: Words, second: Words, third: Words, deviation: float) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """What is proposed by three words of chance each, whether it is kept, and whether that is more than floats can say."""
    bits = _scale_bits(deviation)
    scale = 2.0**bits
    above = np.searchsorted(BOUNDARIES, second, side="right")  # at least one, the lowest boundary being 0
    undecided = BOUNDARIES[above - 1] == second
    offset = (first & np.uint64((1 << bits) - 1)).view(np.int64)
    values = offset + ((len(BOUNDARIES) - above) << bits)
    distance = (values - deviation * deviation / scale) / deviation
    probability = np.exp(-(offset / scale + distance * distance / 2))
    test = (third >> np.uint64(64 - TESTED_BITS)).view(np.int64) * 2.0**-TESTED_BITS
    undecided |= np.abs(test - probability) < UNDECIDED
    negative = first.view(np.int64) < 0
    kept = (test < probability) & ~(negative & (values == 0))  # else zero would be proposed twice as often as it should be
    np.negative(values, out=values, where=negative)
    return values, kept, undecided


def judged_exactly(first: int, second: int, third: int, further: bytes, deviation: float) -> tuple[int, bool]:
    """The same of one proposal, by exact arithmetic, with 64 further bytes of chance: half of them are for v, half for the test."""
    bits, spread = _scale_bits(deviation), Fraction(deviation)
    chance = _fraction(second, 64, further[:32])
    v = 0
    while _is_below(chance, Fraction(v + 1)):
        v += 1
    offset = first & (1 << bits) - 1
    value = (v << bits) + offset
    exponent = Fraction(offset, 1 << bits) + (value - spread**2 / (1 << bits)) ** 2 / (2 * spread**2)
    test = _fraction(third >> 64 - TESTED_BITS, TESTED_BITS, further[32:])
    negative = bool(first >> 63)
    return (-value if negative else value), _is_below(test, exponent) and not (negative and value == 0)


def _fraction(word: int, bits: int, further: bytes) -> Fraction:
    """The middle of the numbers below 1 that begin with these bits, so it is never 0, and v is at most 222."""
    return Fraction((word << 8 * len(further) | int.from_bytes(further, "big")) * 2 + 1, 1 << bits + 8 * len(further) + 1)


def _is_below(chance: Fraction, exponent: Fraction) -> bool:
    """Whether the chance is below exp(-exponent)."""
    boundary = DIGITS.divide(Decimal(-exponent.numerator), Decimal(exponent.denominator)).exp(DIGITS)
    return DIGITS.divide(Decimal(chance.numerator), Decimal(chance.denominator)) < boundary
