"""Order statistics by sorting networks: what sorting would give, with and without a compiler."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedplane.aggregator import orders


def rows_of(members: int, elements: int, seed: int, dtype: type = np.float32) -> np.ndarray:
    """Few different values, so that there are many ties, and both zeros."""
    random = np.random.default_rng(seed)
    return (random.integers(-3, 4, (members, elements)) * random.choice([0.1, -0.1], (members, elements))).astype(dtype)


def in_order(rows: np.ndarray) -> np.ndarray:
    return np.sort(rows.astype(np.float64), axis=0)


def mean(rows: np.ndarray) -> np.ndarray:
    """From the lowest up, as ours are added: a mean to the bit."""
    total = np.zeros(rows.shape[1])
    for row in rows:
        total += row
    return total / len(rows)


def around_median(rows: np.ndarray, keep: int) -> list[float]:
    """Element by element: the `keep` values closest to the median, of equally close ones the smaller."""
    kept = []
    for values in in_order(rows).T:
        middle = (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2
        closest = sorted(sorted(values, key=lambda value: (abs(value - middle), value))[:keep])
        total = 0.0
        for value in closest:
            total += value
        kept.append(total / keep)
    return kept


@pytest.mark.parametrize("members", range(1, 41))
def test_a_network_brings_every_wanted_rank_to_its_row(members) -> None:
    rows = rows_of(members, 200, members)
    for low, high in [(0, members), ((members - 1) // 2, members // 2 + 1), (members // 5, members - members // 5)]:
        network, compared = orders.network(members, low, high), rows.copy()
        for one, other in network:
            compared[[one, other]] = np.minimum(*compared[[one, other]]), np.maximum(*compared[[one, other]])

        assert np.array_equal(compared[low:high], np.sort(rows, axis=0)[low:high])


def test_a_median_needs_fewer_comparisons_than_a_sort() -> None:
    assert [(n, len(orders.network(n, 0, n)), len(orders.network(n, (n - 1) // 2, n // 2 + 1))) for n in (1, 2, 8, 32)] == [
        (1, 0, 0),
        (2, 1, 1),
        (8, 19, 17),
        (32, 191, 157),
    ]


@given(st.integers(1, 40), st.integers(0, 300), st.integers(0, 2**32 - 1), st.sampled_from([np.float32, np.float64]), st.data())
def test_order_statistics_are_what_sorting_gives(members, elements, seed, dtype, data) -> None:
    rows = rows_of(members, elements, seed, dtype)
    cut = data.draw(st.integers(0, (members - 1) // 2))
    middle = in_order(rows)[(members - 1) // 2 : members // 2 + 1]

    assert np.array_equal(orders.median(rows), mean(middle))
    assert np.array_equal(orders.trimmed_mean(rows, cut), mean(in_order(rows)[cut : members - cut]))


@given(st.integers(1, 40), st.integers(0, 40), st.integers(0, 2**32 - 1), st.data())
def test_the_mean_around_the_median_is_of_the_closest_values(members, elements, seed, data) -> None:
    rows = (np.random.default_rng(seed).integers(-20, 20, (members, elements)) / 4).astype(np.float32)
    keep = data.draw(st.integers(1, members))

    assert orders.mean_around_median(rows, keep).tolist() == around_median(rows, keep)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("members", [*range(1, 41), 200])
def test_they_are_the_same_to_the_bit_without_a_compiler(members, dtype, monkeypatch) -> None:
    random = np.random.default_rng(members)
    rows = [rows_of(members, 3_000, members, dtype), random.standard_normal((members, 3_000)).astype(dtype)]

    def results() -> list[bytes]:
        return [
            result.tobytes()
            for each in rows
            for result in (orders.median(each), orders.trimmed_mean(each, members // 5), orders.mean_around_median(each, members // 2 + 1))
        ]

    compiled = results()
    monkeypatch.setattr(orders, "_ranks", None)
    monkeypatch.setattr(orders, "_around", None)

    assert results() == compiled


def test_rows_stay_as_they_are() -> None:
    rows = rows_of(9, 100, 0)
    before = rows.copy()
    orders.median(rows), orders.trimmed_mean(rows, 2), orders.mean_around_median(rows, 5)

    assert np.array_equal(rows, before)
