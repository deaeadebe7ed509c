"""What the aggregator makes of facts that no honest process states: a log without permissions holds whatever somebody published."""

from datetime import timedelta
from typing import Any

import pytest
from aggregator_story import CHUNK_BYTES, NOW, RUN, Story, contributed, declined, folded, scheduled
from hypothesis import given
from hypothesis import strategies as st

from fedplane.aggregator.failing import EXCUSE_CHARACTERS_MAX
from fedplane.aggregator.runs import Discard
from fedplane.runtime.replica import Perform
from fedplane.schemas import envelope
from fedplane.schemas.facts import Cancelled, Closed, Contributed, Declined, Expired, Fact, Failed, Folded, Measured, Opened, RoundFailed
from fedplane.schemas.layout import HEADER_BYTES_MAX
from fedplane.schemas.models import Task
from fedplane.schemas.subjects import bulk_of_round


def opened(round_: int, **odd: Any) -> Opened:
    told = {"task": Task.TRAIN, "training_round": 1, "clusters": ("a", "b"), "minimum": 2, "shard_bytes": 80, "chunk_bytes": 16, **odd}
    return Opened(run=RUN, round=round_, at=NOW, deadline=NOW + timedelta(minutes=10), **told)


def folding() -> Story:
    """A round of three members whose shards are to be folded."""
    story = Story()
    story.initialize()
    story.tell(*(contributed(1, cluster) for cluster in "abc"), Closed(run=RUN, round=1, at=NOW, reason="test"))
    return story


@pytest.mark.parametrize(
    "odd", [{"clusters": ("a", "mallory")}, {"shard_bytes": 7}, {"chunk_bytes": 0}, {"chunk_bytes": -8}, {"minimum": 0}]
)
def test_a_round_that_none_of_us_would_open_is_not_opened(odd) -> None:
    story = Story()
    story.tell(scheduled("a", "b"))
    before = story.obey()[-1]
    story.tell(RoundFailed(run=RUN, round=0, at=NOW, reason="test", message="test"), opened(1, **odd))

    assert story.run.round is not None
    assert (story.run.round.opened.round, before.subject.rpartition(".")[2]) == (0, "a")


@pytest.mark.parametrize(
    "result",
    [
        folded(1, 0, "a", "mallory"),
        folded(1, 0),
        folded(1, 0, "a", "b", "c").model_copy(update={"layout": None}),
        Measured(run=RUN, round=1, shard=0, at=NOW, members=("a", "b"), products=(1, 2, 3)),
        Measured(run=RUN, round=1, shard=0, at=NOW, members=("a", "b", "c"), products=(1,)),
    ],
)
def test_a_shard_of_another_round_s_members_is_no_result(result) -> None:
    story = folding()
    before = story.due()
    story.tell(result)

    assert story.due() == before


def pieces(fact: Contributed, **odd: Any) -> Contributed:
    return fact.model_copy(update={"shards": tuple(piece.model_copy(update=odd) for piece in fact.shards)})


def layout(fact: Contributed, **odd: Any) -> Contributed:
    return fact.model_copy(update={"layout": fact.layout.model_copy(update=odd)})


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (pieces(contributed(1, "b"), chunk_bytes=7), f"it is not cut into chunks of {CHUNK_BYTES} bytes"),
        (pieces(contributed(1, "b"), chunk_bytes=1), f"it is not cut into chunks of {CHUNK_BYTES} bytes"),
        (
            layout(contributed(1, "b"), bytes=10**15),
            f"its layout has {10**15} bytes, and a safetensors header may have {HEADER_BYTES_MAX}",
        ),
    ],
)
def test_a_contribution_that_would_harm_who_folds_it_does_not_count(answer, message) -> None:
    story = Story()
    story.initialize()
    story.tell(contributed(1, "a"), answer, contributed(1, "c"))
    rejected, *_ = story.stated()

    assert (rejected.subject, rejected.message) == (f"fed.v1.run.{RUN}.round.1.rejected.b", message)


def test_whatever_clusters_say_when_they_decline_the_round_and_the_run_can_fail() -> None:
    story = Story(spec={"rounds": {"attempts": 1}})
    story.initialize()
    story.tell(*(Declined(run=RUN, round=1, cluster=c, at=NOW, reason="r" * 400_000, message="m" * 400_000) for c in "abc"))
    said = story.obey()

    assert [type(fact) for fact in said] == [Closed, RoundFailed, Failed]
    assert all(len(fact.message) < 4 * EXCUSE_CHARACTERS_MAX for fact in said if isinstance(fact, RoundFailed | Failed))
    assert all(envelope.write(fact, "/test").body for fact in said)


def test_a_resource_that_is_wrong_at_length_can_fail() -> None:
    (failed,) = Story(spec={"strategy": {"name": "x" * 890_000}}).stated()

    assert isinstance(failed, Failed)
    assert envelope.write(failed, "/test").body


def test_of_a_round_that_failed_all_bytes_are_discarded() -> None:
    story = folding()
    story.tell(folded(1, 0, "a", "b", "c"), RoundFailed(run=RUN, round=1, at=NOW, reason="test", message="test"))

    assert [action.effect for action in story.due() if isinstance(action, Perform)] == [Discard((bulk_of_round(RUN, 1),))]


def test_of_a_run_that_ends_in_mid_fold_the_beginning_of_a_model_is_discarded() -> None:
    story = folding()
    story.tell(folded(1, 0, "a", "b", "c"), Cancelled(run=RUN, at=NOW))

    assert [action.effect for action in story.due() if isinstance(action, Perform)] == [
        Discard((bulk_of_round(RUN, "*", "update"), bulk_of_round(RUN, 1, "model"), bulk_of_round(RUN, 0, "update"))),
    ]


def odd_facts(round_: int) -> st.SearchStrategy[Fact]:
    cluster, size = st.sampled_from(("a", "b", "mallory")), st.sampled_from((-8, 0, 1, 7, 8, 16, 80, 10**18))
    return st.one_of(
        st.builds(lambda c, s: pieces(contributed(round_, c), chunk_bytes=max(s, 1)), cluster, size),
        st.builds(lambda c, s: pieces(contributed(round_, c), bytes=max(s, 0)), cluster, size),
        st.builds(lambda c, s: opened(round_, clusters=(c,), shard_bytes=s), cluster, size),
        st.builds(lambda c, s: opened(round_, clusters=(c,), chunk_bytes=s, minimum=s), cluster, size),
        st.builds(lambda c, s: Folded(**{**folded(round_, 0, c).__dict__, "shard": max(s, 0)}), cluster, size),
        st.builds(lambda c: Measured(run=RUN, round=round_, shard=0, at=NOW, members=(c,), products=(0.5,)), cluster),
        cluster.map(lambda c: declined(round_, c)),
        st.sampled_from((Expired(run=RUN, round=round_, at=NOW), Closed(run=RUN, round=round_, at=NOW, reason="test"))),
    )


@given(st.data(), st.sampled_from(("fedavg", "krum")))
def test_no_log_however_odd_keeps_the_aggregator_from_deciding(data, strategy) -> None:
    story = Story(spec={"strategy": {"name": strategy}, "rounds": {"attempts": 2}})
    story.tell(scheduled("a", "b", "c"))
    for _ in range(data.draw(st.integers(0, 12))):
        number = story.run.round.opened.round if story.run.round else 0
        fact = data.draw(odd_facts(number + data.draw(st.integers(0, 1))))
        if fact.subject not in {old.subject for old in story.log}:
            story.tell(fact)
        if data.draw(st.booleans()):
            story.obey()

    assert story.due() == story.core.decide(story.state, story.now)
