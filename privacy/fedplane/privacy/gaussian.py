"""Normal noise that any replica can draw again: a function of a secret key and an element's number, the same bits on every machine.

Whoever folds a shard a second time must come to the same bytes. Else there would be two noisy versions of one sum,
and whoever saw both would know more than one tells; and a model could not be compared with that of an undisturbed run.
So chance is the key's stream of AES in counter mode, one word of 64 bits for each element, and nobody's generator has a state.

A word becomes a normal number by the inverse of the normal distribution function:
its first bit is the sign, and the others are the probability p of being farther out on that side, between 2**-64 and one half.
The inverse is Wichura's (1988, algorithm AS 241, "The Percentage Points of the Normal Distribution"), exact to 16 digits:
quotients of polynomials, in the middle of the distribution of p and in the tails of sqrt(-log p).
It is made of additions, multiplications, divisions and roots alone, the logarithm included, for of these IEEE 754 fixes every bit.
A library's logarithm or cosine may differ in the last bit from one processor to the next, and Box and Muller's way needs both.

Numbers farther out than 9.2 standard deviations do not occur; that any of a thousand million elements would have had one
has a probability of 1e-10. What is drawn is rounded to a float like everything else. So it is noise of the distribution that is proven of,
up to what the last bits of a float tell (Mironov 2012, "On Significance of the Least Significant Bits For Differential Privacy").
Noise that is exact, as whole numbers, is in `discrete`. How much is needed is the business of `accounting`.
"""

import numpy as np
from numpy.typing import NDArray

from fedplane.privacy import keystream

__all__ = ["standard_normals"]

BLOCK_ELEMENTS = 1 << 14
"""So many are drawn together: half a dozen arrays of them, 128 KiB each, stay in a core's second-level cache."""

CENTRAL = 0.425
"""Up to so far from one half, p has a polynomial of its own: that is for 85 of 100 elements."""

FAR = 5.0
"""Where the tails' second polynomial begins, by sqrt(-log p): for one element in 30 thousand million."""

Vector = NDArray[np.float64]
Polynomial = tuple[float, ...]
"""Coefficients, that of the highest power first."""

# Wichura's coefficients, numerators and denominators: of the middle, of the tails, and of the far tails.
MIDDLE: tuple[Polynomial, Polynomial] = (
    (2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4, 4.5921953931549871457e4,
     1.3731693765509461125e4, 1.9715909503065514427e3, 1.3314166789178437745e2, 3.3871328727963666080e0),
    (5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4, 2.1213794301586595867e4,
     5.3941960214247511077e3, 6.8718700749205790830e2, 4.2313330701600911252e1, 1.0),
)  # fmt: skip
TAILS: tuple[Polynomial, Polynomial] = (
    (7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1, 1.27045825245236838258e0,
     3.64784832476320460504e0, 5.76949722146069140550e0, 4.63033784615654529590e0, 1.42343711074968357734e0),
    (1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2, 1.48103976427480074590e-1,
     6.89767334985100004550e-1, 1.67638483018380384940e0, 2.05319162663775882187e0, 1.0),
)  # fmt: skip
FAR_TAILS: tuple[Polynomial, Polynomial] = (
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3, 2.65321895265761230930e-2,
     2.96560571828504891230e-1, 1.78482653991729133580e0, 5.46378491116411436990e0, 6.65790464350110377720e0),
    (2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5, 7.86869131145613259100e-4,
     1.48753612908506148525e-2, 1.36929880922735805310e-1, 5.99832206555887937690e-1, 1.0),
)  # fmt: skip

ARTANH: Polynomial = tuple(2.0 / power for power in range(23, 0, -2))
"""log m = 2 artanh f = f (2 + 2/3 f**2 + 2/5 f**4 + ...), where f = (m - 1) / (m + 1). It is below 0.172, and the rest below 1e-18."""

LOG_2 = 0.6931471805599453


def standard_normals(key: bytes, first: int, count: int) -> Vector:
    """The noise of `count` elements from that one on, with a standard deviation of 1: the same in whatever parts it is asked for.

    The key has 32 bytes, is secret, and is for nothing else.
    """
    drawn = np.empty(count)
    for begin in range(0, count, BLOCK_ELEMENTS):
        part = drawn[begin : begin + BLOCK_ELEMENTS]
        words = np.zeros(len(part), keystream.RINGS[64])
        keystream.apply(words, key, 0, first + begin, subtract=False)
        _normal(words, part)
    return drawn


def _normal(words: NDArray[np.uint64], into: Vector) -> None:
    outside = (words & np.uint64((1 << 63) - 1)).astype(np.float64)
    outside += 0.5
    outside *= 2.0**-64
    away = 0.5 - outside
    _quotient(MIDDLE, CENTRAL**2 - away * away, into)
    into *= away
    tails = np.flatnonzero(away > CENTRAL)
    into[tails] = _in_tails(outside[tails])
    np.negative(into, out=into, where=words >= np.uint64(1 << 63))


def _in_tails(outside: Vector) -> Vector:
    root = np.sqrt(_minus_log(outside))
    found = np.empty(len(root))
    _quotient(TAILS, root - 1.6, found)
    far = np.flatnonzero(root > FAR)
    if len(far):
        farther = np.empty(len(far))
        _quotient(FAR_TAILS, root[far] - FAR, farther)
        found[far] = farther
    return found


def _minus_log(values: Vector) -> Vector:
    """-log of numbers between 0 and 1. They are taken apart into powers of two and what is between the root of 1/2 and that of 2."""
    mantissa, exponent = np.frexp(values)
    low = mantissa < 0.7071067811865476
    mantissa[low] *= 2.0
    exponent = exponent - low
    ratio = (mantissa - 1.0) / (mantissa + 1.0)
    log = _value(ARTANH, ratio * ratio)
    log *= ratio
    return -(exponent * LOG_2 + log)


def _quotient(polynomials: tuple[Polynomial, Polynomial], at: Vector, into: Vector) -> None:
    np.divide(_value(polynomials[0], at), _value(polynomials[1], at), out=into)


def _value(polynomial: Polynomial, at: Vector) -> Vector:
    """The polynomial's value by Horner's rule; each step rounds twice, as nothing here may be fused into one."""
    value = np.full(len(at), polynomial[0])
    for coefficient in polynomial[1:]:
        value *= at
        value += coefficient
    return value
