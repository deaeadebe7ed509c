"""How a model's bytes are laid out: named tensors in one flat buffer, the buffer in shards, a shard in chunks.

The layout is a safetensors header: eight bytes of length (little-endian), then JSON: each tensor's name to dtype, shape and offsets.
A model file is that header followed by the flat buffer, so joining the shards of a model gives a file that every safetensors reader opens.
We read the header ourselves because every role needs offsets without tensors, and the roles that move bytes have no numpy.

Tensors are ordered by item size, the largest first, then by name (as safetensors' own writers do).
Hence every tensor begins at a multiple of its item size, and a shard boundary that is a multiple of eight never cuts an element.
The order that the app gave its tensors is kept in the metadata, for frameworks that know tensors by position.
Source: the safetensors format, https://github.com/huggingface/safetensors.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["ALIGNMENT_BYTES", "HEADER_BYTES_MAX", "ITEM_BYTES", "BadLayout", "Layout", "Run", "Tensor", "cut", "parse_header"]

ITEM_BYTES = {
    "F64": 8, "I64": 8, "U64": 8,
    "F32": 4, "I32": 4, "U32": 4,
    "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
    "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip
"""Bytes of one element, by safetensors dtype."""

ALIGNMENT_BYTES = 8
"""The largest item size: shards and chunks are cut at multiples of it."""

HEADER_BYTES_MAX = 100_000_000
"""safetensors' own bound on a header."""

DIMENSIONS_MAX = 64
"""numpy's bound on a tensor's dimensions. It keeps the product of a hostile shape cheap."""

_SURROGATE = re.compile("[\ud800-\udfff]")  # JSON can name half a character, which is no text

SAID_CHARACTERS_MAX = 500
"""A sentence about a bad layout travels in a fact, and a tensor's name may be as long as a header."""


class BadLayout(ValueError):
    """Bytes that are no valid layout: the sentence says where and why."""

    def __init__(self, said: str) -> None:
        super().__init__(said[:SAID_CHARACTERS_MAX])


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor: its name, safetensors dtype, shape, and byte range in the flat buffer."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Run:
    """Adjacent bytes of one dtype within a range of the flat buffer; `begin` and `end` are relative to that range.

    `prefix` is what the names of its tensors begin with, of the prefixes that were asked for; empty if none.
    """

    dtype: str
    begin: int
    end: int
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """Tensors in buffer order, and the order in which the app named them."""

    tensors: tuple[Tensor, ...]
    order: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """The size of the flat buffer."""
        return self.tensors[-1].end if self.tensors else 0

    def runs(self, begin: int, end: int, prefixes: Iterable[str] = ()) -> Iterator[Run]:
        """The range [begin, end) as runs of one dtype and one prefix each, neighbours joined.

        That is what arithmetic can work on without asking for tensors.
        """
        prefixes = tuple(prefixes)
        held: Run | None = None
        for tensor in self.tensors:
            low, high = max(begin, tensor.begin), min(end, tensor.end)
            if low >= high:
                continue
            prefix = next((prefix for prefix in prefixes if tensor.name.startswith(prefix)), "")
            if held and (held.dtype, held.prefix, held.end) == (tensor.dtype, prefix, low - begin):
                held = Run(held.dtype, held.begin, high - begin, prefix)
                continue
            if held:
                yield held
            held = Run(tensor.dtype, low - begin, high - begin, prefix)
        if held:
            yield held


def cut(size: int, piece: int) -> list[tuple[int, int]]:
    """The ranges that cut `size` bytes into pieces of `piece` bytes, the last one shorter. No bytes give one empty range.

    Raises ValueError when a piece could cut an element in two.
    """
    if piece <= 0 or piece % ALIGNMENT_BYTES:
        raise ValueError(f"a piece of {piece} bytes could cut an element; use a multiple of {ALIGNMENT_BYTES}")
    return [(begin, min(begin + piece, size)) for begin in range(0, size, piece)] or [(0, 0)]


def parse_header(header: bytes) -> Layout:
    """The layout in a safetensors header, its eight length bytes included.

    Raises BadLayout unless the tensors cover the buffer without gap or overlap, in the order described above.
    """
    if len(header) < 8 or len(header) > HEADER_BYTES_MAX or int.from_bytes(header[:8], "little") != len(header) - 8:
        raise BadLayout(f"a header of {len(header)} bytes does not state its own length")
    document = _json(header[8:], "the header")
    if not isinstance(document, dict):
        raise BadLayout("the header is no JSON object")
    metadata = document.pop("__metadata__", {})
    tensors = sorted((_tensor(name, entry) for name, entry in document.items()), key=lambda tensor: (tensor.begin, tensor.end, tensor.name))
    _check_cover(tensors)
    return Layout(tuple(tensors), _order(metadata, tensors))


def _json(text: Any, what: str) -> Any:
    try:
        return json.loads(text.decode() if isinstance(text, bytes) else text)
    except (TypeError, ValueError, RecursionError) as error:  # the last by brackets nested too deep
        raise BadLayout(f"{what} is no JSON: {error}") from error


def _tensor(name: str, entry: Any) -> Tensor:
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    except (KeyError, TypeError, ValueError) as error:
        raise BadLayout(f"tensor {name!r} has no dtype, shape and data_offsets") from error
    if _SURROGATE.search(name):
        raise BadLayout(f"tensor {name!r} has a name that UTF-8 cannot write")
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise BadLayout(f"tensor {name!r} has dtype {dtype!r}; known are {', '.join(ITEM_BYTES)}")
    if not isinstance(shape, list) or len(shape) > DIMENSIONS_MAX:
        raise BadLayout(f"tensor {name!r} has no list of at most {DIMENSIONS_MAX} dimensions as its shape")
    if not all(type(size) is int and 0 <= size < 2**62 for size in (*shape, begin, end)):
        raise BadLayout(f"tensor {name!r} has a size or offset that is no natural number")
    if end - begin != math.prod(shape) * ITEM_BYTES[dtype]:
        raise BadLayout(f"tensor {name!r} of shape {shape} and dtype {dtype} cannot have {end - begin} bytes")
    return Tensor(name, dtype, tuple(shape), begin, end)


def _check_cover(tensors: list[Tensor]) -> None:
    at = 0
    for tensor in tensors:
        if tensor.begin != at:
            raise BadLayout(f"tensor {tensor.name!r} begins at {tensor.begin}, and the one before it ends at {at}")
        if tensor.begin % ITEM_BYTES[tensor.dtype]:
            raise BadLayout(f"tensor {tensor.name!r} begins at {tensor.begin}, no multiple of its item size; order tensors by item size")
        at = tensor.end


def _order(metadata: Any, tensors: list[Tensor]) -> tuple[str, ...]:
    names = [tensor.name for tensor in tensors]
    if not isinstance(metadata, dict) or "order" not in metadata:
        return tuple(names)
    order = _json(metadata["order"], "the metadata's order")
    if not isinstance(order, list) or not all(isinstance(name, str) for name in order) or sorted(order) != sorted(names):
        raise BadLayout("the metadata's order does not name every tensor once")
    return tuple(order)
