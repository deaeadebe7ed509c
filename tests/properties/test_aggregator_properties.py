"""What holds for every log and every set of contributions."""

import numpy as np
from aggregator_story import NOW, RUN, Story, contributed, declined, evaluated, folded, scheduled
from hypothesis import given, settings
from hypothesis import strategies as st

from fedplane.aggregator.runs import Cut, Runs
from fedplane.aggregator.strategies import STRATEGIES
from fedplane.runtime.ports import Recorded
from fedplane.schemas.facts import Cancelled, Closed, Expired, Fact, RoundFailed

CLUSTERS = ("a", "b", "c")


def round_facts(round_: int) -> st.SearchStrategy[Fact]:
    cluster = st.sampled_from((*CLUSTERS, "mallory"))
    return st.one_of(
        cluster.map(lambda name: contributed(round_, name, 2)),
        cluster.map(lambda name: contributed(round_, name, 2, layout="c" * 64)),
        cluster.map(lambda name: declined(round_, name)),
        cluster.map(lambda name: evaluated(round_, name, 1, 0.5)),
        st.integers(0, 3).map(lambda shard: folded(round_, shard % 3, "a")),
        st.just(Expired(run=RUN, round=round_, at=NOW)),
        st.just(Closed(run=RUN, round=round_, at=NOW, reason="test")),
        st.just(RoundFailed(run=RUN, round=round_, at=NOW, reason="test", message="test", faulty=("b",))),
    )


@st.composite
def logs(draw: st.DrawFn) -> list[Fact]:
    """A log as the write-once registers allow it: what the outside world may say, and in between what the core states itself."""
    story = Story(spec={"server": {"rounds": 2, "minAvailableClients": 1}, "rounds": {"attempts": 2}})
    story.tell(scheduled(*CLUSTERS))
    for _ in range(draw(st.integers(0, 25))):
        if draw(st.booleans()):
            story.obey()
        current = story.run.round.opened.round if story.run.round else 0
        fact = draw(st.one_of(round_facts(draw(st.integers(max(0, current - 1), current + 1))), st.just(Cancelled(run=RUN, at=NOW))))
        if fact.subject not in {old.subject for old in story.log}:
            story.tell(fact)
    return story.log


def fold(records: list[Recorded]) -> object:
    core = Runs(Cut(80, 16))
    state = core.initial()
    for record in records:
        state = core.evolve(state, record)
    return state


@given(logs(), st.data())
def test_any_repetition_and_replay_of_a_log_gives_the_same_state(log, data) -> None:
    records = [Recorded(fact, sequence) for sequence, fact in enumerate(log, 1)]
    once = fold(records)
    repeated: list[Recorded] = []
    for position, record in enumerate(records):
        repeated += [record] * data.draw(st.integers(1, 3))
        if data.draw(st.integers(0, 5)) == 0:
            repeated += records[data.draw(st.integers(0, position)) : position + 1]

    assert fold(repeated + records) == once


@given(logs(), logs(), st.randoms(use_true_random=False))
def test_runs_do_not_see_each_other_however_their_logs_interleave(one, other, random) -> None:
    other = [fact.model_copy(update={"run": "other-01234567"}) for fact in other]
    turns = [0] * len(one) + [1] * len(other)
    random.shuffle(turns)
    sources = (iter(one), iter(other))
    mixed = [next(sources[turn]) for turn in turns]

    together = fold([Recorded(fact, sequence) for sequence, fact in enumerate(mixed, 1)])
    alone = {
        name: fold([Recorded(fact, sequence) for sequence, fact in enumerate(mixed, 1) if fact.run == name])[name]
        for name in {fact.run for fact in mixed}
    }

    assert together == alone


@given(logs())
def test_deciding_twice_decides_the_same(log) -> None:
    core = Runs(Cut(80, 16))
    state = fold([Recorded(fact, sequence) for sequence, fact in enumerate(log, 1)])

    assert core.decide(state, NOW) == core.decide(state, NOW)


@settings(deadline=None)
@given(st.sampled_from(sorted(STRATEGIES)), st.integers(1, 40), st.integers(1, 6), st.integers(0, 2**32 - 1), st.data())
def test_every_strategy_folds_alike_in_one_go_in_pieces_and_merged(name, size, members, seed, data) -> None:
    random = np.random.default_rng(seed)
    updates = [(random.standard_normal(size).astype(np.float32), float(random.integers(1, 1000))) for _ in range(members)]
    strategy = STRATEGIES[name]({})
    whole = strategy.zero(size)
    for values, weight in updates:
        whole = strategy.accumulate(whole, values, weight)
    at = data.draw(st.integers(0, size))
    pieces = []
    for begin, end in ((0, at), (at, size)):
        part = strategy.zero(end - begin)
        for values, weight in updates:
            part = strategy.accumulate(part, values[begin:end], weight)
        pieces.append(part)
    split = data.draw(st.integers(0, members))
    halves = [strategy.zero(size), strategy.zero(size)]
    for index, (values, weight) in enumerate(updates):
        halves[index >= split] = strategy.accumulate(halves[index >= split], values, weight)
    report = strategy.report(whole)

    assert np.array_equal(np.concatenate([strategy.report(part) for part in pieces]), report), "a shard is folded as the whole would be"
    assert np.allclose(strategy.report(strategy.merge(*halves)), report, rtol=1e-12, atol=1e-12), "merging halves is folding the whole"


@given(st.integers(1, 30), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_fedavg_is_the_weighted_mean(size, members, seed) -> None:
    random = np.random.default_rng(seed)
    values = random.standard_normal((members, size))
    weights = random.integers(1, 1000, members).astype(float)
    strategy = STRATEGIES["fedavg"]({})
    partial = strategy.zero(size)
    for row, weight in zip(values, weights, strict=True):
        partial = strategy.accumulate(partial, row, weight)

    assert np.allclose(strategy.report(partial), np.average(values, axis=0, weights=weights), rtol=1e-12)
