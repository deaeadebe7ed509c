"""A model's bytes as numbers, by the names that safetensors gives their types: for all who compute with them.

The format is little-endian. Source of bfloat16 for numpy: ml_dtypes. What is computed is others' business.
"""

from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from fedplane.schemas.layout import Run

__all__ = ["DTYPES", "FLOATS", "elements_of", "numbers_of"]

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
"""numpy's dtypes by safetensors' names."""

FLOATS = ("F64", "F32", "F16", "BF16")
"""What is trained: norms, products, noise and server optimizers are about these alone."""


def elements_of(run: Run) -> int:
    """How many numbers a run has."""
    return (run.end - run.begin) // DTYPES[run.dtype].itemsize


def numbers_of(buffer: memoryview, run: Run) -> NDArray[Any]:
    """The numbers of a run, in the memory that they are in."""
    return np.frombuffer(buffer[run.begin : run.end], DTYPES[run.dtype])
