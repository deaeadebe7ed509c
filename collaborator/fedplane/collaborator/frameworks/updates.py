"""An update that a program has left, judged and put into the model's order with the standard library alone.

A program of whatever language may have written the tensors in another order, or with other metadata, than it was given them.
The federation compares layouts byte by byte, so the file gets the model's own header here, and its tensors the model's places.
Where there is numpy, `tensors` and `answers` do this work.
Source: the safetensors format, https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from . import Unanswerable
from .judging import differences

__all__ = ["settle"]

_HEADER_BYTES_MAX = 100_000_000
"""safetensors' own bound on a header."""

_BLOCK_BYTES = 1 << 20
"""What is looked at or copied at a time: large enough for speed, small enough for any memory. A multiple of every item size."""

_EXPONENTS = {"F64": (8, 0x7FF0 << 48), "F32": (4, 0x7F80 << 16), "F16": (2, 0x7C00), "BF16": (2, 0x7F80)}
"""Bytes of an element, and its exponent, whose bits are all set in what is infinite or not a number, and only there (IEEE 754)."""


class _Tensor(NamedTuple):
    dtype: str
    shape: list[int]
    begin: int
    end: int


class _Model(NamedTuple):
    """A safetensors file: its header with the length before it, and its tensors with where in the file their bytes are."""

    path: Path
    header: bytes
    tensors: dict[str, _Tensor]

    @property
    def forms(self) -> dict[str, str]:
        return {name: f"{tensor.dtype}{tensor.shape}" for name, tensor in self.tensors.items()}


def settle(update: Path, model: Path | None) -> None:
    """Give the update the layout of the model that it must be like; without one it keeps its own.

    Raises Unanswerable if it is missing, has other tensors than the model, or numbers that are none.
    """
    if not update.is_file():
        raise Unanswerable("no-update", f"the program ended without leaving {update.name} in the directory that it was given")
    try:
        left = _read(update)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Unanswerable("bad-update", f"{update.name} is no safetensors file: {type(error).__name__}: {error}") from error
    given = left if model is None else _read(model)
    if wrong := differences(given.forms, left.forms):
        raise Unanswerable("wrong-layout", f"the app must return the tensors that it was sent: {wrong}")
    for name, tensor in left.tensors.items():
        if not all(_is_finite(tensor.dtype, block) for block in _blocks(update, tensor)):
            raise Unanswerable("not-finite", f"tensor {name!r} has values that are infinite or not a number; has training diverged?")
    if left.header != given.header:
        _rewrite(left, given)


def _read(path: Path) -> _Model:
    total = path.stat().st_size
    with path.open("rb") as file:
        length = file.read(8)
        size = int.from_bytes(length, "little")
        if size > min(_HEADER_BYTES_MAX, total):  # before so many bytes are made room for
            raise ValueError(f"its header would have {size} bytes")
        header = length + file.read(size)
    entries: dict[str, dict[str, Any]] = json.loads(header[8:])
    entries.pop("__metadata__", None)
    tensors = {}
    for name, entry in entries.items():
        dtype, (begin, end) = entry["dtype"], entry["data_offsets"]
        if not isinstance(dtype, str) or type(begin) is not int or type(end) is not int or not 0 <= begin <= end:
            raise ValueError(f"its tensor {name!r} has no dtype, or does not begin and end anywhere")
        tensors[name] = _Tensor(dtype, entry["shape"], len(header) + begin, len(header) + end)
    if total != len(header) + sum(tensor.end - tensor.begin for tensor in tensors.values()):
        raise ValueError("its tensors are not as long as its header says")
    return _Model(path, header, tensors)


def _blocks(path: Path, tensor: _Tensor) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(tensor.begin)
        for at in range(tensor.begin, tensor.end, _BLOCK_BYTES):
            yield file.read(min(_BLOCK_BYTES, tensor.end - at))


def _is_finite(dtype: str, block: bytes) -> bool:
    if dtype not in _EXPONENTS:
        return True
    size, exponent = _EXPONENTS[dtype]
    highest = exponent >> 8 * (size - 1)
    harmless = bytes(byte for byte in range(256) if byte & highest != highest)
    if not block[size - 1 :: size].translate(None, harmless):
        return True  # as good as always, and a hundred times as fast as to look at each number
    numbers = (int.from_bytes(block[at : at + size], "little") for at in range(0, len(block), size))
    return all(number & exponent != exponent for number in numbers)


def _rewrite(left: _Model, given: _Model) -> None:
    part = left.path.with_name(left.path.name + ".part")
    with part.open("wb") as file:
        file.write(given.header)
        for name in sorted(given.tensors, key=lambda name: (given.tensors[name].begin, given.tensors[name].end)):
            for block in _blocks(left.path, left.tensors[name]):
                file.write(block)
    part.replace(left.path)
