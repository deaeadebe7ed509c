"""What holds for every log of a run whose updates are masked, whoever comes late, drops out, dies or meddles."""

from typing import Any

from aggregator_story import NOW, RUN, contributed, declined
from hypothesis import given, settings
from hypothesis import strategies as st
from log_story import deliveries, knows, recorded
from masked_story import MaskedStory, keyed, masked, sum_folded

from fedplane.aggregator import exchange
from fedplane.aggregator.rounds import Phase, Round
from fedplane.aggregator.runs import Cut, Runs
from fedplane.privacy.participant import Withdrawn
from fedplane.runtime.ports import Recorded
from fedplane.runtime.replica import Offer
from fedplane.schemas.facts import Bound, Cancelled, Closed, Expired, Fact, Lapsed, Paired, Revealed, RoundFailed

CLUSTERS = ("a", "b", "c", "d")


def next_word(story: MaskedStory, cluster: str) -> Fact | None:
    """What an honest cluster would say next; None if nothing."""
    state, number = story.current, story.number
    if state.phase in (Phase.COLLECTING, Phase.OVERDUE):
        return keyed(number, cluster) if state.opened.masking else contributed(number, cluster)
    if cluster not in state.exchange.members:
        return None
    try:
        match state.phase:
            case Phase.SHARING:
                return story.shared(cluster)
            case Phase.MASKING if cluster in state.exchange.entrusted:
                return masked(number, cluster)
            case Phase.REVEALING if state.closed is not None and state.closed.members is not None:
                return story.revealed(cluster)
    except Withdrawn:
        return declined(number, cluster)
    return None


def meddling(draw: st.DrawFn, story: MaskedStory) -> Fact:
    number, cluster = story.number, draw(st.sampled_from((*CLUSTERS, "mallory")))
    whose: dict[str, Any] = {"run": RUN, "round": number, "at": NOW}
    some = tuple(sorted(draw(st.lists(st.sampled_from(CLUSTERS), max_size=4))))
    facts: list[Fact] = [
        declined(number, cluster), keyed(number, cluster, 2), masked(number, cluster, 2), contributed(number, cluster),
        Expired(**whose), RoundFailed(**whose, reason="test", message="test"), Cancelled(run=RUN, at=NOW),
        *(Lapsed(**whose, step=step) for step in ("sharing", "masking", "revealing")),
        Bound(**whose, members=some, deadline=NOW), Closed(**whose, reason="test", members=draw(st.sampled_from([None, some]))),
        Revealed(**whose, cluster=cluster, seeds={"a": "AAAA"}, keys={"b": "AAAA"}), sum_folded(number, 0, *some),
    ]  # fmt: skip
    return draw(st.sampled_from(facts))


@st.composite
def logs(draw: st.DrawFn) -> list[Fact]:
    """A log as the write-once registers allow it: clusters that do their part or not, timers, and somebody who meddles."""
    story = MaskedStory(spec={"rounds": {"attempts": 3, "evaluate": False}, "server": {"rounds": 2, "minAvailableClients": 3}})
    story.initialize()
    for _ in range(draw(st.integers(0, 30))):
        if draw(st.integers(0, 3)):
            story.obey()
        if story.run.ended or story.run.round is None:
            break
        said = {old.subject for old in story.log}
        honest = draw(st.sampled_from([True, True, True, False]))
        words = [next_word(story, cluster) for cluster in draw(st.permutations(CLUSTERS))[: draw(st.integers(1, 4))]] if honest else []
        if honest and story.current.is_foldable and story.current.opened.masking:
            words = [sum_folded(story.number, shard, *(member.cluster for member in story.current.members)) for shard in range(3)]
        for fact in words or [meddling(draw, story)]:
            if fact is not None and fact.subject not in said:
                story.tell(fact)
    return story.log


CORE = Runs(Cut(80, 16))


@settings(max_examples=40)
@given(logs(), st.data())
def test_any_repetition_and_replay_of_a_log_gives_the_same_state_and_the_same_is_due(log, data) -> None:
    records = recorded(log)
    once, again = knows(CORE, records), knows(CORE, data.draw(deliveries(records)))

    assert again == knows(CORE, records, again) == once
    assert CORE.decide(again, NOW) == CORE.decide(once, NOW)


@settings(max_examples=40)
@given(logs())
def test_no_shard_is_folded_before_its_masks_can_be_taken_off_and_nobody_s_secrets_are_both_known(log) -> None:
    core = Runs(Cut(80, 16))
    state = core.initial()
    for sequence, fact in enumerate(log, 1):
        state = core.evolve(state, Recorded(fact, sequence))
        run = state.get(RUN)
        if run is None or run.round is None or run.round.opened.masking is None:
            continue
        masks, members = run.round.exchange, {member.cluster for member in run.round.members}
        seeds, keys = exchange.held(masks)
        assert not seeds.keys() & keys.keys()
        assert not keys.keys() & members and seeds.keys() <= members
        if any(isinstance(action, Offer) for action in core.decide(state, NOW)):
            assert exchange.is_recoverable(masks, members) and len(members) >= 3


@settings(max_examples=40)
@given(logs())
def test_who_is_bound_was_paired_who_counts_was_bound_and_a_step_is_never_taken_back(log) -> None:
    core, order = Runs(Cut(80, 16)), list(Phase)
    state, last = core.initial(), (-1, -1)
    for sequence, fact in enumerate(log, 1):
        state = core.evolve(state, Recorded(fact, sequence))
        run = state.get(RUN)
        if run is None or run.round is None:
            continue
        here = (run.round.opened.round, order.index(run.round.phase))
        assert here >= last
        last = here
        _insist_on_sets(run.round)


def _insist_on_sets(state: Round) -> None:
    masks = state.exchange
    paired = {member.cluster for member in masks.paired.members} if isinstance(masks.paired, Paired) else set[str]()
    bound = set(masks.bound.members) if masks.bound else set[str]()
    assert paired <= masks.keyed.keys() <= set(state.opened.clusters)
    assert bound <= masks.shared.keys() <= paired
    if state.opened.masking is not None and state.closed is not None and state.closed.members is not None:
        assert {member.cluster for member in state.members} == set(state.closed.members) <= bound
        assert masks.revealed.keys() <= set(state.closed.members)
