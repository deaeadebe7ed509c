"""Weighted sums of updates: the linear part of every fold, and where its time goes.

An algebra: `zero` is the sum of nothing, `accumulate` adds an update, `merge` adds a sum to a sum, and `divide` makes it a mean.
Sums are float64 whatever the updates' dtype, so that the rounding of a sum of a thousand float32 updates stays below that of its result.
With numba one pass over an update converts, scales and adds at the speed of memory.
Without it numpy does the same in blocks that stay in the cache, at about a third of the speed.
The results are the same to the bit, because either way each element is one product and one sum.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

try:
    from numba import njit
except ImportError:  # the extra `fast` is not installed
    njit = None  # type: ignore[assignment]

__all__ = ["accumulate", "divide", "is_finite", "merge", "zero"]

Vector = NDArray[np.float64]

BLOCK_ELEMENTS = 16_384
"""A block of float64 takes 128 KiB, so it stays in the second-level cache while it is converted, scaled and added."""

COMPILED = (np.dtype(np.float32), np.dtype(np.float64))
"""The dtypes that numba's kernel is compiled for; others are rare, and go through numpy."""


def zero(size: int) -> Vector:
    """The sum of nothing."""
    return np.zeros(size, np.float64)


def accumulate(total: Vector, values: NDArray[Any], coefficient: float) -> None:
    """Add `coefficient` times the values, of any real dtype, to the total, in place."""
    if _kernel is not None and values.dtype in COMPILED:
        _kernel(total, values, coefficient)
        return
    block = np.empty(min(BLOCK_ELEMENTS, len(values)))
    for begin in range(0, len(values), BLOCK_ELEMENTS):
        some = values[begin : begin + BLOCK_ELEMENTS]
        scaled = block[: len(some)]
        scaled[:] = some
        scaled *= coefficient
        total[begin : begin + BLOCK_ELEMENTS] += scaled


def merge(total: Vector, other: Vector) -> None:
    """Add the other sum to the total, in place."""
    total += other


def divide(total: Vector, divisor: float, out: NDArray[Any]) -> bool:
    """Put the total divided by the divisor into `out`, whose dtype is a float's; say whether all of that is finite."""
    if _divide is not None and out.dtype in COMPILED:
        return bool(_divide(total, divisor, out))
    with np.errstate(over="ignore"):  # what overflows is not finite, and that is said
        out[:] = (total / divisor).astype(out.dtype)
    return is_finite(out)


def is_finite(values: NDArray[Any]) -> bool:
    """Whether all floats are finite. Extremes tell it in one pass: to numpy a NaN is the smallest and the largest of any values."""
    if values.dtype not in COMPILED or not len(values):
        return bool(np.isfinite(values).all())
    with np.errstate(invalid="ignore"):  # it warns of a NaN, which we look for
        return bool(np.isfinite(values.min()) and np.isfinite(values.max()))


def _add_scaled(total: Vector, values: NDArray[Any], coefficient: float) -> None:
    for index in range(total.shape[0]):
        total[index] += coefficient * values[index]


def _divide_and_check(total: Vector, divisor: float, out: NDArray[Any]) -> bool:
    spoilt = 0
    for index in range(total.shape[0]):
        out[index] = total[index] / divisor
        spoilt |= not np.isfinite(out[index])
    return spoilt == 0


# nogil: folds run in threads. fastmath stays off: neither the order of operations nor fused multiplication may change a result.
_kernel = _divide = None
if njit is not None:
    _kernel, _divide = njit(nogil=True, cache=True)(_add_scaled), njit(nogil=True, cache=True)(_divide_and_check)
