"""Folding one shard: bytes of updates in, bytes of the next model out. Pure arithmetic; where bytes come from is `folding`'s business.

A shard is a range of the model's flat buffer and may hold several dtypes; each run of one dtype is folded by itself. The result has the
dtype of
what came in: floats are rounded to nearest, integers (a counter of batches, say) are averaged and rounded half to even, and a boolean
becomes what
the majority of the weight says, true when it is even.
Source of bfloat16 for numpy: ml_dtypes.
"""

from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from fedplane.aggregator.strategies import Strategy
from fedplane.schemas.layout import Layout

__all__ = ["DTYPES", "NotFinite", "ShardFold"]

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


class NotFinite(ValueError):
    """An update has a NaN or an infinity, which would spread to the whole model."""


class ShardFold:
    """The fold of one shard, contribution by contribution."""

    def __init__(self, strategy: Strategy, layout: Layout, begin: int, end: int) -> None:
        self._strategy = strategy
        self._runs = tuple(layout.runs(begin, end))
        self._partials = [strategy.zero((run.end - run.begin) // DTYPES[run.dtype].itemsize) for run in self._runs]
        self._bytes = end - begin

    def accumulate(self, update: memoryview, weight: float) -> None:
        """Add one contribution's bytes of this shard. Raises NotFinite and leaves the fold unusable if they have a NaN or an infinity."""
        assert len(update) == self._bytes, "the round machine admits only updates of the model's size"
        for index, run in enumerate(self._runs):
            values = np.frombuffer(update[run.begin : run.end], DTYPES[run.dtype])
            if run.dtype in ("F64", "F32", "F16", "BF16") and not np.isfinite(values).all():
                raise NotFinite(f"the update has a value that is not finite, in the {run.dtype} tensors at bytes {run.begin} to {run.end}")
            self._partials[index] = self._strategy.accumulate(self._partials[index], values, weight)

    def report(self) -> memoryview:
        """The next model's bytes of this shard."""
        out = bytearray(self._bytes)
        for run, partial in zip(self._runs, self._partials, strict=True):
            into = np.frombuffer(memoryview(out)[run.begin : run.end], DTYPES[run.dtype])
            into[:] = _cast(self._strategy.report(partial), DTYPES[run.dtype])
        return memoryview(out)


def _cast(values: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[Any]:
    if dtype == np.bool_:
        return values >= 0.5
    if dtype.kind in "iu":
        return np.rint(values).astype(dtype)
    return values.astype(dtype)
