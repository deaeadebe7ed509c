"""Flower's RecordDict as records that travel, and back: every record, value and dtype of it, whatever the app's messages hold.

Of a reply that is to be folded there is less: one array record, and the metrics' means.
"""

from __future__ import annotations

import math
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from . import Unanswerable, tensors
from .records import Opaque, Record

__all__ = ["WEIGHTS", "content_of", "records_of", "told_of"]

WEIGHTS = ("num-examples", "num_examples")
"""The metric that tells how many examples were used: today's name, and the one of apps with a `client_fn`."""

_STATUS = "res.status"
"""How the name of a record ends in which an app with a `client_fn` says that it has not failed: with a code, which measures nothing."""

_FORM = "numpy.ndarray"
"""How an array says that its bytes are numpy's."""

_METRICS_MAX = 100
_METRIC_CHARACTERS_MAX = 100
"""What a fact has room for; of more, or of names that are longer, the federation shows nothing. The server gets them all the same."""

_KINDS = {ArrayRecord: "arrays", MetricRecord: "metrics", ConfigRecord: "config"}


def records_of(content: RecordDict, *, folded: bool = False) -> list[Record]:
    """The content's records, in order. Raises Unanswerable if it is to be folded and has not the form for it."""
    if folded:
        _insist_on_form(content)
    return [Record(name, _KINDS[type(record)], _values(record), _weight(record) if folded else "") for name, record in content.items()]


def _insist_on_form(content: RecordDict) -> None:
    kinds = sorted(_KINDS[type(record)] for record in content.values())
    if kinds != ["arrays", "metrics"] or not any(_weight(record) for record in content.metric_records.values()):
        said = f"the app replied with {', '.join(kinds) or 'no records'}; what spec.fold folds is one array record and one metric record"
        raise Unanswerable("not-supported", f"{said} with {WEIGHTS[0]}; set spec.fold to false")


def _weight(record: Any) -> str:
    return next((name for name in WEIGHTS if name in record), "") if isinstance(record, MetricRecord) else ""


def _values(record: Any) -> dict[str, Any]:
    if isinstance(record, ArrayRecord):
        return {key: _tensor(array) for key, array in record.items()}
    return dict(record)


def _tensor(array: Array) -> Any:
    """The array as numpy has it, if both numpy and the bus know it; else as it is."""
    if array.stype == _FORM:
        try:
            tensor = array.numpy()
        except ValueError:  # numpy reads no Python objects from bytes, and the receiver may
            return _opaque(array)
        if tensors.is_storable(tensor):
            return tensor
    return _opaque(array)


def _opaque(array: Array) -> Opaque:
    return Opaque(array.dtype, tuple(array.shape), array.stype, array.data)


def content_of(records: list[Record], weight: float | None = None, metrics: dict[str, float] | None = None) -> RecordDict:
    """The content of these records. Of a mean of replies, `weight` and `metrics` are put where each reply had its own."""
    return RecordDict({record.name: _record(record, weight, metrics or {}) for record in records})


def _record(record: Record, weight: float | None, metrics: dict[str, float]) -> Any:
    if record.kind == "arrays":
        return ArrayRecord({key: _made(value) for key, value in record.values.items()})
    if record.kind == "config":
        return ConfigRecord(dict(record.values))
    if weight is None:
        return MetricRecord(dict(record.values))
    return MetricRecord({**metrics, record.weight: int(weight)})


def _made(value: Any) -> Array:
    if isinstance(value, Opaque):
        return Array(value.dtype, value.shape, value.form, value.data)
    return Array(value)


def told_of(records: list[Record]) -> tuple[float, dict[str, float]]:
    """The weight and the metrics that the federation shows: an app's own reply needs neither, so what is missing or odd is left out."""
    values: dict[str, Any] = {}
    for record in records:
        if record.kind != "arrays" and not record.name.endswith(_STATUS):
            values.update(record.values)
    numbers = {name: float(value) for name, value in values.items() if isinstance(value, (int, float)) and math.isfinite(value)}
    weight = next((numbers[name] for name in WEIGHTS if numbers.get(name, 0) > 0), 1.0)
    shown = [name for name in numbers if name not in WEIGHTS and len(name) <= _METRIC_CHARACTERS_MAX]
    return weight, {name: numbers[name] for name in shown[:_METRICS_MAX]}
