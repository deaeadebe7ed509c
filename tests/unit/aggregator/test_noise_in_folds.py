"""Noise in the mean of a round: how much, whose it is, and that a fold with it is as repeatable as one without."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from fold_story import split
from private_story import ANOTHER, SECRET, folded_facts, next_model, private_round
from scipy.stats import beta, kstest

from fedplane.aggregator.folding import Unusable
from fedplane.aggregator.noising import Noise
from fedplane.aggregator.rounds import evolve
from fedplane.aggregator.shards import ShardFold
from fedplane.aggregator.strategies import STRATEGIES
from fedplane.aggregator.strategies.algebra import Coefficients
from fedplane.privacy.accounting import epsilon
from fedplane.runtime.memory import MemoryBulk
from fedplane.schemas.layout import parse_header

ELEMENTS = 100_000
HARDLY = {"noiseMultiplier": 0.001}
"""As little noise as a resource may ask for, so that what is left is the mean of shortened updates."""

ADAPTIVE = {"adaptive": {}}


def fold_of_zeros(noise: Noise | None, chunk_bytes: int = 65_536, strategy: str = "fedavg") -> np.ndarray:
    """The next model, of three members that changed nothing in a model of zeros."""
    header, flat = split({"w": np.zeros(ELEMENTS)})
    folding = ShardFold(
        STRATEGIES[strategy]({}), Coefficients((1.0, 1.0, 1.0), 3), parse_header(header), (0, len(flat)), chunk_bytes,
        model=memoryview(flat), noise=noise,
    )  # fmt: skip
    for chunk, (low, high) in enumerate(folding.chunks):
        for job in reversed(folding.add(chunk, 0, [memoryview(flat)[low:high]] * 3)):
            job()
    return np.frombuffer(folding.out, np.float64)


def test_every_float_of_the_mean_gets_normal_noise_of_the_stated_deviation() -> None:
    noised = fold_of_zeros(Noise(SECRET, 0.25))

    assert noised.std() == pytest.approx(0.25, rel=3 / np.sqrt(2 * ELEMENTS))
    assert kstest(noised / 0.25, "norm").pvalue > 0.01


def test_neither_chunks_nor_the_order_of_parts_change_a_bit_of_it() -> None:
    assert fold_of_zeros(Noise(SECRET, 0.25)).tobytes() == fold_of_zeros(Noise(SECRET, 0.25), chunk_bytes=8_000).tobytes()


def test_a_servers_optimizer_works_on_the_noised_mean_and_gets_no_noise_of_its_own() -> None:
    plain, stepped = fold_of_zeros(Noise(SECRET, 0.25)), fold_of_zeros(Noise(SECRET, 0.25), strategy="fedavgm")

    assert stepped.tobytes() == plain.tobytes()  # the first step of a velocity that was zero


def test_who_looks_for_one_cluster_in_many_results_finds_no_more_than_was_promised() -> None:
    """An audit (Jagielski, Ullman and Oprea 2020): the cluster's update is as long as the clip, and whoever guesses knows its direction.

    The best test of one Gaussian against another is a threshold. What its two errors prove of epsilon is a lower bound.
    It is near to what can be proven in so many trials: noise that is much too small would be found, and so would noise that is too large.
    """
    trials, threshold, promised = 2_000, 2.0, epsilon(1.0, 1e-5, 1, "pld")
    header, flat = split({"w": np.zeros(4)})
    _, moved_flat = split({"w": np.array([1.0, 0, 0, 0])})

    def seen(present: bool, trial: int) -> float:
        secret = hashlib.sha256(f"{present} {trial}".encode()).digest()
        folding = ShardFold(
            STRATEGIES["fedavg"]({}), Coefficients((1.0, 1.0), 2), parse_header(header), (0, len(flat)), 1_000,
            model=memoryview(flat), noise=Noise(secret, 1.0 / 2),
        )  # fmt: skip
        for job in folding.add(0, 0, [memoryview(moved_flat if present else flat), memoryview(flat)]):
            job()
        return float(np.frombuffer(folding.out, np.float64)[0] * 2)

    with_it, without = ([seen(present, trial) > threshold for trial in range(trials)] for present in (True, False))
    found, mistaken = beta.ppf(0.025, sum(with_it), trials), beta.ppf(0.975, sum(without) + 1, trials)  # Clopper and Pearson's bounds

    assert 1.2 < np.log((found - 1e-5) / mistaken) < promised


MODEL = {"w": np.arange(12, dtype=np.float32), "b": np.zeros((2, 3), np.float16), "steps": np.array([7, 8], np.int64)}


def moved(*lengths: float, steps: int = 0) -> dict[str, Mapping[str, np.ndarray]]:
    """Clusters whose updates have these lengths, each along an axis of its own."""
    updates = {}
    for number, length in enumerate(lengths):
        away = np.zeros(12, np.float32)
        away[number] = length
        updates["abcdef"[number]] = {**MODEL, "w": MODEL["w"] + away, "steps": MODEL["steps"] + steps}
    return updates


async def test_updates_are_shortened_to_the_clip_and_count_equally_whatever_their_numbers_of_examples() -> None:
    bulk = MemoryBulk()
    run = await private_round(bulk, MODEL, moved(0.5, 1.0, 40.0, 0.0), weight=1000.0, **HARDLY)

    changed = (await next_model(bulk, run))["w"] - MODEL["w"]

    assert changed == pytest.approx([0.125, 0.25, 0.25, *[0] * 9], abs=4 * 0.001 / 4)


async def test_what_is_no_float_keeps_the_models_value() -> None:
    bulk = MemoryBulk()

    result = await next_model(bulk, await private_round(bulk, MODEL, moved(1.0, 1.0, steps=100), noiseMultiplier=2.0))

    assert result["steps"].tolist() == [7, 8]
    assert all(np.all(result[name] != MODEL[name]) for name in ("w", "b"))


async def test_a_shard_has_the_same_bytes_whoever_folds_it_and_others_with_another_secret() -> None:
    bulk = MemoryBulk()
    run = await private_round(bulk, MODEL, moved(0.5, 1.0, 40.0), **ADAPTIVE)

    first, second, other = [await folded_facts(bulk, run, secret) for secret in (SECRET, SECRET, ANOTHER)]

    def told(facts):
        return [(fact.piece.digest, fact.below) for fact in facts]

    assert told(first) == told(second)
    assert all(one[0] != another[0] for one, another in zip(told(first), told(other), strict=True))
    assert first[0].below != other[0].below
    assert [fact.below for fact in first[1:]] == [None] * (len(first) - 1)


async def test_other_updates_get_other_noise_even_under_the_same_name_in_the_same_round() -> None:
    """Else whoever has both models had the difference of two updates without any noise."""
    noises = []
    for length in (0.0, 1.0):
        bulk = MemoryBulk()
        run = await private_round(bulk, MODEL, moved(0.0, length))
        noises.append((await next_model(bulk, run))["w"] - MODEL["w"])

    assert np.all(noises[0][2:] != noises[1][2:]), "elements that nobody has moved"


async def test_shards_have_noise_of_their_own() -> None:
    bulk = MemoryBulk()
    result = (await next_model(bulk, await private_round(bulk, MODEL, moved(0.0))))["w"]

    assert len({f"{value:.5f}" for value in result - MODEL["w"]}) == 12


async def test_the_share_of_updates_within_the_clip_is_told_with_noise_of_its_own() -> None:
    bulk = MemoryBulk()
    run = await private_round(bulk, MODEL, moved(0.5, 1.0, 40.0, 50.0), **HARDLY, **ADAPTIVE)
    assert run.round is not None
    assert run.round.opened.noise is not None

    below = (await folded_facts(bulk, run))[0].below

    assert run.round.opened.noise.count_deviation == 4 / 20
    assert 0 < abs(below - 0.5) < 3 * 0.2 / 4


async def test_of_updates_that_are_shortened_only_the_lengths_are_told() -> None:
    run = await private_round(MemoryBulk(), MODEL, moved(3.0, 4.0), **HARDLY)

    assert run.round is not None
    assert np.sum([fact.products for fact in run.round.measured.values()], axis=0).tolist() == [9.0, 16.0]


async def test_a_length_below_zero_is_nobody_s() -> None:
    run = await private_round(MemoryBulk(), MODEL, moved(3.0, 4.0), **HARDLY)
    assert run.round is not None
    unmeasured = replace(run.round, measured={})
    told = run.round.measured[0].model_copy(update={"products": (-9.0, 16.0)})

    assert evolve(unmeasured, told) == unmeasured


async def test_without_a_secret_nothing_is_folded_and_somebody_is_told_what_to_set() -> None:
    bulk = MemoryBulk()
    run = await private_round(bulk, MODEL, moved(1.0), **HARDLY)

    with pytest.raises(Unusable, match="FEDPLANE_NOISE_SECRET"):
        await folded_facts(bulk, run, b"")


async def test_an_update_that_is_not_finite_is_its_clusters_fault_before_anything_is_told() -> None:
    updates = moved(1.0, 1.0)
    updates["b"] = {**updates["b"], "w": np.full(12, np.nan, np.float32)}

    with pytest.raises(Unusable) as raised:
        await private_round(MemoryBulk(), MODEL, updates, **HARDLY)

    assert raised.value.cluster == "b"


def test_a_strategy_whose_noise_is_nothing_is_itself() -> None:
    assert fold_of_zeros(Noise(SECRET, 0.0)).tobytes() == fold_of_zeros(None).tobytes()
