"""Folding a shard: bytes in, bytes out, whatever dtypes are in it."""

import json

import ml_dtypes
import numpy as np
import pytest

from fedplane.aggregator.shards import DTYPES, NotFinite, ShardFold
from fedplane.aggregator.strategies.fedavg import FedAvg
from fedplane.schemas.layout import Layout, parse_header


def layout_of(*tensors: tuple[str, int]) -> Layout:
    """A layout of one-dimensional tensors: (dtype, length), largest items first."""
    at, entries = 0, {}
    for index, (dtype, length) in enumerate(tensors):
        size = length * DTYPES[dtype].itemsize
        entries[f"t{index}"] = {"dtype": dtype, "shape": [length], "data_offsets": [at, at + size]}
        at += size
    body = json.dumps(entries).encode()
    return parse_header(len(body).to_bytes(8, "little") + body)


def folded(layout: Layout, *members: tuple[bytes, float]) -> bytes:
    fold = ShardFold(FedAvg(), layout, 0, layout.bytes)
    for update, weight in members:
        fold.accumulate(memoryview(update), weight)
    return bytes(fold.report())


@pytest.mark.parametrize(
    ("dtype", "one", "other", "mean"),
    [
        ("F64", [1, 2], [3, 6], [2.5, 5]),
        ("F32", [1, 2], [3, 6], [2.5, 5]),
        ("F16", [1, 2], [3, 6], [2.5, 5]),
        ("BF16", [1, 2], [3, 6], [2.5, 5]),
        ("I64", [1, 10], [3, 14], [2, 13]),
        ("U8", [1, 250], [3, 254], [2, 253]),
        ("BOOL", [True, False], [False, True], [False, True]),
    ],
)
def test_the_mean_is_weighted_and_has_the_dtype_of_what_came_in(dtype, one, other, mean) -> None:
    kind = DTYPES[dtype]
    result = folded(layout_of((dtype, 2)), (np.array(one, kind).tobytes(), 1), (np.array(other, kind).tobytes(), 3))

    assert np.frombuffer(result, kind).tolist() == np.array(mean, kind).tolist()


def test_a_shard_of_several_dtypes_is_folded_run_by_run() -> None:
    def update(value: int) -> bytes:
        return np.full(3, value, "<f8").tobytes() + np.full(2, value, "<f4").tobytes() + np.full(5, value, ml_dtypes.bfloat16).tobytes()

    layout = layout_of(("F64", 3), ("F32", 1), ("F32", 1), ("BF16", 5))

    assert folded(layout, (update(2), 1), (update(4), 1)) == update(3)


def test_one_contribution_comes_out_bit_for_bit() -> None:
    update = np.random.default_rng(0).standard_normal(100_000).astype("<f4").tobytes()

    assert folded(layout_of(("F32", 100_000)), (update, 1)) == update


def test_ordinary_weights_do_not_overflow_half_precision() -> None:
    update = np.full(4, 60_000, "<f2").tobytes()

    assert folded(layout_of(("F16", 4)), (update, 5000), (update, 4000)) == update


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused(dtype, bad) -> None:
    update = np.array([1, bad, 2]).astype(DTYPES[dtype]).tobytes()

    with pytest.raises(NotFinite, match=f"not finite, in the {dtype} tensors"):
        folded(layout_of((dtype, 3)), (update, 1))


def test_a_model_without_elements_folds_to_nothing() -> None:
    assert folded(layout_of(("F32", 0)), (b"", 1)) == b""
