"""What an app's server and its clients say to each other, as one safetensors file: named records of arrays, of metrics, of configuration.

The bus carries tensors with a layout, and a message of an app is more than that. So the tensors are stored as a model's are,
and the rest is JSON in the header's metadata: which records there are, in which order, and every value that is no array.
Bytes are stored as tensors, too: what is encrypted may be as large as a model.
An array that the format does not know, for its dtype or for how the app wrote it, is kept as the bytes that it is.

Replies that are to be folded must have equal headers, so theirs say which metrics there are no more than which arrays hold what.
Who folds knows the metrics' means, and they are put back where the record was.
Pure. How a framework names such things is its adapter's business.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .answers import Tensors

__all__ = ["METADATA", "BadRecords", "Opaque", "Record", "packed", "unpacked"]

METADATA = "records"
"""The key in the header's metadata."""


_KINDS = ("arrays", "metrics", "config")


class BadRecords(ValueError):
    """A file that was not written by `packed`; the sentence says why."""


class Record(NamedTuple):
    """One record: its kind is "arrays", "metrics" or "config". `weight` is the metric that says how much a folded reply counts."""

    name: str
    kind: str
    values: Mapping[str, Any]
    weight: str = ""


class Opaque(NamedTuple):
    """An array that is passed on as the bytes that it is."""

    dtype: str
    shape: tuple[int, ...]
    form: str
    data: bytes


def packed(records: Iterable[Record], *, folded: bool = False) -> tuple[Tensors, dict[str, str]]:
    """The tensors and the header's metadata. If the records are to be folded, without the values of metrics and configuration."""
    found, told = Tensors(), []
    for position, record in enumerate(records):
        place = f"{position}/"
        if record.kind == "arrays":
            values = [[key, _array(place + key, array, found)] for key, array in record.values.items()]
        elif folded:
            values = []
        else:
            values = [[key, _told(place + key, value, found)] for key, value in record.values.items()]
        told.append({"name": record.name, "kind": record.kind, "values": values, "weight": record.weight})
    return found, {METADATA: json.dumps(told, separators=(",", ":"))}


def _array(name: str, array: Any, found: Tensors) -> Any:
    if not isinstance(array, Opaque):
        found[name] = array
        return None
    found[name] = np.frombuffer(array.data, np.uint8)
    return {"dtype": array.dtype, "shape": list(array.shape), "form": array.form}


def _told(name: str, value: Any, found: Tensors) -> Any:
    """The value itself; bytes are put among the tensors, and what is told is how many there are of each."""
    if isinstance(value, bytes):
        found[name] = np.frombuffer(value, np.uint8)
        return {"bytes": len(value)}
    if isinstance(value, list) and value and isinstance(value[0], bytes):
        found[name] = np.frombuffer(b"".join(value), np.uint8)
        return {"bytes": [len(each) for each in value]}
    return value


def unpacked(tensors: Tensors, metadata: Mapping[str, str]) -> list[Record]:
    """The records that were packed. Raises BadRecords for a file that was not written so, which a cluster may send all the same."""
    try:
        return [_record(position, told, tensors) for position, told in enumerate(json.loads(metadata[METADATA]))]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise BadRecords(f"it has no records: {type(error).__name__}: {error}") from error


def _record(position: int, told: Any, tensors: Tensors) -> Record:
    name, kind, weight = told["name"], told["kind"], told["weight"]
    if kind not in _KINDS or not isinstance(name, str) or not isinstance(weight, str):
        raise ValueError(f"record {position} has no name, or a kind that is none of {', '.join(_KINDS)}")
    read = _array_of if kind == "arrays" else _value_of
    return Record(name, kind, {key: read(value, tensors, f"{position}/{key}") for key, value in told["values"]}, weight)


def _array_of(told: Any, tensors: Tensors, name: str) -> Any:
    if told is None:
        return tensors[name]
    return Opaque(told["dtype"], tuple(told["shape"]), told["form"], tensors[name].tobytes())


def _value_of(told: Any, tensors: Tensors, name: str) -> Any:
    if not isinstance(told, dict):
        return told
    data, sizes = tensors[name].tobytes(), told["bytes"]
    return data if isinstance(sizes, int) else _cut(data, sizes)


def _cut(data: bytes, sizes: Sequence[int]) -> list[bytes]:
    parts, begin = [], 0
    for size in sizes:
        parts.append(data[begin : begin + size])
        begin += size
    return parts
