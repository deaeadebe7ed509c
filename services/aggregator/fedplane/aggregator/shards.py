"""One shard's arithmetic: chunks of updates in, bytes of the next model out. Pure; where bytes come from is `folding`'s business.

A shard is a range of the model's flat buffer and may hold several dtypes; each run of one dtype is folded by itself.
It is folded chunk by chunk, so that sums stay in the processor's cache and memory does not grow with the number of members.
An order statistic needs every member's values at once, so it takes a chunk of each of them, as floats that hold them exactly.
Every chunk is worked on in the same memory, because fresh memory costs more than the arithmetic.
The result has the dtype of what came in.
Floats are rounded to nearest; integers (a counter of batches, say) are averaged and rounded half to even.
A boolean becomes what the majority says, true when it is even. A server's optimizer works on floats alone.

A NaN or an infinity in an update would spread to the whole model.
It shows in the sum, so the sum is checked and not every update; which member it came from is found when it matters.
Source of bfloat16 for numpy: ml_dtypes.
"""

import math
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from fedplane.aggregator import sums
from fedplane.aggregator.strategies.algebra import Coefficients, Strategy, Vector
from fedplane.schemas.layout import Layout, Run, cut

__all__ = ["DTYPES", "FLOATS", "NotFinite", "ShardFold", "float_elements", "is_finite", "products"]

DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
"""numpy's dtypes by safetensors' names; the format is little-endian."""

FLOATS = ("F64", "F32", "F16", "BF16")

BLOCK_ELEMENTS = 8_192
"""Differences of thirty members, as float64, then take 2 MB: a processor's cache holds them until they are multiplied."""


class NotFinite(ValueError):
    """Something is not finite: a member's update, or the result of a fold of finite ones."""


class ShardFold:
    """The fold of the bytes [begin, end) of a model, a chunk at a time: `open` one, `add` members' chunks to it, `close` it.

    `model` has the present model's bytes of the shard, needed if the strategy advances or the coefficients leave a rest.
    `memory` has the strategy's vectors (memories x float elements of the shard).
    `out` and `memory_out` are complete after the last chunk.
    """

    def __init__(
        self,
        strategy: Strategy,
        coefficients: Coefficients,
        layout: Layout,
        shard: tuple[int, int],
        chunk_bytes: int,
        *,
        training_round: int = 1,
        model: memoryview | None = None,
        memory: Vector | None = None,
    ) -> None:
        self._strategy, self._coefficients, self._training_round = strategy, coefficients, training_round
        self.chunks = cut(shard[1] - shard[0], chunk_bytes)
        self._runs_of = [tuple(layout.runs(shard[0] + begin, shard[0] + end)) for begin, end in self.chunks]
        self._model, self._memory = model, memory
        self.out = bytearray(shard[1] - shard[0])
        self.memory_out = np.zeros((strategy.memories, float_elements(layout, shard)))
        self._remembered = 0
        self._runs: tuple[Run, ...] = ()
        self._held: list[NDArray[Any]] = []
        rows = 1 if strategy.combine is None else len(coefficients.values)
        self._room = np.empty(rows * max(sum(map(_elements, runs)) for runs in self._runs_of))

    def open(self, chunk: int) -> None:
        """Begin a chunk; they come in order."""
        self._runs, self._held, at = self._runs_of[chunk], [], 0
        for run in self._runs:
            if self._strategy.combine is None:
                held: NDArray[Any] = self._room[at : at + _elements(run)]
                held[:] = 0.0
            else:
                shape = (len(self._coefficients.values), _elements(run))
                held = self._room[at : at + math.prod(shape)].view(_exact(run.dtype))[: math.prod(shape)].reshape(shape)
            self._held.append(held)
            at += held.size

    def add(self, member: int, update: memoryview) -> None:
        """One member's bytes of the chunk; members come in order. Raises NotFinite if order matters and it is not finite."""
        for run, held in zip(self._runs, self._held, strict=True):
            values = _values(update, run)
            if self._strategy.combine is None:
                sums.accumulate(held, values, self._coefficients.values[member])
                continue
            if run.dtype in FLOATS and not sums.is_finite(values):
                raise NotFinite("an update has a value that is not finite")
            held[member] = values

    def close(self, chunk: int) -> None:
        """End the chunk: its part of the next model. Raises NotFinite if that is not finite, in which case some update is not."""
        begin, _ = self.chunks[chunk]
        for run, held in zip(self._runs, self._held, strict=True):
            present = None if self._model is None else _values(self._model[begin:], run).astype(np.float64)
            proposal, divisor = self._proposal(held, present)
            into = _values(memoryview(self.out)[begin:], run)
            if run.dtype not in FLOATS:
                into[:] = _rounded(proposal / divisor, into.dtype)
                continue
            if self._strategy.advance is not None:
                proposal, divisor = self._advanced(proposal / divisor, present), 1.0
            if not sums.divide(proposal, divisor, into):
                raise NotFinite(f"the result has a value that is not finite, in the {run.dtype} tensors")

    def _proposal(self, held: NDArray[Any], present: Vector | None) -> tuple[Vector, float]:
        """The proposal, and what is still to divide it by: dividing at the end saves a pass over it."""
        if self._strategy.combine is not None:
            return self._strategy.combine(held, self._coefficients), 1.0
        if not self._coefficients.rest:
            return held, self._coefficients.divisor
        assert present is not None, "whoever folds with a rest brings the model"
        held /= self._coefficients.divisor
        held += self._coefficients.rest * present
        return held, 1.0

    def _advanced(self, proposal: Vector, present: Vector | None) -> Vector:
        assert self._strategy.advance is not None
        assert present is not None, "whoever folds for a server optimizer brings the model"
        where = slice(self._remembered, self._remembered + len(proposal))
        memory = tuple(self._memory[:, where]) if self._memory is not None else tuple(np.zeros((self._strategy.memories, len(proposal))))
        model, memory = self._strategy.advance(present, proposal, memory, self._training_round)
        for index, vector in enumerate(memory):
            self.memory_out[index, where] = vector
        self._remembered += len(proposal)
        return model


def float_elements(layout: Layout, shard: tuple[int, int]) -> int:
    """How many floats a shard has: the size of each vector of a strategy's memory."""
    return sum(_elements(run) for run in layout.runs(*shard) if run.dtype in FLOATS)


def products(layout: Layout, part: tuple[int, int], updates: Sequence[memoryview], model: memoryview) -> Vector:
    """Inner products of the members' differences from the model (members x members), over the floats of one part of the buffer.

    Differences are taken first, in float64: members that differ by a thousandth of their size would be lost in the products of the updates.
    """
    result = np.zeros((len(updates), len(updates)))
    for run in layout.runs(*part):
        if run.dtype in FLOATS:
            present, values = _values(model, run), [_values(update, run) for update in updates]
            room = np.empty((len(updates), min(BLOCK_ELEMENTS, len(present))))
            for begin in range(0, len(present), BLOCK_ELEMENTS):
                block = slice(begin, begin + BLOCK_ELEMENTS)
                rows, here = room[:, : len(present[block])], present[block].astype(np.float64)
                for row, update in zip(rows, values, strict=True):
                    np.subtract(update[block], here, out=row)
                result += rows @ rows.T
    return result


def is_finite(layout: Layout, part: tuple[int, int], update: memoryview) -> bool:
    """Whether an update's floats in one part of the buffer are all finite."""
    return all(sums.is_finite(_values(update, run)) for run in layout.runs(*part) if run.dtype in FLOATS)


def _elements(run: Run) -> int:
    return (run.end - run.begin) // DTYPES[run.dtype].itemsize


def _values(buffer: memoryview, run: Run) -> NDArray[Any]:
    return np.frombuffer(buffer[run.begin : run.end], DTYPES[run.dtype])


def _exact(dtype: str) -> np.dtype[Any]:
    """The smaller of the two dtypes of an order statistic that holds such values exactly (of 64-bit integers, nearly)."""
    return np.dtype(np.float32) if dtype in ("F32", "F16", "BF16") else np.dtype(np.float64)


def _rounded(values: Vector, dtype: np.dtype[Any]) -> NDArray[Any]:
    return values >= 0.5 if dtype == np.bool_ else np.rint(values).astype(dtype)
