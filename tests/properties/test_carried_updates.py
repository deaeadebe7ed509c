"""What holds for every set of updates of which some were trained from an earlier model."""

import asyncio
from math import sqrt
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from carried_story import folded, late_round, measured
from hypothesis import given, settings
from hypothesis import strategies as st

from fedplane.runtime.memory import MemoryBulk

KINDS: dict[str, Any] = {
    "double": np.float64, "single": np.float32, "half": np.float16, "brain": ml_dtypes.bfloat16, "count": np.int64, "level": np.uint8,
    "flag": np.bool_,
}  # fmt: skip


def some(random: np.random.Generator, near: dict[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
    """A model with tensors of every kind, or one that training made of another."""
    model = {}
    for name, kind in KINDS.items():
        size = 1 + 3 * len(name)
        if np.dtype(kind).kind in "iub":
            model[name] = random.integers(0, 2 if kind is np.bool_ else 250, size).astype(kind)
        else:
            values = random.standard_normal(size) * (1 if near is None else 0.1)
            model[name] = (values if near is None else near[name].astype(np.float64) + values).astype(kind)
    return model


def within(values: np.ndarray, kind: Any) -> np.ndarray:
    """What the kind can hold of these values, computed by themselves."""
    if kind is np.bool_:
        return values >= 0.5
    return (
        np.clip(np.rint(values), np.iinfo(kind).min, np.iinfo(kind).max).astype(kind)
        if np.dtype(kind).kind in "iu"
        else values.astype(kind)
    )


def rebased(update: np.ndarray, base: np.ndarray, model: np.ndarray, kind: Any) -> np.ndarray:
    return within(update.astype(np.float64) - base.astype(np.float64) + model.astype(np.float64), kind)


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.integers(1, 500), st.booleans()), min_size=1, max_size=11),
    st.integers(0, 2**32 - 1),
    st.integers(1, 9),
    st.data(),
)
def test_the_mean_is_that_of_updates_moved_to_the_model_and_the_same_bytes_in_any_order_of_arrival(drawn, seed, behind, data) -> None:
    random = np.random.default_rng(seed)
    base = some(random)
    model = some(random, base)
    updates = [(f"c{n:02}", some(random, base if late else model), float(weight), late) for n, (weight, late) in enumerate(drawn)]
    counted = [weight * (1 / sqrt(1 + behind) if late else 1) for _, _, weight, late in updates]

    async def once(order: list) -> dict[str, np.ndarray]:
        bulk = MemoryBulk()
        return await folded(bulk, await late_round(bulk, {}, base, model, order, behind=behind))

    result, again = asyncio.run(once(updates)), asyncio.run(once(data.draw(st.permutations(updates))))
    for name, kind in KINDS.items():
        moved = [rebased(u[name], base[name], model[name], kind) if late else u[name] for _, u, _, late in updates]
        total = np.zeros(len(model[name]))
        for weight, values in zip(counted, moved, strict=True):
            total += weight * values.astype(np.float64)

        assert result[name].tobytes() == within(total / sum(counted), kind).tobytes(), name
        assert again[name].tobytes() == result[name].tobytes(), name


@settings(max_examples=20)
@given(st.lists(st.booleans(), min_size=1, max_size=9), st.integers(0, 2**32 - 1))
def test_an_order_statistic_and_the_products_see_what_training_changed(drawn, seed) -> None:
    random = np.random.default_rng(seed)
    base, model = some(random), some(random)
    updates = [(f"c{n}", some(random, base if late else model), 1.0, late) for n, late in enumerate(drawn)]

    async def once() -> tuple[dict[str, np.ndarray], np.ndarray]:
        bulk = MemoryBulk()
        run = await late_round(bulk, {"name": "fedmedian"}, base, model, updates)
        return await folded(bulk, run), await measured(bulk, run)

    result, products = asyncio.run(once())
    moved = [
        {name: rebased(u[name], base[name], model[name], kind) if late else u[name] for name, kind in KINDS.items()}
        for _, u, _, late in updates
    ]
    floats = [name for name, kind in KINDS.items() if np.dtype(kind).kind not in "iub"]
    changes = np.array([np.concatenate([u[name].astype(np.float64) - model[name].astype(np.float64) for name in floats]) for u in moved])

    assert result["single"].tolist() == pytest.approx(np.median([u["single"] for u in moved], axis=0).tolist(), rel=1e-6)
    assert products == pytest.approx((changes @ changes.T)[np.triu_indices(len(changes))], rel=1e-9, abs=1e-9)
