"""Folding a shard: bytes in, bytes out, whatever dtypes are in it."""

import json
from functools import partial

import ml_dtypes
import numpy as np
import pytest

from fedplane.aggregator.shards import NotFinite, ShardFold, is_finite, products
from fedplane.aggregator.strategies import STRATEGIES
from fedplane.aggregator.strategies.algebra import CannotFold, Coefficients, Strategy
from fedplane.aggregator.strategies.fedavg import by_examples
from fedplane.privacy.elements import DTYPES
from fedplane.schemas.layout import Layout, parse_header

CHUNK_BYTES = 24
"""Small and no multiple of any tensor, so that chunks begin and end in the middle of runs."""


def layout_of(*tensors: tuple[str, int]) -> Layout:
    """A layout of one-dimensional tensors: (dtype, length), largest items first."""
    at, entries = 0, {}
    for index, (dtype, length) in enumerate(tensors):
        size = length * DTYPES[dtype].itemsize
        entries[f"t{index}"] = {"dtype": dtype, "shape": [length], "data_offsets": [at, at + size]}
        at += size
    body = json.dumps(entries).encode()
    return parse_header(len(body).to_bytes(8, "little") + body)


def fold_all(fold: ShardFold, updates: list[bytes]) -> bytes:
    """Two members at a time, the parts of a chunk from its end."""
    for chunk, (begin, end) in enumerate(fold.chunks):
        for first in range(0, len(updates), 2):
            for job in reversed(fold.add(chunk, first, [memoryview(update)[begin:end] for update in updates[first : first + 2]])):
                job()
    return bytes(fold.out)


def folded(layout: Layout, *members: tuple[bytes, float]) -> bytes:
    weights = tuple(weight for _, weight in members)
    fold = ShardFold(Strategy(by_examples), Coefficients(weights, sum(weights)), layout, (0, layout.bytes), CHUNK_BYTES)
    return fold_all(fold, [update for update, _ in members])


@pytest.mark.parametrize(("dtype", "members"), [("F32", 1000), ("F64", 1000), ("I8", 125)])
def test_an_order_statistic_of_more_members_than_there_is_room_for_is_refused(dtype: str, members: int) -> None:
    size = 1_000_000
    layout = layout_of((dtype, size // DTYPES[dtype].itemsize))
    fold = partial(ShardFold, STRATEGIES["fedmedian"]({}), layout=layout, shard=(0, size), chunk_bytes=size)
    fold(Coefficients((1.0,) * members, 1.0))

    with pytest.raises(CannotFold, match=f"an order statistic of {members + 1} members needs .* invite fewer"):
        fold(Coefficients((1.0,) * (members + 1), 1.0))
    ShardFold(STRATEGIES["fedavg"]({}), Coefficients((1.0,) * 5000, 1.0), layout, (0, size), size)


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
    update = np.random.default_rng(0).standard_normal(10_000).astype("<f4").tobytes()

    assert folded(layout_of(("F32", 10_000)), (update, 1)) == update


def test_a_rest_of_the_model_stays() -> None:
    model, update = np.array([10, 20], "<f4").tobytes(), np.array([20, 40], "<f4").tobytes()
    fold = ShardFold(
        Strategy(by_examples), Coefficients((0.5,), 1, rest=0.5), layout_of(("F32", 2)), (0, 8), CHUNK_BYTES, model=memoryview(model)
    )

    assert np.frombuffer(fold_all(fold, [update]), "<f4").tolist() == [15, 30]


def test_a_server_optimizer_gets_model_proposal_and_memory_of_floats_alone_element_by_element() -> None:
    def advance(model, proposal, memory, training_round):
        return model + proposal * training_round, (memory[0] + proposal, memory[1] - 1)

    layout = layout_of(("F64", 5), ("I64", 2), ("F32", 3))
    model = np.arange(5.0).tobytes() + np.array([7, 8], "<i8").tobytes() + np.zeros(3, "<f4").tobytes()
    update = np.full(5, 10.0).tobytes() + np.array([9, 9], "<i8").tobytes() + np.ones(3, "<f4").tobytes()
    memory = np.stack([np.arange(8.0), np.zeros(8)])
    fold = ShardFold(
        Strategy(by_examples, advance=advance, memories=2), Coefficients((1.0,), 1.0), layout, (0, layout.bytes), CHUNK_BYTES,
        training_round=3, model=memoryview(model), memory=memory,
    )  # fmt: skip
    out = fold_all(fold, [update])

    assert np.frombuffer(out[:40], "<f8").tolist() == [30, 31, 32, 33, 34]
    assert np.frombuffer(out[40:56], "<i8").tolist() == [9, 9]
    assert np.frombuffer(out[56:], "<f4").tolist() == [3, 3, 3]
    assert fold.memory_out.tolist() == [[10, 11, 12, 13, 14, 6, 7, 8], [-1.0] * 8]


def test_an_order_statistic_sees_all_members_of_an_element_at_once() -> None:
    strategy = Strategy(by_examples, combine=lambda rows, coefficients: rows.max(axis=0))
    fold = ShardFold(strategy, Coefficients((1, 1, 1), 3), layout_of(("F32", 10)), (0, 40), CHUNK_BYTES)
    updates = [np.roll(np.arange(10, dtype="<f4"), by) for by in (0, 3, 6)]
    out = fold_all(fold, [update.tobytes() for update in updates])

    assert np.frombuffer(out, "<f4").tolist() == np.max(updates, axis=0).tolist()


@pytest.mark.parametrize(
    ("dtype", "exact"), [("F64", "f8"), ("F32", "f4"), ("F16", "f4"), ("BF16", "f4"), ("I64", "f8"), ("U8", "f8"), ("BOOL", "f8")]
)
def test_an_order_statistic_gets_floats_that_hold_the_values_exactly(dtype, exact) -> None:
    seen = []

    def combine(rows, coefficients):
        seen.append((rows.dtype, rows.tolist()))
        return np.median(rows.astype(np.float64), axis=0)

    fold = ShardFold(Strategy(by_examples, combine=combine), Coefficients((1, 1, 1), 3), layout_of((dtype, 3)), (0, 3 * 8), 24)
    updates = [np.array(values).astype(DTYPES[dtype]) for values in ([0, 1, 1], [1, 1, 0], [1, 0, 0])]
    out = fold_all(fold, [update.tobytes() for update in updates])

    assert seen == [(np.dtype(exact), [[0, 1, 1], [1, 1, 0], [1, 0, 0]])]
    assert np.frombuffer(out, DTYPES[dtype], 3).tolist() == [1, 1, 0]


def test_an_order_statistic_of_something_that_is_not_finite_is_refused() -> None:
    strategy = Strategy(by_examples, combine=lambda rows, coefficients: rows.min(axis=0))
    fold = ShardFold(strategy, Coefficients((1, 1), 2), layout_of(("F32", 2)), (0, 8), CHUNK_BYTES)

    with pytest.raises(NotFinite, match="an update has a value that is not finite"):
        fold_all(fold, [np.array([1, 2], "<f4").tobytes(), np.array([1, np.inf], "<f4").tobytes()])


def test_ordinary_weights_do_not_overflow_half_precision() -> None:
    update = np.full(4, 60_000, "<f2").tobytes()

    assert folded(layout_of(("F16", 4)), (update, 5000), (update, 4000)) == update


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused_and_found(dtype, bad) -> None:
    good, update = (np.array([1, value, 2]).astype(DTYPES[dtype]).tobytes() for value in (1, bad))
    layout = layout_of((dtype, 3))

    with pytest.raises(NotFinite, match=f"not finite, in the {dtype} tensors"):
        folded(layout, (good, 1), (update, 1))
    assert [is_finite(layout, (0, layout.bytes), memoryview(it)) for it in (good, update)] == [True, False]


def test_a_model_without_elements_folds_to_nothing() -> None:
    assert folded(layout_of(("F32", 0)), (b"", 1)) == b""


def test_products_are_of_differences_from_the_model_and_of_floats_alone() -> None:
    layout = layout_of(("I64", 1), ("F32", 2))
    model, one, other = (
        np.array([count], "<i8").tobytes() + np.array(values, "<f4").tobytes() for count, values in ((5, [1, 1]), (9, [2, 1]), (7, [1, 3]))
    )

    compared = products(layout, (0, layout.bytes), [memoryview(one), memoryview(other)], memoryview(model))

    assert compared.tolist() == [[1, 0], [0, 4]]


def test_products_of_many_elements_are_those_of_the_whole_vectors() -> None:
    rows = np.random.default_rng(0).standard_normal((4, 20_000))
    compared = products(
        layout_of(("F64", 20_000)), (0, 160_000), [memoryview(row.tobytes()) for row in rows[:3]], memoryview(rows[3].tobytes())
    )

    assert np.allclose(compared, (rows[:3] - rows[3]) @ (rows[:3] - rows[3]).T, rtol=1e-12)


def test_products_keep_what_is_a_thousandth_of_a_thousandth_of_the_weights() -> None:
    random = np.random.default_rng(0)
    model = random.standard_normal(1000) * 1e3
    differences = [random.standard_normal(1000) * 1e-3 for _ in range(3)]
    rows = np.stack([model + difference - model for difference in differences])
    compared = products(
        layout_of(("F64", 1000)), (0, 8000), [memoryview((model + d).tobytes()) for d in differences], memoryview(model.tobytes())
    )

    assert np.allclose(compared, rows @ rows.T, rtol=1e-12)
