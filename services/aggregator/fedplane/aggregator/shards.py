"""One shard's arithmetic: chunks of updates in, bytes of the next model out. Pure; where bytes come from is `folding`'s business.

A shard is a range of the model's flat buffer and may hold several dtypes, and tensors that a strategy weighs apart;
each run of one kind is folded by itself.
It is folded chunk by chunk, so that sums stay in the processor's cache and memory does not grow with the number of members.
A chunk is folded part by part.
Parts have nothing to do with each other, so threads share them, and how many threads there are changes no bit of the result.
An order statistic needs every member's values at once, so it takes a chunk of each of them, as floats that hold them exactly.
Every chunk is worked on in the same memory, because fresh memory costs more than the arithmetic.
The result has the dtype of what came in.
Floats are rounded to nearest; integers (a counter of batches, say) are averaged and rounded half to even.
A boolean becomes what the majority says, true when it is even. A server's optimizer works on floats alone.
So does noise, which is added to the floats of the mean; whatever else the model has then stays as it is.

A NaN or an infinity in an update would spread to the whole model.
It shows in the sum, so the sum is checked and not every update; which member it came from is found when it matters.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedplane.aggregator import sums
from fedplane.aggregator.noising import Noise
from fedplane.aggregator.strategies.algebra import CannotFold, Coefficients, Strategy, Vector
from fedplane.privacy.elements import DTYPES, FLOATS, elements_of, numbers_of
from fedplane.schemas.layout import Layout, Run, cut
from fedplane.schemas.models import Contents

__all__ = ["NotFinite", "PART_ELEMENTS", "ShardFold", "contents", "float_elements", "is_finite", "products", "ranges", "rebased", "squares"]

BLOCK_ELEMENTS = 8_192
"""Differences of thirty members, as float64, then take 2 MB: a processor's cache holds them until they are multiplied."""

PART_ELEMENTS = 65_536
"""What one job folds: a quarter of a chunk of float32, so that a few threads have something to do.
Its sums take 512 KiB, and stay in a second-level cache. Shorter parts are read more slowly: with half of that a fold took a tenth longer.
"""

ROOM_BYTES_MAX = 1_000_000_000
"""What an order statistic may take for the members' chunks: half of the memory that our manifests give an aggregator.
That is a thousand members with chunks of a megabyte of float32.
"""


class NotFinite(ValueError):
    """Something is not finite: a member's update, or the result of a fold of finite ones."""


@dataclass(frozen=True, slots=True)
class _Part:
    """Neighbouring elements of one kind in a chunk: one job.

    `at` is how many elements of the chunk, `remembered` how many floats of the shard come before them.
    """

    run: Run
    at: int
    remembered: int


class ShardFold:
    """The fold of the bytes [begin, end) of a model, chunk by chunk; `add` says what is to be done with members' chunks.

    `apart` has the coefficients of the tensors whose names begin with a prefix, by prefix; all of them are of the same members.
    `model` has the present model's bytes of the shard, needed if the strategy advances, the coefficients leave a rest, or there is `noise`.
    `memory` has the strategy's vectors (memories x float elements of the shard).
    `chunks` are the ranges of the shard that are folded at a time, if they are not of `chunk_bytes` each.
    `out` and `memory_out` are complete after the last chunk. Raises CannotFold if the members are too many for an order statistic.
    """

    def __init__(
        self,
        strategy: Strategy,
        coefficients: Coefficients,
        layout: Layout,
        shard: tuple[int, int],
        chunk_bytes: int,
        *,
        apart: Mapping[str, Coefficients] | None = None,
        training_round: int = 1,
        model: memoryview | None = None,
        memory: Vector | None = None,
        noise: Noise | None = None,
        chunks: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        self._strategy, self._training_round, self._noise = strategy, training_round, noise
        self._coefficients = {**(apart or {}), "": coefficients}
        self._members = len(coefficients.values)
        self.chunks = cut(shard[1] - shard[0], chunk_bytes) if chunks is None else chunks
        self._parts_of = list(_parts(layout, shard, self.chunks, apart or ()))
        self._model, self._memory = model, memory
        self.out = np.empty(shard[1] - shard[0], np.uint8).data  # every byte of it is some part's
        self.memory_out = np.zeros((strategy.memories, float_elements(layout, shard)))
        self._rows = 1 if strategy.combine is None else self._members
        widest = max(sum(elements_of(part.run) * _exact(part.run.dtype).itemsize for part in parts) for parts in self._parts_of)
        if strategy.combine is not None and self._rows * widest > ROOM_BYTES_MAX:
            raise CannotFold(
                f"an order statistic of {self._members} members needs {self._rows * widest} bytes for a chunk of each of them, "
                f"and may have {ROOM_BYTES_MAX}; invite fewer (spec.rounds.invite), or set a smaller FEDPLANE_CHUNK_BYTES"
            )
        self._room = np.empty(self._rows * max(sum(elements_of(part.run) for part in parts) for parts in self._parts_of))

    def add(self, chunk: int, first: int, updates: Sequence[memoryview]) -> list[Callable[[], None]]:
        """What is to be done with a chunk of neighbouring members, the first of whom has that number: jobs for any threads, in any order.

        All of them have to be done before the next members' are asked for; members come in order, and all of them before the next chunk.
        A job raises NotFinite if an order statistic's member, or what comes of a part of the chunk, is not finite.
        """
        return [partial(self._do, chunk, part, first, updates) for part in self._parts_of[chunk]]

    def move(self, chunk: int, changes: Vector) -> list[Callable[[], None]]:
        """What is to be done with a chunk if only the mean change of its numbers is known, and no member's: jobs as of `add`."""
        return [partial(self._move, chunk, part, changes) for part in self._parts_of[chunk]]

    def _move(self, chunk: int, part: _Part, changes: Vector) -> None:
        assert self._model is not None, "whoever moves the model brings it"
        begin, _ = self.chunks[chunk]
        proposal = numbers_of(self._model[begin:], part.run) + changes[part.at : part.at + elements_of(part.run)]
        self._close(part, begin, proposal, 1.0, numbers_of(self.out[begin:], part.run))

    def _do(self, chunk: int, part: _Part, first: int, updates: Sequence[memoryview]) -> None:
        run, coefficients = part.run, self._coefficients[part.run.prefix]
        begin, _ = self.chunks[chunk]
        values, some = [numbers_of(update, run) for update in updates], coefficients.values[first : first + len(updates)]
        is_last = first + len(updates) == self._members
        into = numbers_of(self.out[begin:], run)
        room = self._room[self._rows * part.at : self._rows * (part.at + elements_of(run))]
        if self._strategy.combine is not None:
            held = room.view(_exact(run.dtype))[: room.size].reshape(self._rows, -1)
            for row, update in zip(held[first : first + len(values)], values, strict=True):
                if run.dtype in FLOATS and not sums.is_finite(update):
                    raise NotFinite("an update has a value that is not finite")
                row[:] = update
            if is_last:
                self._close(part, begin, self._strategy.combine(held, coefficients), 1.0, into)
        elif is_last and run.dtype in FLOATS and self._strategy.advance is None and not coefficients.rest and self._noise is None:
            _insist_on_finite(sums.mean(room, values, some, coefficients.divisor, into, fresh=first == 0), run)
        else:
            sums.accumulate(room, values, some, fresh=first == 0)
            if is_last:
                self._close(part, begin, room, coefficients.divisor, into)

    def _close(self, part: _Part, begin: int, proposal: Vector, divisor: float, into: NDArray[Any]) -> None:
        """A part of the next model, of a proposal that is still to be divided: dividing at the end saves a pass over it."""
        present = None if self._model is None else numbers_of(self._model[begin:], part.run).astype(np.float64)
        rest = 0.0 if self._strategy.combine is not None else self._coefficients[part.run.prefix].rest
        if rest:
            assert present is not None, "whoever folds with a rest brings the model"
            proposal /= divisor
            proposal += rest * present
            divisor = 1.0
        if part.run.dtype not in FLOATS:
            into[:] = _rounded(proposal / divisor, into.dtype) if self._noise is None else self._kept(part, begin)
            return
        if self._noise is not None:
            proposal /= divisor
            self._noise.add(proposal, part.remembered)
            divisor = 1.0
        if self._strategy.advance is not None:
            proposal, divisor = self._advanced(part, proposal / divisor, present), 1.0
        _insist_on_finite(sums.divide(proposal, divisor, into), part.run)

    def _kept(self, part: _Part, begin: int) -> NDArray[Any]:
        assert self._model is not None, "whoever folds with noise brings the model"
        return numbers_of(self._model[begin:], part.run)

    def _advanced(self, part: _Part, proposal: Vector, present: Vector | None) -> Vector:
        assert self._strategy.advance is not None
        assert present is not None, "whoever folds for a server optimizer brings the model"
        where = slice(part.remembered, part.remembered + len(proposal))
        memory = tuple(self._memory[:, where]) if self._memory is not None else tuple(np.zeros((self._strategy.memories, len(proposal))))
        model, memory = self._strategy.advance(present, proposal, memory, self._training_round)
        for index, vector in enumerate(memory):
            self.memory_out[index, where] = vector
        return model


def contents(layout: Layout, shard: tuple[int, int], data: memoryview) -> Contents:
    """What numbers a shard has, as far as masks depend on them. What is not finite is nobody's largest."""
    runs = list(layout.runs(*shard))
    largest = 0.0
    for values in (numbers_of(data, run) for run in runs if run.dtype in FLOATS):
        finite = np.abs(values[np.isfinite(values)])
        largest = max(largest, float(finite.max()) if len(finite) else 0.0)
    return Contents(elements=sum(elements_of(run) for run in runs), largest=largest, doubles=any(run.dtype == "F64" for run in runs))


def ranges(layout: Layout, shard: tuple[int, int], elements: int) -> list[tuple[int, int]]:
    """The ranges of a shard that have so many numbers each, whatever their dtypes, and the last one fewer."""
    ends, left = list[int](), elements
    for run in layout.runs(*shard):
        size, at = DTYPES[run.dtype].itemsize, run.begin
        while (run.end - at) // size >= left:
            at += left * size
            ends.append(at)
            left = elements
        left -= (run.end - at) // size
    if not ends or ends[-1] < shard[1] - shard[0]:
        ends.append(shard[1] - shard[0])
    return list(zip([0, *ends], ends, strict=False))


def float_elements(layout: Layout, shard: tuple[int, int]) -> int:
    """How many floats a shard has: the size of each vector of a strategy's memory."""
    return sum(elements_of(run) for run in layout.runs(*shard) if run.dtype in FLOATS)


def products(layout: Layout, part: tuple[int, int], updates: Sequence[memoryview], model: memoryview) -> Vector:
    """Inner products of the members' differences from the model (members x members), over the floats of one part of the buffer.

    Differences are taken first, in float64: members that differ by a thousandth of their size would be lost in the products of the updates.
    """
    result = np.zeros((len(updates), len(updates)))
    for run in layout.runs(*part):
        if run.dtype in FLOATS:
            present, values = numbers_of(model, run), [numbers_of(update, run) for update in updates]
            room = np.empty((len(updates), min(BLOCK_ELEMENTS, len(present))))
            for begin in range(0, len(present), BLOCK_ELEMENTS):
                block = slice(begin, begin + BLOCK_ELEMENTS)
                rows, here = room[:, : len(present[block])], present[block].astype(np.float64)
                for row, update in zip(rows, values, strict=True):
                    np.subtract(update[block], here, out=row)
                result += rows @ rows.T
    return result


def squares(layout: Layout, part: tuple[int, int], updates: Sequence[memoryview], model: memoryview) -> Vector:
    """The squares of the members' differences from the model, added up for each member over the floats of one part of the buffer."""
    result = np.zeros(len(updates))
    for run in layout.runs(*part):
        if run.dtype in FLOATS:
            present, values = numbers_of(model, run), [numbers_of(update, run) for update in updates]
            for begin in range(0, len(present), BLOCK_ELEMENTS):
                block = slice(begin, begin + BLOCK_ELEMENTS)
                here = present[block].astype(np.float64)
                for index, update in enumerate(values):
                    difference = update[block] - here
                    result[index] += difference @ difference
    return result


def rebased(layout: Layout, part: tuple[int, int], update: memoryview, base: memoryview, model: memoryview) -> memoryview:
    """One part of the model plus what training changed: the update less the base that it was trained from.

    It is computed in float64 and is an update like any other: of the model's dtypes, floats rounded to nearest, the others within range.
    """
    out = memoryview(bytearray(len(update)))
    for run in layout.runs(*part):
        into, trained, begun, present = (numbers_of(buffer, run) for buffer in (out, update, base, model))
        for begin in range(0, len(into), BLOCK_ELEMENTS):
            block = slice(begin, begin + BLOCK_ELEMENTS)
            moved: Vector = trained[block].astype(np.float64)
            moved -= begun[block].astype(np.float64)
            moved += present[block].astype(np.float64)
            with np.errstate(over="ignore", invalid="ignore"):  # what is not finite then is found as in any other update
                into[block] = moved.astype(into.dtype) if run.dtype in FLOATS else _rounded(moved, into.dtype)
    return out


def is_finite(layout: Layout, part: tuple[int, int], update: memoryview) -> bool:
    """Whether an update's floats in one part of the buffer are all finite."""
    return all(sums.is_finite(numbers_of(update, run)) for run in layout.runs(*part) if run.dtype in FLOATS)


def _parts(layout: Layout, shard: tuple[int, int], chunks: Sequence[tuple[int, int]], prefixes: Iterable[str]) -> Iterator[list[_Part]]:
    """The parts of each chunk."""
    remembered = 0
    for low, high in chunks:
        at, parts = 0, list[_Part]()
        for run in layout.runs(shard[0] + low, shard[0] + high, prefixes):
            step = PART_ELEMENTS * DTYPES[run.dtype].itemsize
            for begin in range(run.begin, run.end, step):
                part = _Part(replace(run, begin=begin, end=min(begin + step, run.end)), at, remembered)
                parts.append(part)
                at += elements_of(part.run)
                remembered += elements_of(part.run) * (run.dtype in FLOATS)
        yield parts


def _insist_on_finite(finite: bool, run: Run) -> None:
    """Of what came out: if it is not finite, some update is not."""
    if not finite:
        raise NotFinite(f"the result has a value that is not finite, in the {run.dtype} tensors")


def _exact(dtype: str) -> np.dtype[Any]:
    """The smaller of the two dtypes of an order statistic that holds such values exactly (of 64-bit integers, nearly)."""
    return np.dtype(np.float32) if dtype in ("F32", "F16", "BF16") else np.dtype(np.float64)


def _rounded(values: Vector, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Integers or booleans. What leaves the range becomes its end, as far as float64 can name it: a cast would make it anything."""
    if dtype == np.bool_:
        return values >= 0.5
    ends = np.iinfo(dtype)
    highest = min(float(ends.max), np.nextafter(float(ends.max) + 1, 0))  # float64 rounds the end of 64 bits up, out of the range
    return np.rint(values).clip(ends.min, highest).astype(dtype)
