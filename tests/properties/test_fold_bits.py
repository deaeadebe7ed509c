"""A fold's bits depend on its members alone: not on numba, nor on threads, nor on how many members come at a time."""

import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedplane.aggregator import orders, shards, sums
from fedplane.aggregator.compiling import COMPILES
from fedplane.aggregator.shards import NotFinite, ShardFold
from fedplane.aggregator.strategies import STRATEGIES
from fedplane.aggregator.strategies.algebra import Coefficients
from fedplane.aggregator.team import Team
from fedplane.privacy.elements import DTYPES
from fedplane.schemas.layout import Layout, Tensor

TEAMS = {threads: Team(threads) for threads in (1, 2, 5)}
KINDS = ("F64", "I64", "U64", "F32", "I32", "F16", "BF16", "I16", "U8", "BOOL")
ODD = np.array([0.0, -0.0, 1e-310, -1e-40, 6e-8, -6e-8])
"""Zeros of both signs, and numbers that are denormal in one of the dtypes."""


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few elements are several parts, and several blocks."""
    monkeypatch.setattr(shards, "PART_ELEMENTS", 7)
    monkeypatch.setattr(sums, "BLOCK_ELEMENTS", 5)


def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if numba were not installed."""
    for module, kernels in ((sums, ("_add", "_finish", "_divide")), (orders, ("_ranks", "_around"))):
        for kernel in kernels:
            monkeypatch.setattr(module, kernel, None)


def one_by_one(updates: Sequence[np.ndarray], coefficients: Sequence[float]) -> np.ndarray:
    total = np.zeros(len(updates[0]))
    for update, coefficient in zip(updates, coefficients, strict=True):
        total += update.astype(np.float64) * coefficient
    return total


@st.composite
def updates_and_coefficients(draw: st.DrawFn) -> tuple[list[np.ndarray], list[float]]:
    """Of every number of members that makes another sequence of passes; zeros of both signs and denormal numbers are among the values."""
    size, members, dtype = draw(st.integers(0, 40)), draw(st.integers(1, 17)), draw(st.sampled_from([np.float32, np.float64, np.float16]))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    odd = np.array([0.0, -0.0, 6e-8, -6e-8, 1.0, 60_000.0])
    updates = [np.where(random.random(size) < 0.3, random.choice(odd, size), random.standard_normal(size)) for _ in range(members)]
    return [update.astype(dtype) for update in updates], [float(weight) for weight in random.random(members) * 1000]


@settings(max_examples=200)
@given(updates_and_coefficients(), st.data())
def test_a_sum_is_the_same_to_the_bit_however_many_updates_a_pass_takes(given, data) -> None:
    updates, coefficients = given
    at, stale = data.draw(st.integers(0, len(updates))), np.full(len(updates[0]), np.nan)
    two_goes = stale.copy()
    sums.accumulate(stale, updates, coefficients, fresh=True)
    sums.accumulate(two_goes, updates[:at], coefficients[:at], fresh=True)
    sums.accumulate(two_goes, updates[at:], coefficients[at:])

    assert stale.tobytes() == two_goes.tobytes() == one_by_one(updates, coefficients).tobytes()


@settings(max_examples=200)
@given(updates_and_coefficients(), st.sampled_from([1.0, 3.0, 1e-30]), st.data())
def test_a_mean_in_one_pass_is_that_of_the_sum_to_the_bit(given, divisor, data) -> None:
    updates, coefficients = given
    at, out = data.draw(st.integers(0, len(updates) - 1)), np.empty(len(updates[0]), updates[0].dtype)
    total = one_by_one(updates[:at], coefficients[:at]) if at else np.full(len(out), np.nan)
    finite = sums.mean(total, updates[at:], coefficients[at:], divisor, out, fresh=at == 0)
    with np.errstate(over="ignore"):
        expected = (one_by_one(updates, coefficients) / divisor).astype(out.dtype)

    assert out.tobytes() == expected.tobytes()
    assert finite == bool(np.isfinite(expected).all())


def test_updates_that_are_laid_out_differently_are_added_as_well() -> None:
    straight, readonly = np.arange(8, dtype="<f4"), np.frombuffer(np.arange(8, dtype="<f4").tobytes(), "<f4")
    unaligned = np.frombuffer(b"." + straight.tobytes(), "<f4", offset=1)
    strided = np.repeat(straight, 2)[::2]
    updates, total = [straight, readonly, unaligned, strided], np.empty(8)
    sums.accumulate(total, updates, (1.0, 2.0, 4.0, 8.0), fresh=True)
    sums.accumulate(total, [straight, readonly], (1.0, 1.0))

    assert total.tolist() == (17 * np.arange(8.0)).tolist()


def values(random: np.random.Generator, kind: str, length: int) -> bytes:
    if kind not in shards.FLOATS:
        return random.bytes(length * DTYPES[kind].itemsize)
    given = np.where(random.random(length) < 0.2, random.choice(ODD, length), random.standard_normal(length) * 100)
    return given.astype(DTYPES[kind]).tobytes()


@st.composite
def models(draw: st.DrawFn) -> tuple[Layout, list[bytes], bytes]:
    """A layout of many dtypes, what the members have of it, and the model: of integers all that there are, of floats odd ones, too."""
    members, random = draw(st.integers(1, 11)), np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    at, tensors, rows = 0, [], [b""] * (members + 1)
    for kind in KINDS:
        length = draw(st.integers(0, 40))
        size = length * DTYPES[kind].itemsize
        tensors.append(Tensor(kind, kind, (length,), at, at + size))
        at += size
        rows = [row + values(random, kind, length) for row in rows]
    return Layout(tuple(tensors), KINDS), rows[:-1], rows[-1]


def folded(
    team: Team, several: int, strategy: str, layout: Layout, updates: list[bytes], model: bytes, **apart: Any
) -> tuple[bytes, bytes]:
    values = tuple(float(10 + number) for number in range(len(updates)))
    fold = ShardFold(
        STRATEGIES[strategy]({}), Coefficients(values, sum(values), rest=0.25 * ("clip" in strategy)), layout, (0, layout.bytes), 64,
        model=memoryview(model), **apart,
    )  # fmt: skip
    for chunk, (begin, end) in enumerate(fold.chunks):
        for first in range(0, len(updates), several):
            team.do(fold.add(chunk, first, [memoryview(update)[begin:end] for update in updates[first : first + several]]))
    return bytes(fold.out), fold.memory_out.tobytes()


@pytest.mark.parametrize("strategy", ["fedavg", "fedavgm", "fedyogi", "fedmedian", "trimmedmean", "normclip"])
@settings(max_examples=25, deadline=None)
@given(models(), st.sampled_from(sorted(TEAMS)), st.integers(1, 9))
def test_a_shard_is_the_same_to_the_bit_with_any_threads_any_batches_and_without_numba(strategy, model, threads, several) -> None:
    with pytest.MonkeyPatch.context() as patched:
        plain(patched)
        expected = folded(TEAMS[1], 1, strategy, *model)

    assert folded(TEAMS[threads], several, strategy, *model) == expected


def test_where_nothing_may_be_stored_numba_compiles_anew() -> None:
    program = "from fedplane.aggregator import orders, sums; print(orders.median(sums.zero(6).reshape(3, 2)), orders._ranks is not None)"
    environment = {**os.environ, "NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator", "NUMBA_CACHE_DIR": ""}
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False)

    assert (said.stdout, said.stderr) == (f"[0. 0.] {COMPILES}\n", "")


def test_which_failure_is_told_does_not_depend_on_threads() -> None:
    layout = Layout((Tensor("a", "F64", (40,), 0, 320), Tensor("b", "F32", (40,), 320, 480)), ("a", "b"))
    bad = np.full(40, np.nan).tobytes() + np.full(40, np.inf, "<f4").tobytes()
    fold = partial(ShardFold, STRATEGIES["fedavg"]({}), Coefficients((1.0,), 1.0), layout, (0, 480), 480)
    said = set()
    for team in TEAMS.values():
        with pytest.raises(NotFinite) as failure:
            team.do(fold().add(0, 0, [memoryview(bad)]))
        said.add(str(failure.value))

    assert said == {"the result has a value that is not finite, in the F64 tensors"}
