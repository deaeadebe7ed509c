"""Weighted sums of updates: the linear part of every fold, and where its time goes.

An algebra: `zero` is the sum of nothing, `accumulate` adds updates, `merge` adds a sum to a sum, and `divide` makes it a mean.
`mean` adds the last updates and divides in one pass.
Sums are float64 whatever the updates' dtype, so that the rounding of a sum of a thousand float32 updates stays below that of its result.

The processor adds faster than memory delivers, so what counts is how often bytes move.
With numba a pass takes eight updates at a time and keeps the sum of an element in a register: each update is read once, and little else is.
That is about as fast as one core can read at all, and it leaves Python's lock to others, so several threads can each do a part.
Without numba numpy converts, scales and adds in blocks that stay in the cache, several times slower.
The results are the same to the bit.
Either way an element begins at zero and gets one product and one addition for each update, in the order in which they are given.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedplane.aggregator.compiling import compiled

__all__ = ["accumulate", "divide", "is_finite", "mean", "merge", "zero"]

Vector = NDArray[np.float64]
Updates = Sequence[NDArray[Any]]
"""Equal parts of several members' updates: of one real dtype, and as long as the total."""

UPDATES_PER_PASS = (8, 4, 2, 1)
"""How many updates one pass adds; numba compiles a kernel for each of these numbers when it is first needed, in a quarter of a second.
More than eight streams at a time gain nothing: with four a pass over 8 updates takes 12 ms where it takes 11 with eight, and 18 with one.
"""

BLOCK_ELEMENTS = 16_384
"""For numpy: a block of float64 takes 128 KiB, so it stays in the second-level cache while it is converted, scaled and added."""

COMPILED = (np.dtype(np.float32), np.dtype(np.float64))
"""The dtypes that numba's kernels are compiled for; others are rare, and go through numpy."""


def zero(size: int) -> Vector:
    """The sum of nothing."""
    return np.zeros(size, np.float64)


def accumulate(total: Vector, updates: Updates, coefficients: Sequence[float], *, fresh: bool = False) -> None:
    """Add each update times its coefficient to the total, in place and in order. A fresh total counts as zero, whatever is in it."""
    if _add is None or not _is_compiled(updates):
        _plain_add(total, updates, coefficients, fresh)
        return
    for part in _passes(len(updates)):
        _add(total, _sealed(updates[part]), tuple(coefficients[part]), fresh and part.start == 0)


def mean(total: Vector, updates: Updates, coefficients: Sequence[float], divisor: float, out: NDArray[Any], *, fresh: bool = False) -> bool:
    """Add the updates as `accumulate` does and put the sum divided by the divisor into `out`; say whether all of that is finite.

    The total is used up: what is in it afterwards is no sum of anything.
    """
    if _finish is None or not _is_compiled(updates) or out.dtype not in COMPILED:
        accumulate(total, updates, coefficients, fresh=fresh)
        return divide(total, divisor, out)
    *parts, last = _passes(len(updates))
    for part in parts:
        accumulate(total, updates[part], coefficients[part], fresh=fresh and part.start == 0)
    return bool(_finish(total, _sealed(updates[last]), tuple(coefficients[last]), fresh and not parts, divisor, out))


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


def _passes(updates: int) -> Iterator[slice]:
    """So many updates in as few passes as there are kernels for."""
    begin = 0
    for several in UPDATES_PER_PASS:
        while begin + several <= updates:
            yield slice(begin, begin + several)
            begin += several


def _is_compiled(updates: Updates) -> bool:
    """Whether a kernel takes them: it has one type for all."""
    return bool(updates) and all(
        update.dtype == updates[0].dtype and update.dtype in COMPILED and update.flags.aligned and update.flags.c_contiguous
        for update in updates
    )


def _sealed(updates: Updates) -> tuple[NDArray[Any], ...]:
    """Read-only, as what comes from the bus is: to numba an array that may be written to has another type."""
    return tuple(_sealed_view(update) if update.flags.writeable else update for update in updates)


def _sealed_view(update: NDArray[Any]) -> NDArray[Any]:
    view = update[:]
    view.flags.writeable = False
    return view


def _plain_add(total: Vector, updates: Updates, coefficients: Sequence[float], fresh: bool) -> None:
    block = np.empty(min(BLOCK_ELEMENTS, len(total)))
    for begin in range(0, len(total), BLOCK_ELEMENTS):
        into = total[begin : begin + BLOCK_ELEMENTS]
        scaled = block[: len(into)]
        if fresh:
            into[:] = 0.0
        for update, coefficient in zip(updates, coefficients, strict=True):
            scaled[:] = update[begin : begin + BLOCK_ELEMENTS]
            scaled *= coefficient
            into += scaled


def _add_updates(total: Vector, updates: tuple[NDArray[Any], ...], coefficients: tuple[float, ...], fresh: bool) -> None:
    for index in range(total.shape[0]):
        value = 0.0 if fresh else total[index]
        for which in range(len(updates)):  # unrolled: the length of a tuple is part of its type
            value += coefficients[which] * updates[which][index]
        total[index] = value


def _finish_updates(
    total: Vector, updates: tuple[NDArray[Any], ...], coefficients: tuple[float, ...], fresh: bool, divisor: float, out: NDArray[Any]
) -> bool:
    spoilt = 0
    for index in range(out.shape[0]):
        value = 0.0 if fresh else total[index]
        for which in range(len(updates)):
            value += coefficients[which] * updates[which][index]
        out[index] = value / divisor
        spoilt |= not np.isfinite(out[index])
    return spoilt == 0


def _divide_and_check(total: Vector, divisor: float, out: NDArray[Any]) -> bool:
    spoilt = 0
    for index in range(total.shape[0]):
        out[index] = total[index] / divisor
        spoilt |= not np.isfinite(out[index])
    return spoilt == 0


_add, _finish, _divide = compiled(_add_updates), compiled(_finish_updates), compiled(_divide_and_check)
