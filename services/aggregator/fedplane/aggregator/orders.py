"""Order statistics of updates, element by element: medians, trimmed means, means around the median.

Sorting every element's values by itself would be one branchy sort of a few numbers, millions of times.
Here the members' rows are sorted against each other by a sorting network: a fixed list of comparisons of two rows, whatever is in them.
A comparison is a minimum and a maximum over neighbouring elements, which processors do many at a time.
Comparisons that no wanted rank depends on are left out of the network: a median needs fewer of them than a sort.

Rows are float32 or float64 and must be finite; ranks are exact in either, and means of them are taken in float64, from the lowest up.
With numba a block of elements stays in the cache from its first comparison to its mean.
Without it numpy applies the same network, so the results are the same to the bit.
Sources: K. E. Batcher, "Sorting Networks and Their Applications", 1968;
D. E. Knuth, "The Art of Computer Programming", volume 3, section 5.2.2, algorithm M.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedplane.aggregator.compiling import COMPILES, compiled

__all__ = ["mean_around_median", "median", "network", "trimmed_mean"]

Vector = NDArray[np.float64]
Rows = NDArray[Any]
"""Members x elements, float32 or float64."""

Comparisons = NDArray[np.int64]
"""Pairs of rows (comparisons x 2): the smaller value goes to the first."""

BLOCK_BYTES = 16_384
"""A block of all members' rows stays in the first-level cache, of 32 to 48 KiB; four times that was a quarter slower."""

BLOCK_ELEMENTS_MIN = 64
"""Fewer elements than that, and going from row to row costs more than comparing them. It is also one page's worth of cache lines."""

PLAIN_BLOCK_BYTES = 524_288
"""The same for numpy, which pays more for every comparison of two rows and so wants longer ones: a second-level cache."""

NETWORKS_KEPT = 64
"""A run needs one network per number of members; a large one (256 members) takes 60 kB."""


def median(rows: Rows) -> Vector:
    """The middle value of each element; of an even number of members the mean of the middle two."""
    members = len(rows)
    return _mean_of_ranks(rows, (members - 1) // 2, members // 2 + 1)


def trimmed_mean(rows: Rows, cut: int) -> Vector:
    """The mean of each element's values without the `cut` smallest and the `cut` largest."""
    return _mean_of_ranks(rows, cut, len(rows) - cut)


def mean_around_median(rows: Rows, keep: int) -> Vector:
    """The mean of the `keep` values of each element that are closest to their median; of two equally close ones the smaller counts."""
    comparisons, out = network(len(rows), 0, len(rows)), np.empty(rows.shape[1])
    if _around is not None:
        _around(np.ascontiguousarray(rows), comparisons, keep, out, _block(rows))
        return out
    for part in _parts(rows):
        _plain_around(rows[:, part], comparisons, keep, out[part])
    return out


@lru_cache(NETWORKS_KEPT)
def network(members: int, low: int, high: int) -> Comparisons:
    """The comparisons that bring the values of ranks [low, high) to the rows of these numbers."""
    comparisons = []
    top = 1 << max(members - 1, 0).bit_length() >> 1
    step = top
    while step:
        last, offset, distance = top, 0, step
        while True:
            comparisons += [(row, row + distance) for row in range(members - distance) if row & step == offset]
            if last == step:
                break
            distance, last, offset = last - step, last >> 1, step
        step >>= 1
    wanted, needed = set(range(low, high)), []
    for pair in reversed(comparisons):
        if wanted.intersection(pair):
            wanted.update(pair)
            needed.append(pair)
    return np.array(needed[::-1], np.int64).reshape(-1, 2)


def _mean_of_ranks(rows: Rows, low: int, high: int) -> Vector:
    comparisons, out = network(len(rows), low, high), np.empty(rows.shape[1])
    if _ranks is not None:
        _ranks(np.ascontiguousarray(rows), comparisons, low, high, out, _block(rows))
        return out
    for part in _parts(rows):
        _plain_ranks(rows[:, part], comparisons, low, high, out[part])
    return out


def _block(rows: Rows) -> Rows:
    length = max(BLOCK_BYTES // (rows.itemsize * len(rows)), BLOCK_ELEMENTS_MIN)
    return np.zeros((len(rows), length), rows.dtype)


def _parts(rows: Rows) -> list[slice]:
    size, length = rows.shape[1], max(PLAIN_BLOCK_BYTES // (rows.itemsize * len(rows)), BLOCK_ELEMENTS_MIN)
    return [slice(begin, min(begin + length, size)) for begin in range(0, size, length)]


def _plain_sort(rows: Rows, comparisons: Comparisons) -> list[Rows]:
    held, spare = list(rows.copy()), np.empty_like(rows[0])
    for low, high in comparisons:
        np.minimum(held[low], held[high], out=spare)
        np.maximum(held[low], held[high], out=held[high])
        held[low], spare = spare, held[low]
    return held


def _plain_ranks(rows: Rows, comparisons: Comparisons, low: int, high: int, out: Vector) -> None:
    held = _plain_sort(rows, comparisons)
    out[:] = 0.0
    for row in held[low:high]:
        out += row
    out /= high - low


def _plain_around(rows: Rows, comparisons: Comparisons, keep: int, out: Vector) -> None:
    held = np.stack(_plain_sort(rows, comparisons)).astype(np.float64)
    members = len(held)
    middle = (held[(members - 1) // 2] + held[members // 2]) / 2
    first = np.zeros(held.shape[1], np.int64)
    for start in range(members - keep):
        first += (first == start) & (middle - held[start] > held[start + keep] - middle)
    out[:] = 0.0
    for offset in range(keep):
        out += np.take_along_axis(held, first[None, :] + offset, axis=0)[0]
    out /= keep


def _load(rows: Rows, begin: int, block: Rows) -> None:
    for member in range(rows.shape[0]):
        row, held = rows[member, begin : begin + block.shape[1]], block[member]
        for at in range(row.shape[0]):
            held[at] = row[at]


def _sort(block: Rows, comparisons: Comparisons) -> None:
    for number in range(comparisons.shape[0]):
        low, high = block[comparisons[number, 0]], block[comparisons[number, 1]]
        for at in range(low.shape[0]):
            one, other = low[at], high[at]
            low[at] = one if one < other else other
            high[at] = other if one < other else one


def _sum_ranks(block: Rows, low: int, high: int, out: Vector) -> None:
    out[:] = 0.0
    for rank in range(low, high):
        row = block[rank]
        for at in range(out.shape[0]):
            out[at] += row[at]
    for at in range(out.shape[0]):
        out[at] /= high - low


def _sum_around(block: Rows, keep: int, out: Vector) -> None:
    members = block.shape[0]
    for at in range(out.shape[0]):
        middle = (np.float64(block[(members - 1) // 2, at]) + np.float64(block[members // 2, at])) / 2
        first = 0
        while first + keep < members and middle - block[first, at] > block[first + keep, at] - middle:
            first += 1
        total = 0.0
        for rank in range(first, first + keep):
            total += block[rank, at]
        out[at] = total / keep


def _ranks_in_blocks(rows: Rows, comparisons: Comparisons, low: int, high: int, out: Vector, block: Rows) -> None:
    for begin in range(0, rows.shape[1], block.shape[1]):
        _load(rows, begin, block)
        _sort(block, comparisons)
        _sum_ranks(block, low, high, out[begin : begin + block.shape[1]])


def _around_in_blocks(rows: Rows, comparisons: Comparisons, keep: int, out: Vector, block: Rows) -> None:
    for begin in range(0, rows.shape[1], block.shape[1]):
        _load(rows, begin, block)
        _sort(block, comparisons)
        _sum_around(block, keep, out[begin : begin + block.shape[1]])


# Blocks are arrays of their own, not views of the rows: only then does the compiler know that elements are neighbours.
if COMPILES:
    _load, _sort, _sum_ranks, _sum_around = compiled(_load), compiled(_sort), compiled(_sum_ranks), compiled(_sum_around)
_ranks, _around = compiled(_ranks_in_blocks), compiled(_around_in_blocks)
