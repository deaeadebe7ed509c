"""What holds for every log and every set of contributions."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from aggregator_story import NOW, RUN, Story, contributed, declined, evaluated, folded, scheduled
from hypothesis import given, settings
from hypothesis import strategies as st
from log_story import deliveries, knows, recorded

from fedplane.aggregator import sums
from fedplane.aggregator.runs import Cut, Discard, Runs
from fedplane.aggregator.strategies import STRATEGIES
from fedplane.aggregator.strategies.algebra import Cohort, Member
from fedplane.runtime.ports import Recorded
from fedplane.runtime.replica import Perform
from fedplane.schemas.facts import Cancelled, Closed, Completed, Expired, Fact, Invited, Opened, RoundFailed
from fedplane.schemas.models import Task
from fedplane.schemas.subjects import bulk_of_round

CLUSTERS = ("a", "b", "c")


def round_facts(round_: int) -> st.SearchStrategy[Fact]:
    cluster = st.sampled_from((*CLUSTERS, "mallory"))
    return st.one_of(
        cluster.map(lambda name: contributed(round_, name, 2)),
        cluster.map(lambda name: contributed(round_, name, 2, layout="blake3:" + "c" * 64)),
        cluster.map(lambda name: declined(round_, name)),
        cluster.map(lambda name: evaluated(round_, name, 1, 0.5)),
        st.integers(0, 3).map(lambda shard: folded(round_, shard % 3)),
        st.just(Expired(run=RUN, round=round_, at=NOW)),
        st.just(Closed(run=RUN, round=round_, at=NOW, reason="test")),
        st.just(RoundFailed(run=RUN, round=round_, at=NOW, reason="test", message="test", faulty=("b",))),
    )


POLICIES: tuple[dict[str, Any], ...] = (
    {},
    {"invite": 2, "closeAt": 1, "quorum": 1, "evaluateOn": 1, "weightMax": 1.5},
    {"keep": "best", "stop": {"metric": "accuracy", "mode": "max", "target": 0.9, "patience": 3}},
    {"keep": "best", "stop": {"metric": "loss", "mode": "min", "patience": 3}, "evaluate": False},
)

CARRYING: tuple[dict[str, Any], ...] = (
    {"carry": 2, "closeAt": 1, "quorum": 1, "evaluateOn": 1},
    {"carry": 1, "invite": 2, "quorum": 1, "evaluate": False},
)


def answers(story: Story, value: int) -> Iterator[Fact]:
    """Everyone who is asked answers, but for those that are late when the resource carries them, and the shards are folded."""
    state = story.run.round
    if state is None:
        return
    number = state.opened.round
    carry = story.run.submitted.resource.spec.rounds.carry
    for cluster in state.opened.clusters[-value:] if carry else state.opened.clusters:
        if state.opened.task is Task.EVALUATE:
            yield evaluated(number, cluster, value, 1 / value)
        else:
            yield contributed(number, cluster, value, origin=state.opened.carried.get(cluster))
    story.obey()
    members = [member.cluster for member in story.run.round.members] if story.run.round else []
    yield from (folded(number, shard, *members) for shard in range(3))


@st.composite
def logs(draw: st.DrawFn, policies: tuple[dict[str, Any], ...] = POLICIES + CARRYING) -> list[Fact]:
    """A log as the write-once registers allow it: what the outside world may say, and in between what the core states itself."""
    policy = {"attempts": 2, **draw(st.sampled_from(policies))}
    story = Story(spec={"server": {"rounds": 3, "minAvailableClients": 1}, "rounds": policy})
    story.tell(scheduled(*CLUSTERS))
    for _ in range(draw(st.integers(0, 25))):
        if draw(st.booleans()):
            story.obey()
        if draw(st.booleans()):
            for answer in answers(story, draw(st.integers(1, 3))):
                if answer.subject not in {old.subject for old in story.log}:
                    story.tell(answer)
            continue
        current = story.run.round.opened.round if story.run.round else 0
        fact = draw(st.one_of(round_facts(draw(st.integers(max(0, current - 1), current + 1))), st.just(Cancelled(run=RUN, at=NOW))))
        if fact.subject not in {old.subject for old in story.log}:
            story.tell(fact)
    return story.log


CORE = Runs(Cut(80, 16))


@given(logs() | logs(CARRYING), st.data())
def test_any_repetition_and_replay_of_a_log_gives_the_same_state(log, data) -> None:
    records = recorded(log)
    once, delivered = knows(CORE, records), data.draw(deliveries(records))

    assert knows(CORE, delivered) == knows(CORE, delivered + records) == once


@given(logs(), logs(), st.randoms(use_true_random=False))
def test_runs_do_not_see_each_other_however_their_logs_interleave(one, other, random) -> None:
    other = [fact.model_copy(update={"run": "other-01234567"}) for fact in other]
    turns = [0] * len(one) + [1] * len(other)
    random.shuffle(turns)
    sources = (iter(one), iter(other))
    mixed = [next(sources[turn]) for turn in turns]

    together = knows(CORE, recorded(mixed))
    alone = {
        name: knows(CORE, [record for record in recorded(mixed) if record.fact.run == name])[name] for name in {fact.run for fact in mixed}
    }

    assert together == alone


@given(logs() | logs(CARRYING))
def test_no_model_that_is_needed_is_ever_discarded(log) -> None:
    core = Runs(Cut(80, 16))
    state, gone = core.initial(), set[str]()
    for sequence, fact in enumerate(log, 1):
        state = core.evolve(state, Recorded(fact, sequence))
        needed = {fact.model.round} if isinstance(fact, Opened | Invited | Completed) and fact.model else set()
        needed |= {question.model.round for run in state.values() for question in run.outstanding.values()}
        effects = [action.effect for action in core.decide(state, NOW) if isinstance(action, Perform)]
        gone |= {pattern for effect in effects if isinstance(effect, Discard) for pattern in effect.patterns}

        assert not {bulk_of_round(RUN, round_, "model") for round_ in needed} & gone, f"{fact.subject} is about a model that is gone"


@given(logs(CARRYING))
def test_whoever_is_carried_was_asked_before_is_not_too_late_and_is_counted_once_for_each_question(log) -> None:
    core = Runs(Cut(80, 16))
    state, asked, counted = core.initial(), dict[int, Opened](), dict[tuple[str, int], int]()
    for sequence, fact in enumerate(log, 1):
        state = core.evolve(state, Recorded(fact, sequence))
        run = state.get(RUN)
        if run is None or run.round is None:
            continue
        opened = asked[run.round.opened.round] = run.round.opened
        for cluster, origin in opened.carried.items():
            assert cluster in opened.clusters and cluster in asked[origin].clusters
            assert 0 <= opened.training_round - asked[origin].training_round <= run.submitted.resource.spec.rounds.carry
        for member in run.round.members:
            question = (member.cluster, member.round if member.origin is None else member.origin)
            assert counted.setdefault(question, member.round) == member.round


@given(logs())
def test_deciding_twice_decides_the_same(log) -> None:
    core = Runs(Cut(80, 16))
    state = knows(CORE, recorded(log))

    assert core.decide(state, NOW) == core.decide(state, NOW)


@given(st.integers(1, 60), st.integers(1, 6), st.integers(0, 2**32 - 1), st.data())
def test_a_weighted_sum_is_the_same_in_one_go_in_pieces_and_merged(size, members, seed, data) -> None:
    random = np.random.default_rng(seed)
    updates = [(random.standard_normal(size).astype(np.float32), float(random.integers(1, 1000))) for _ in range(members)]
    at, split = data.draw(st.integers(0, size)), data.draw(st.integers(0, members))
    whole, pieces, halves = sums.zero(size), [sums.zero(at), sums.zero(size - at)], [sums.zero(size), sums.zero(size)]
    for index, (values, weight) in enumerate(updates):
        sums.accumulate(whole, [values], [weight])
        sums.accumulate(pieces[0], [values[:at]], [weight])
        sums.accumulate(pieces[1], [values[at:]], [weight])
        sums.accumulate(halves[index >= split], [values], [weight])
    sums.merge(*halves)

    assert np.array_equal(np.concatenate(pieces), whole), "a part is folded as the whole would be"
    assert np.allclose(halves[0], whole, rtol=1e-12, atol=1e-9), "merging halves is folding the whole"


@given(
    st.lists(st.floats(allow_nan=True, width=64), min_size=1, max_size=50),
    st.sampled_from(["<f4", "<f8", "<f2"]),
    st.sampled_from([1.0, 3.0, 1e-3]),
)
def test_a_mean_is_the_same_to_the_bit_with_numba_and_with_numpy_and_says_whether_it_is_finite(values, dtype, divisor) -> None:
    total, out = np.array(values), np.empty(len(values), dtype)
    finite = sums.divide(total, divisor, out)
    with np.errstate(all="ignore"):
        expected = (total / divisor).astype(dtype)

    assert np.array_equal(out, expected, equal_nan=True)
    assert finite == sums.is_finite(out) == bool(np.isfinite(expected).all())


def cohort(weights: list[float], losses: list[float], updates: np.ndarray | None = None) -> Cohort:
    """Half of a run's clusters; those on which the model does badly train longer. `updates` are what they changed."""
    metrics = [{"loss": loss, "num-steps": 1 + 10 * loss} for loss in losses]
    members = tuple(Member(f"c{n:02}", weight, said) for n, (weight, said) in enumerate(zip(weights, metrics, strict=True)))
    return Cohort(members, 2 * len(members), None if updates is None else updates @ updates.T)


MEMBERS = st.integers(7, 12)  # enough for every strategy's defaults


@settings(max_examples=50)
@given(st.sampled_from(sorted(STRATEGIES)), MEMBERS, st.integers(1, 30), st.integers(0, 2**32 - 1), st.data())
def test_every_strategy_works_on_any_part_of_the_model_as_on_the_whole(name, count, size, seed, data) -> None:
    random = np.random.default_rng(seed)
    strategy = STRATEGIES[name]({})
    model, updates = random.standard_normal(size), random.standard_normal((count, size))
    weights = [float(weight) for weight in random.integers(1, 1000, count)]
    weigh = data.draw(st.sampled_from([strategy.weigh, *strategy.apart.values()]))
    coefficients = weigh(cohort(weights, list(random.random(count) + 0.1), updates - model))
    at = data.draw(st.integers(0, size))

    def folded(part: slice) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        counting = [n for n, value in enumerate(coefficients.values) if value]
        if strategy.combine is not None:
            proposal = strategy.combine(updates[counting][:, part].copy(), coefficients)
        else:
            total = sums.zero(len(model[part]))
            sums.accumulate(total, [updates[n, part] for n in counting], [coefficients.values[n] for n in counting])
            proposal = total / coefficients.divisor + coefficients.rest * model[part]
        memory = tuple(np.zeros((strategy.memories, len(model[part]))))
        return (proposal, memory) if strategy.advance is None else strategy.advance(model[part], proposal, memory, 1)

    (whole, remembered), one, other = folded(slice(None)), folded(slice(at)), folded(slice(at, None))

    assert np.isfinite(whole).all()
    assert np.array_equal(np.concatenate([one[0], other[0]]), whole)
    assert len(remembered) == strategy.memories
    for vector, first, second in zip(remembered, one[1], other[1], strict=True):
        assert np.array_equal(np.concatenate([first, second]), vector)


@settings(max_examples=50)
@given(st.sampled_from(sorted(STRATEGIES)), MEMBERS, st.integers(0, 2**32 - 1))
def test_members_that_agree_are_followed_by_every_strategy_without_a_server_optimizer(name, count, seed) -> None:
    random = np.random.default_rng(seed)
    strategy = STRATEGIES[name]({})
    if strategy.advance is not None or name in MOVES_BY_ITSELF:
        return
    model, agreed = np.zeros(5), random.standard_normal(5) * 1e-3
    updates = np.tile(agreed, (count, 1))
    coefficients = strategy.weigh(cohort([1.0] * count, [0.5] * count, updates))
    if strategy.combine is not None:
        proposal = strategy.combine(updates[[bool(value) for value in coefficients.values]].copy(), coefficients)
    else:
        proposal = np.array(coefficients.values) @ updates / coefficients.divisor + coefficients.rest * model

    assert np.allclose(proposal, agreed, rtol=1e-9)


MOVES_BY_ITSELF = {"qfedavg"}
"""Strategies whose step depends on the losses, not on the updates alone."""


@given(st.integers(1, 30), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_fedavg_is_the_weighted_mean(size, count, seed) -> None:
    random = np.random.default_rng(seed)
    values = random.standard_normal((count, size))
    weights = random.integers(1, 1000, count).astype(float)
    coefficients = STRATEGIES["fedavg"]({}).weigh(cohort(list(weights), [0.0] * count))

    assert np.allclose(
        np.array(coefficients.values) @ values / coefficients.divisor, np.average(values, axis=0, weights=weights), rtol=1e-12
    )
