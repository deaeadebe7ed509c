"""One shard's arithmetic: chunks of updates in, bytes of the next model out. Pure; where bytes come from is `folding`'s business.

A shard is a range of the model's flat buffer and may hold several dtypes; each run of one dtype is folded by itself, chunk by chunk, so
that sums
stay in the processor's cache and memory does not grow with the number of members.
The result has the dtype of what came in: floats are rounded to nearest, integers (a counter of batches, say) are averaged and rounded
half to
even, and a boolean becomes what the majority says, true when it is even. A server's optimizer works on floats alone.

A NaN or an infinity in an update would spread to the whole model. It shows in the sum, so the sum is checked and not every update; which
member it
came from is found when it matters.
Source of bfloat16 for numpy: ml_dtypes.
"""

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


class NotFinite(ValueError):
    """Something is not finite: a member's update, or the result of a fold of finite ones."""


class ShardFold:
    """The fold of the bytes [begin, end) of a model, a chunk at a time: `open` one, `add` members' chunks to it, `close` it.

    `model` has the present model's bytes of the shard, needed if the strategy advances or the coefficients leave a rest; `memory` the
    strategy's vectors (memories x float elements of the shard). `out` and `memory_out` are complete after the last chunk.
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
        self._layout, self._begin = layout, shard[0]
        self.chunks = [(begin, end) for begin, end in cut(shard[1] - shard[0], chunk_bytes)]
        self._model, self._memory = model, memory
        self.out = bytearray(shard[1] - shard[0])
        self.memory_out = np.zeros((strategy.memories, float_elements(layout, shard)))
        self._remembered = 0
        self._runs: tuple[Run, ...] = ()
        self._totals: list[Vector] = []
        self._rows: list[list[Vector]] = []

    def open(self, chunk: int) -> None:
        """Begin a chunk; they come in order."""
        begin, end = self.chunks[chunk]
        self._runs = tuple(self._layout.runs(self._begin + begin, self._begin + end))
        self._totals = [sums.zero(_elements(run)) for run in self._runs] if self._strategy.combine is None else []
        self._rows = [[] for _ in self._runs]

    def add(self, member: int, update: memoryview) -> None:
        """One member's bytes of the chunk; members come in order."""
        for index, run in enumerate(self._runs):
            values = _values(update, run)
            if self._strategy.combine is None:
                sums.accumulate(self._totals[index], values, self._coefficients.values[member])
            else:
                self._rows[index].append(values.astype(np.float64))

    def close(self, chunk: int) -> None:
        """End the chunk: its part of the next model. Raises NotFinite if that is not finite, in which case some update is not."""
        begin, _ = self.chunks[chunk]
        for index, run in enumerate(self._runs):
            present = None if self._model is None else _values(self._model[begin:], run).astype(np.float64)
            proposal = self._proposal(index, present)
            if run.dtype in FLOATS:
                proposal = self._advanced(proposal, present)
            cast = _cast(proposal, DTYPES[run.dtype])
            if run.dtype in FLOATS and not np.isfinite(cast).all():
                raise NotFinite(f"the result has a value that is not finite, in the {run.dtype} tensors")
            _values(memoryview(self.out)[begin:], run)[:] = cast

    def _proposal(self, index: int, present: Vector | None) -> Vector:
        if self._strategy.combine is not None:
            rows = np.stack(self._rows[index])
            if not np.isfinite(rows).all():
                raise NotFinite("an update has a value that is not finite")
            return self._strategy.combine(rows, self._coefficients)
        total = self._totals[index]
        total /= self._coefficients.divisor
        if self._coefficients.rest:
            assert present is not None, "whoever folds with a rest brings the model"
            total += self._coefficients.rest * present
        return total

    def _advanced(self, proposal: Vector, present: Vector | None) -> Vector:
        if self._strategy.advance is None:
            return proposal
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
            present = _values(model, run).astype(np.float64)
            rows = np.stack([_values(update, run).astype(np.float64) for update in updates]) - present
            result += rows @ rows.T
    return result


def is_finite(layout: Layout, part: tuple[int, int], update: memoryview) -> bool:
    """Whether an update's floats in one part of the buffer are all finite."""
    return all(np.isfinite(_values(update, run)).all() for run in layout.runs(*part) if run.dtype in FLOATS)


def _elements(run: Run) -> int:
    return (run.end - run.begin) // DTYPES[run.dtype].itemsize


def _values(buffer: memoryview, run: Run) -> NDArray[Any]:
    return np.frombuffer(buffer[run.begin : run.end], DTYPES[run.dtype])


def _cast(values: Vector, dtype: np.dtype[Any]) -> NDArray[Any]:
    if dtype == np.bool_:
        return values >= 0.5
    if dtype.kind in "iu":
        return np.rint(values).astype(dtype)
    with np.errstate(over="ignore"):  # what overflows is not finite, and that is checked
        return values.astype(dtype)
