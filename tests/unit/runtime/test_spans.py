"""Identities of spans follow from names, so that whoever ends what another began speaks of the same thing."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as some

from fedplane.runtime.spans import Ended, Event, failure, invite_traceparent, round_traceparent, run_ended, run_traceparent, traceparent_of
from fedplane.schemas.examples import EXAMPLES
from fedplane.schemas.facts import Advertised, Cancelled, Completed, Failed, RoundFact, RunFact

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(seconds=30)


def test_every_fact_about_a_run_has_a_place_in_a_trace() -> None:
    for fact in EXAMPLES:
        cluster = getattr(fact, "cluster", None)
        match fact:
            case RoundFact() if cluster:
                assert traceparent_of(fact) == invite_traceparent(fact.run, fact.round, cluster)
            case RoundFact():
                assert traceparent_of(fact) == round_traceparent(fact.run, fact.round)
            case RunFact():
                assert traceparent_of(fact) == run_traceparent(fact.run)
            case Advertised():
                assert traceparent_of(fact) is None


@given(some.integers(0, 10_000), some.from_regex("[a-z][a-z0-9-]{0,20}", fullmatch=True))
def test_a_clusters_part_is_in_its_rounds_trace_and_no_other(number: int, cluster: str) -> None:
    version, trace, span, flags = invite_traceparent("run", number, cluster).split("-")

    assert (version, len(trace), len(span), flags) == ("00", 32, 16, "01")
    assert trace == round_traceparent("run", number).split("-")[1] != run_traceparent("run").split("-")[1]
    assert span not in (round_traceparent("run", number).split("-")[2], invite_traceparent("run", number + 1, cluster).split("-")[2])


def test_a_failed_run_says_why_in_a_word_and_in_a_sentence() -> None:
    fact = Failed(run="r", at=LATER, reason="RoundFailed", message="training round 1 failed")

    assert run_ended(fact, NOON) == Ended(
        "run", NOON, LATER, identity=run_traceparent("r"), problem="training round 1 failed",
        attributes={"fedplane.run": "r", "fedplane.outcome": "failed", "error.type": "RoundFailed"},
        events=(failure("failed", LATER, "RoundFailed", "training round 1 failed"),),
    )  # fmt: skip


def test_a_cancelled_run_is_no_failure() -> None:
    ended = run_ended(Cancelled(run="r", at=LATER, message="not needed"), NOON)

    assert (ended.problem, ended.events) == ("", (Event("cancelled", LATER, {"fedplane.message": "not needed"}),))


def test_a_span_does_not_end_before_it_begins_though_clocks_differ() -> None:
    completed = next(fact for fact in EXAMPLES if isinstance(fact, Completed))
    ended = run_ended(completed, completed.at + timedelta(seconds=5))

    assert ended.begin == ended.end == completed.at + timedelta(seconds=5)
