"""Whole runs whose models get noise, on the memory bus: what they say that it cost, that it is there, and that it is always the same."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog
from federation_story import TINY, ended, federation, learning, model_bytes, submit
from private_story import central
from safetensors.numpy import load

from fedplane.aggregator import working
from fedplane.aggregator.main import aggregate
from fedplane.aggregator.settings import AggregatorSettings
from fedplane.privacy.accounting import epsilon, multiplier
from fedplane.runtime.errors import BadInput
from fedplane.runtime.memory import MemoryBus
from fedplane.schemas.facts import Aggregated, Completed, Fact, Opened, RoundFailed, Started
from fedplane.schemas.models import Task


async def run_with(tmp_path: Path, privacy: dict[str, Any], strategy: str = "fedavg") -> tuple[np.ndarray, list[Fact]]:
    """The last model's numbers, and what was said of the run."""
    bus = MemoryBus()
    async with federation(bus, tmp_path) as it:
        run = await submit(bus, learning(privacy=privacy, strategy={"name": strategy}, rounds={"evaluate": False}))
        facts = await ended(bus, run)
        it.check()
    assert isinstance(facts[-1], Completed), facts[-1]
    model = load(await model_bytes(bus, facts[-1].model))
    return np.concatenate([model[name].ravel() for name in TINY]).astype(np.float64), facts


async def first(bus: MemoryBus, pattern: str) -> Fact:
    async with asyncio.timeout(20):
        async for batch in bus.log.tail([pattern]):
            if batch.records:
                return batch.records[0].fact
    raise AssertionError("the log ended")


def trained(facts: list[Fact]) -> list[Aggregated]:
    return [fact for fact in facts if isinstance(fact, Aggregated) and fact.task is Task.TRAIN]


async def test_a_run_with_a_budget_completes_and_says_after_each_round_what_it_has_cost(tmp_path: Path) -> None:
    _, facts = await run_with(tmp_path, central(noiseMultiplier=None, epsilon=8.0, clip=0.5))

    noise = multiplier(8.0, 1e-5, 2, "pld")
    costs = [fact.privacy.epsilon for fact in trained(facts) if fact.privacy]
    assert costs == [epsilon(noise, 1e-5, rounds, "pld") for rounds in (1, 2)]
    assert costs[0] < costs[1] <= 8.0
    assert [fact.noise.multiplier for fact in facts if isinstance(fact, Opened) and fact.noise] == [noise, noise]


@pytest.mark.parametrize("strategy", ["fedavg", "fedadam"])
async def test_the_same_run_has_the_same_model_bit_for_bit_noise_included(tmp_path: Path, strategy: str) -> None:
    """Two aggregators share each run, so who folds which shard differs from one to the other."""
    first, second = [(await run_with(tmp_path, central(adaptive={}), strategy))[0] for _ in range(2)]

    assert first.tobytes() == second.tobytes()


async def test_the_noise_in_the_model_is_as_large_as_was_said(tmp_path: Path) -> None:
    """Two rounds of noise of the deviation 10 * 5 / 3; what is learnt of updates no longer than 5 is small beside it."""
    model, _ = await run_with(tmp_path, central(noiseMultiplier=10.0, clip=5.0))

    expected = np.sqrt(2) * 10 * 5 / 3
    assert 0.7 * expected < model.std() < 1.4 * expected


async def test_a_clip_that_follows_the_updates_moves_from_round_to_round(tmp_path: Path) -> None:
    _, facts = await run_with(tmp_path, central(clip=100.0, adaptive={"rate": 1.0}))

    first, second = [fact.noise for fact in facts if isinstance(fact, Opened) and fact.noise]
    assert first.clip == 100.0
    assert second.clip != 100.0
    assert (first.multiplier, first.count_deviation) == (second.multiplier, second.count_deviation)


async def test_an_aggregator_without_the_secret_stands_aside_until_one_that_has_it_comes(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(working, "ASIDE_SECONDS", 0.5)
    bus = MemoryBus()
    with structlog.testing.capture_logs() as logged:
        async with federation(bus, tmp_path) as it:
            run = await submit(bus, learning(privacy=central(), rounds={"evaluate": False}))
            await first(bus, Started.pattern(run=run))
            await it.kill("aggregator 1")
            await it.kill("aggregator 2")
            without = AggregatorSettings(shard_bytes=it.shard_bytes, chunk_bytes=16)
            it.running["aggregator 3"] = asyncio.create_task(aggregate(bus, without), name="aggregator 3")
            async with asyncio.timeout(20):
                while not any("stood aside" in line["event"] for line in logged):
                    await asyncio.sleep(0.01)
            it.start("aggregator 1")
            facts = await ended(bus, run)

    assert isinstance(facts[-1], Completed), facts[-1]
    assert not [fact for fact in facts if isinstance(fact, RoundFailed)]


async def test_a_round_fails_with_the_reason_if_no_aggregator_has_the_secret_any_more(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(working, "ASIDE_SECONDS", 0.01)
    bus = MemoryBus()
    async with federation(bus, tmp_path) as it:
        run = await submit(bus, learning(privacy=central(), rounds={"evaluate": False}))
        await first(bus, Started.pattern(run=run))
        await it.kill("aggregator 1")
        await it.kill("aggregator 2")
        without = AggregatorSettings(shard_bytes=it.shard_bytes, chunk_bytes=16)
        it.running["aggregator 3"] = asyncio.create_task(aggregate(bus, without), name="aggregator 3")
        failed = await first(bus, RoundFailed.pattern(run=run))

    assert "set FEDPLANE_NOISE_SECRET for all of them" in failed.message


@pytest.mark.parametrize(
    ("content", "said"), [(None, "cannot be read: FileNotFoundError"), ("s" * 31 + "\n", "has 31 characters, and a sec")]
)
async def test_an_aggregator_does_not_start_with_a_secret_that_is_none(tmp_path: Path, content: str | None, said: str) -> None:
    secret = tmp_path / "noise.secret"
    if content is not None:
        secret.write_text(content)

    with pytest.raises(BadInput, match=f"FEDPLANE_NOISE_SECRET: .*{said}"):
        await aggregate(MemoryBus(), AggregatorSettings(noise_secret=secret))


async def test_noise_that_clusters_add_to_masked_updates_is_accounted_for_as_well(tmp_path: Path) -> None:
    noise = {"secureAggregation": {}, "differentialPrivacy": {"distributed": {"epsilon": 8.0, "clip": 0.5}}}

    _, facts = await run_with(tmp_path, noise)

    spent = [fact.privacy for fact in trained(facts)]
    wanted = multiplier(8.0, 1e-5, 2, "rdp")
    assert [(each.epsilon, each.rounds, each.clip, each.accountant) for each in spent if each] == [
        (epsilon(wanted, 1e-5, rounds, "rdp"), rounds, 0.5, "rdp") for rounds in (1, 2)
    ]
