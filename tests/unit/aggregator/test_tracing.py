"""What operators are told of a round that has ended: who did what in it, what did not count, and why, told once by whoever ended it."""

from collections import Counter
from collections.abc import Mapping
from datetime import timedelta

import pytest
from aggregator_story import NOW, RUN, Story, contributed, declined, evaluated, folded

from fedplane.aggregator.tracing import End, measurements, round_that_ended, spans
from fedplane.runtime.metrics import CONTRIBUTION_DURATION, CONTRIBUTIONS, ROUND_DURATION, ROUNDS, Metric
from fedplane.runtime.spans import SpanKind, invite_traceparent, round_traceparent, run_traceparent
from fedplane.schemas.facts import Aggregated, Cancelled, Closed, Expired, Fact, RoundFailed


def story(**spec: object) -> Story:
    """A training round of three clusters, of which one may be missing."""
    it = Story(spec={"server": {"rounds": 1, "minAvailableClients": 2}, **spec})
    it.initialize()
    return it


def end(it: Story, fact: Fact) -> End:
    """The end, as the replica that states the fact sees it: before the fact has come back to it."""
    found = round_that_ended(it.run, fact)
    assert found is not None
    return found


def last(it: Story, kind: type[Fact]) -> Fact:
    """What is due of that kind."""
    return next(fact for fact in it.stated() if isinstance(fact, kind))


def told(ended: End, metric: Metric) -> list[tuple[float, Mapping[str, str]]]:
    return [(each.value, each.attributes) for each in measurements(ended) if each.metric is metric]


@pytest.fixture
def mixed() -> End:
    """One contributes, one declines, one says nothing until the deadline; the round fails, since two were needed."""
    it = story()
    it.tell(contributed(1, "a"), declined(1, "b"), Expired(run=RUN, round=1, at=NOW))
    it.tell(last(it, Closed))
    return end(it, last(it, RoundFailed))


def test_every_cluster_that_was_asked_is_accounted_for_with_its_reason(mixed: End) -> None:
    assert told(mixed, CONTRIBUTIONS) == [
        (1, {"fedplane.task": "train", "fedplane.outcome": "accepted"}),
        (1, {"fedplane.task": "train", "fedplane.outcome": "declined", "error.type": "app-raised", "fedplane.cluster": "b"}),
        (1, {"fedplane.task": "train", "fedplane.outcome": "unanswered", "error.type": "unanswered", "fedplane.cluster": "c"}),
    ]
    assert told(mixed, ROUNDS) == [(1, {"fedplane.task": "train", "fedplane.outcome": "failed", "error.type": "too-few"})]


def test_every_value_of_a_round_leads_to_its_trace(mixed: End) -> None:
    assert {each.traceparent for each in measurements(mixed)} == {round_traceparent(RUN, 1)}


def test_a_clusters_part_tells_what_became_of_it_under_the_identity_that_its_own_spans_name(mixed: End) -> None:
    invites = [span for span in spans(mixed) if span.name == "invite"]

    assert [span.identity for span in invites] == [invite_traceparent(RUN, 1, cluster) for cluster in "abc"]
    assert {span.parent for span in invites} == {round_traceparent(RUN, 1)}
    assert {span.kind for span in invites} == {SpanKind.PRODUCER}
    assert [[(event.name, event.attributes["error.type"]) for event in span.events] for span in invites] == [
        [], [("declined", "app-raised")], [("unanswered", "unanswered")],
    ]  # fmt: skip
    assert invites[2].problem == "there was no answer when the round was closed: the deadline passed"


def test_a_failed_round_has_no_assembly_and_its_root_says_why(mixed: End) -> None:
    root, *others = spans(mixed)

    assert {span.name for span in others} == {"invite"}
    assert (root.name, root.identity, root.parent, root.links) == ("round train", round_traceparent(RUN, 1), None, (run_traceparent(RUN),))
    assert [event.name for event in root.events] == ["closed", "failed"]
    assert root.problem.startswith("1 of 3 clusters answered, 2 are needed")


def test_contributions_whose_bytes_are_unusable_are_refused_though_they_were_in_time() -> None:
    it = story()
    it.tell(contributed(1, "a"), contributed(1, "b"), contributed(1, "c"))
    it.tell(last(it, Closed))
    fact = RoundFailed(run=RUN, round=1, at=NOW, reason="unfoldable", message="the update of b cannot be used", faulty=("b",))

    counted = Counter((of["fedplane.outcome"], of.get("error.type")) for _, of in told(end(it, fact), CONTRIBUTIONS))
    assert counted == {("accepted", None): 2, ("rejected", "unusable"): 1}


def test_a_contribution_that_is_none_of_the_model_is_rejected() -> None:
    it = story()
    it.tell(contributed(1, "a"), contributed(1, "b"), contributed(1, "c", size=80))
    it.tell(last(it, Closed))
    it.tell(*(folded(1, shard, "a", "b") for shard in range(3)))

    refused = [of for _, of in told(end(it, last(it, Aggregated)), CONTRIBUTIONS) if of["fedplane.outcome"] != "accepted"]
    assert refused == [{"fedplane.task": "train", "fedplane.outcome": "rejected", "error.type": "unacceptable", "fedplane.cluster": "c"}]


def test_a_round_lasts_from_its_opening_to_its_result_and_is_assembled_after_its_last_shard() -> None:
    it = story()
    it.tell(contributed(1, "a"), contributed(1, "b"), contributed(1, "c"))
    it.tell(last(it, Closed))
    it.tell(*(folded(1, shard, "a", "b", "c").model_copy(update={"at": it.now + timedelta(seconds=shard)}) for shard in range(3)))
    it.now += timedelta(seconds=10)
    ended = end(it, last(it, Aggregated))

    opened, seconds = ended.state.opened.at, (ended.fact.at - ended.state.opened.at).total_seconds()
    assert told(ended, ROUND_DURATION) == [(seconds, {"fedplane.task": "train", "fedplane.outcome": "aggregated"})]
    assert len(told(ended, CONTRIBUTION_DURATION)) == 3
    *_, assemble = spans(ended)
    assert (assemble.name, assemble.begin, assemble.end) == ("assemble", max(f.at for f in ended.state.folded.values()), ended.fact.at)
    assert opened < assemble.begin < assemble.end


def test_answers_to_an_evaluation_count_as_well() -> None:
    it = story()
    it.tell(contributed(1, "a"), contributed(1, "b"), contributed(1, "c"))
    it.obey()
    it.tell(*(folded(1, shard, "a", "b", "c") for shard in range(3)))
    it.obey()
    it.tell(*(evaluated(2, cluster, 1, 0.5) for cluster in "abc"))
    it.tell(last(it, Closed))
    ended = end(it, last(it, Aggregated))

    assert Counter(of["fedplane.outcome"] for _, of in told(ended, CONTRIBUTIONS)) == {"accepted": 3}
    assert next(spans(ended)).attributes["fedplane.members"] == 3


def test_a_round_whose_run_was_cancelled_ends_when_it_is_closed() -> None:
    it = story()
    it.tell(contributed(1, "a"), Cancelled(run=RUN, at=NOW))
    ended = end(it, last(it, Closed))

    root = next(spans(ended))
    assert (root.attributes["fedplane.outcome"], root.problem) == ("cancelled", "")
    assert [event.name for event in root.events] == ["closed"]


def test_closing_a_round_that_goes_on_to_be_folded_is_no_end() -> None:
    it = story()
    it.tell(contributed(1, "a"), contributed(1, "b"), contributed(1, "c"))

    assert round_that_ended(it.run, last(it, Closed)) is None
    assert round_that_ended(None, RoundFailed(run=RUN, round=1, at=NOW, reason="x", message="")) is None
    assert round_that_ended(it.run, RoundFailed(run=RUN, round=7, at=NOW, reason="x", message="")) is None
