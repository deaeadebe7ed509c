"""How long updates may be that get noise: nobody's part is longer than the clip, and the clip follows a quantile of their lengths."""

import math
from typing import Any

import numpy as np
import pytest
from aggregator_story import NOW, RUN, Story, folded, resource
from hypothesis import given
from hypothesis import strategies as st
from private_story import central

from fedplane.aggregator import clipping
from fedplane.aggregator.rounds import Round
from fedplane.aggregator.strategies import STRATEGIES
from fedplane.aggregator.strategies.algebra import Cohort, Member
from fedplane.schemas.facts import Opened
from fedplane.schemas.models import Task
from fedplane.schemas.privacy_terms import NoiseTerms
from fedplane.schemas.resources import Spec

LENGTHS = st.lists(st.floats(0, 1e150), min_size=1, max_size=20)


def spec(**said: Any) -> Spec:
    return resource(privacy=central(**said)).spec


def opened(noise: NoiseTerms, clusters: tuple[str, ...] = ("a", "b", "c")) -> Opened:
    sizes = {"minimum": 1, "deadline": NOW, "shard_bytes": 80, "chunk_bytes": 16}
    return Opened(run=RUN, round=1, at=NOW, task=Task.TRAIN, training_round=1, clusters=clusters, noise=noise, **sizes)


def after(noise: NoiseTerms, below: float | None) -> Round:
    return Round(opened(noise), folded={0: folded(1, 0, "a").model_copy(update={"below": below})})


@given(LENGTHS, st.floats(1e-9, 1e9))
def test_no_members_part_is_longer_than_the_clip_and_a_short_one_is_as_it_was(lengths: list[float], clip: float) -> None:
    members = tuple(Member(str(number), 1 + number, {}) for number in range(len(lengths)))
    strategy = clipping.clipped(STRATEGIES["fedadam"]({}), clip)

    weighed = strategy.weigh(Cohort(members, len(members), squares=tuple(length**2 for length in lengths)))

    assert all(scale * length <= clip for scale, length in zip(weighed.values, lengths, strict=True))
    assert all(scale == 1 for scale, length in zip(weighed.values, lengths, strict=True) if length < clip * 0.999999)
    assert weighed.divisor == len(lengths)
    assert math.fsum(weighed.values) / len(lengths) + weighed.rest == pytest.approx(1)
    assert (strategy.memories, strategy.compares) == (2, False)


def test_a_round_has_the_noise_that_the_resource_says_and_the_clip_that_was_come_to() -> None:
    assert clipping.terms(spec(), Task.TRAIN, None, 3) == NoiseTerms(clip=1.0, multiplier=1.0)
    assert clipping.terms(spec(clip=3.0, noiseMultiplier=0.5), Task.TRAIN, None, 3) == NoiseTerms(clip=3.0, multiplier=0.5)
    assert clipping.terms(spec(), Task.TRAIN, 7.0, 3) == NoiseTerms(clip=7.0, multiplier=1.0)
    assert clipping.terms(spec(), Task.EVALUATE, None, 3) is None
    assert clipping.terms(spec(), Task.INITIALIZE, None, 3) is None
    assert clipping.terms(resource().spec, Task.TRAIN, None, 3) is None


@given(st.floats(0.1, 100), st.integers(1, 5_000))
def test_what_counts_the_updates_and_what_hides_them_cost_together_what_was_asked_for(multiplier: float, clusters: int) -> None:
    noise = clipping.terms(spec(noiseMultiplier=multiplier, adaptive={}), Task.TRAIN, None, clusters)

    assert noise is not None
    assert noise.count_deviation is not None
    assert noise.count_deviation >= clusters / 20
    assert multiplier <= noise.multiplier <= multiplier * 1.1001
    assert 1 / noise.multiplier**2 + (1 / 2) ** 2 / noise.count_deviation**2 == pytest.approx(1 / multiplier**2)


@pytest.mark.parametrize(("quantile", "rate"), [(0.5, 0.2), (0.9, 0.2), (0.1, 1.0)])
def test_the_clip_comes_to_the_quantile_of_the_lengths_from_far_below_and_far_above(quantile: float, rate: float) -> None:
    random, wanted = np.random.default_rng(5), spec(adaptive={"quantile": quantile, "rate": rate})
    target = float(np.quantile(random.lognormal(1.0, 0.5, 100_000), quantile))

    for begin in (0.01, 100.0):
        clips = [begin]
        for _ in range(300):
            noise = clipping.terms(wanted, Task.TRAIN, clips[-1], 100)
            assert noise is not None
            assert noise.count_deviation is not None
            within = (random.lognormal(1.0, 0.5, 100) <= noise.clip).sum() + random.normal(0, noise.count_deviation)
            clips.append(clipping.next_clip(wanted, clips[-1], after(noise, within / 100)) or 0.0)
        assert np.median(clips[-100:]) == pytest.approx(target, rel=0.1)


@pytest.mark.parametrize(("below", "factor"), [(0.5, 1.0), (0.0, math.exp(0.1)), (1.0, math.exp(-0.1)), (-1e9, math.e), (1e9, 1 / math.e)])
def test_a_round_moves_the_clip_by_what_is_missing_and_never_far(below: float, factor: float) -> None:
    noise = NoiseTerms(clip=4.0, multiplier=1.0, count_deviation=2.0)

    assert clipping.next_clip(spec(adaptive={}), 4.0, after(noise, below)) == pytest.approx(4.0 * factor)


@pytest.mark.parametrize(("clip", "below", "then"), [(1e-9, 1e9, 1e-9), (1e9, -1e9, 1e9)])
def test_the_clip_neither_vanishes_nor_grows_without_end(clip: float, below: float, then: float) -> None:
    noise = NoiseTerms(clip=clip, multiplier=1.0, count_deviation=2.0)

    assert clipping.next_clip(spec(adaptive={}), clip, after(noise, below)) == then


def test_a_clip_stays_if_the_resource_wants_it_so_or_nothing_was_told() -> None:
    noise = NoiseTerms(clip=4.0, multiplier=1.0, count_deviation=2.0)

    assert clipping.next_clip(spec(), None, after(noise, 0.9)) is None
    assert clipping.next_clip(spec(adaptive={}), 5.0, after(noise, None)) == 5.0
    assert clipping.next_clip(spec(adaptive={}), 5.0, Round(opened(noise))) == 5.0


@pytest.mark.parametrize("change", [{"multiplier": 0.9}, {"clip": 2.0}, {"count_deviation": 1.0}, None])
def test_a_round_with_other_noise_than_the_resource_wants_is_none_of_the_run(change: dict[str, float] | None) -> None:
    story = Story(spec={"privacy": central()})
    story.initialize()
    (first,) = [fact for fact in story.log if isinstance(fact, Opened) and fact.round == 1]
    assert first.noise is not None
    forged = first.model_copy(update={"noise": change and first.noise.model_copy(update=change)})
    fresh = Story(spec={"privacy": central()})

    fresh.tell(*story.log[1 : story.log.index(first)], forged)

    assert fresh.run.round is not None
    assert fresh.run.round.opened.round == 0
    fresh.tell(first)
    assert fresh.run.round.opened == first


def test_two_machines_may_differ_in_the_last_digit_of_the_noise() -> None:
    noise = NoiseTerms(clip=1.0, multiplier=1.0 + 1e-12)

    assert clipping.agrees(opened(noise), spec(), None)
    assert not clipping.agrees(opened(noise), resource().spec, None)
