"""Models as safetensors files, read by mapping them and written without a copy of the whole.

The runner cannot use the safetensors library, since an app's environment need not have it, and the format is a page long:
eight bytes of length (little-endian), a JSON header with each tensor's dtype, shape and byte range, and one flat buffer.
Tensors are ordered by item size, the largest first, then by name, so that each begins at a multiple of its item size.
The order in which the app has them is kept in the header's metadata, because some frameworks know tensors by position.
bfloat16, which numpy does not know, is read and written as what `answers` has for it.
Source: the safetensors format, https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from .answers import BFLOAT16, Tensors, dtype_name

__all__ = ["BadTensors", "is_storable", "metadata", "read", "write"]

_DTYPES = {
    "F64": "float64", "I64": "int64", "U64": "uint64",
    "F32": "float32", "I32": "int32", "U32": "uint32",
    "F16": "float16", "BF16": "bfloat16", "I16": "int16", "U16": "uint16",
    "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
"""numpy's name for each dtype of safetensors."""

_NAMES = {name: dtype for dtype, name in _DTYPES.items()}

_ALIGNMENT_BYTES = 8
"""The header is padded to a multiple of the largest item size, so that mapped arrays are aligned."""

_HEADER_BYTES_MAX = 100_000_000
"""safetensors' own bound on a header."""


class BadTensors(ValueError):
    """A file or an array that cannot be read or written as a model; the sentence says why."""


def read(path: Path) -> Tensors:
    """The tensors of the file, in the app's order. The arrays are read-only views of the mapped file.

    Raises BadTensors for any other file: a reply to an app's server comes from a cluster, which may have written anything.
    """
    header, length = _header(path)
    begin, size = 8 + length, path.stat().st_size
    # A file of no bytes cannot be mapped, and a model may well consist of empty tensors.
    buffer = np.memmap(path, np.uint8, "r", begin) if size > begin else np.empty(0, np.uint8)
    told = header.pop("__metadata__", {})
    try:
        tensors = {name: _view(name, entry, buffer) for name, entry in header.items()}
        order = json.loads(told["order"]) if "order" in told else list(tensors)
        return {name: tensors[name] for name in order}
    except BadTensors:
        raise
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise _no_model(path, f"{type(error).__name__}: {error}") from error


def metadata(path: Path) -> dict[str, str]:
    """What the file says besides its tensors."""
    told: dict[str, str] = _header(path)[0].get("__metadata__", {})
    return told


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """The header and its length."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(_HEADER_BYTES_MAX, path.stat().st_size):  # before so many bytes are made room for
            raise _no_model(path, f"its header would have {length} bytes")
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError) as error:  # the latter by brackets nested too deep
            raise _no_model(path, str(error)) from error
    if not isinstance(header, dict) or not isinstance(header.get("__metadata__", {}), dict):
        raise _no_model(path, "its header is no object, or its metadata is none")
    return header, length


def _no_model(path: Path, why: str) -> BadTensors:
    return BadTensors(f"{path.name} is no safetensors file: {why}")


def _view(name: str, entry: dict[str, Any], buffer: np.ndarray[Any, np.dtype[np.uint8]]) -> np.ndarray[Any, np.dtype[Any]]:
    if entry["dtype"] not in _DTYPES:
        raise BadTensors(f"tensor {name!r} has dtype {entry['dtype']}, which cannot be read here; use one of {', '.join(_DTYPES)}")
    begin, end = entry["data_offsets"]
    known = _DTYPES[entry["dtype"]]
    dtype = BFLOAT16 if known == "bfloat16" else np.dtype(known).newbyteorder("<")
    return buffer[begin:end].view(dtype).reshape(entry["shape"])


def is_storable(tensor: np.ndarray[Any, np.dtype[Any]]) -> bool:
    """Whether the format has the array's dtype."""
    return dtype_name(tensor.dtype) in _NAMES


def write(path: Path, tensors: Tensors, told: Mapping[str, str] = MappingProxyType({})) -> None:
    """Write the tensors, whose order is the app's, and what is told besides.

    Raises BadTensors for a dtype that the format does not have.
    """
    for name, tensor in tensors.items():
        if not is_storable(tensor) or name == "__metadata__":
            raise BadTensors(f"tensor {name!r} of dtype {dtype_name(tensor.dtype)} cannot be stored; the dtypes are {', '.join(_NAMES)}")
    placed = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header: dict[str, Any] = {"__metadata__": {"order": json.dumps(list(tensors)), **told}}
    begin = 0
    for name in placed:
        tensor = tensors[name]
        end = begin + tensor.nbytes
        header[name] = {"dtype": _NAMES[dtype_name(tensor.dtype)], "shape": list(tensor.shape), "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT_BYTES)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in placed:
            tensor = tensors[name]
            little = np.ascontiguousarray(tensor, tensor.dtype.newbyteorder("<"))
            file.write(little.reshape(-1).view(np.uint8).data)
