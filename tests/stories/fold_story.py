"""Models as dictionaries of arrays, folded as the aggregator folds them: through layouts, shards, chunks and bytes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from fedplane.aggregator.shards import ShardFold, products
from fedplane.aggregator.strategies.algebra import Cohort, Member, Strategy
from fedplane.privacy.elements import DTYPES
from fedplane.schemas.layout import Layout, cut, parse_header
from fedplane.schemas.models import Metrics

Tensors = Mapping[str, NDArray[Any]]


def split(tensors: Tensors) -> tuple[bytes, bytes]:
    """The header and the flat buffer."""
    file = save(dict(tensors))
    end = 8 + int.from_bytes(file[:8], "little")
    return file[:end], file[end:]


def fold_models(
    strategy: Strategy,
    updates: Sequence[Tensors],
    model: Tensors | None = None,
    *,
    weights: Sequence[float] | None = None,
    metrics: Sequence[Metrics] | None = None,
    clusters: int | None = None,
    shard_bytes: int = 40,
    chunk_bytes: int = 16,
) -> dict[str, NDArray[Any]]:
    """The next model, of updates that all count as much unless told otherwise, in the run's first training round."""
    (header, _), buffers = split(updates[0]), [split(update)[1] for update in updates]
    layout, present = parse_header(header), None if model is None else split(model)[1]
    members = tuple(
        Member(f"c{index:04}", weight, said)
        for index, (weight, said) in enumerate(zip(weights or [1.0] * len(updates), metrics or [{}] * len(updates), strict=True))
    )
    compared = _compared(layout, buffers, present) if strategy.compares else None
    cohort = Cohort(members, clusters or len(members), compared)
    coefficients = {prefix: weigh(cohort) for prefix, weigh in {**strategy.apart, "": strategy.weigh}.items()}
    counting = [index for index in range(len(members)) if any(group.values[index] for group in coefficients.values())]
    out = b""
    for begin, end in cut(layout.bytes, shard_bytes):
        of = {prefix: replace(group, values=tuple(group.values[index] for index in counting)) for prefix, group in coefficients.items()}
        folding = ShardFold(
            strategy, of.pop(""), layout, (begin, end), chunk_bytes,
            apart=of, model=None if present is None else memoryview(present)[begin:end],
        )  # fmt: skip
        for chunk, (low, high) in enumerate(folding.chunks):
            for job in folding.add(chunk, 0, [memoryview(buffers[index])[begin + low : begin + high] for index in counting]):
                job()
        out += folding.out
    return {
        tensor.name: np.frombuffer(out[tensor.begin : tensor.end], DTYPES[tensor.dtype]).reshape(tensor.shape) for tensor in layout.tensors
    }


def _compared(layout: Layout, buffers: list[bytes], present: bytes | None) -> NDArray[np.float64]:
    assert present is not None, "what is compared are differences from a model"
    return products(layout, (0, layout.bytes), [memoryview(buffer) for buffer in buffers], memoryview(present))
