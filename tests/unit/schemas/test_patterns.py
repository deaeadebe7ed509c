"""What subscribers ask for, compared with the facts that there are."""

import pytest

from fedplane.schemas.facts import ALL_ROUNDS_DONE, EVERYTHING, FACTS, Advertised, Aggregated, Closed, Failed, RoundFailed, RunFact
from fedplane.schemas.patterns import facts_named, facts_under, matches


@pytest.mark.parametrize("word", ["aggregated", "round.aggregated", "io.fedplane.round.aggregated.v1"])
def test_a_fact_is_named_by_its_type_or_the_end_of_it(word: str) -> None:
    assert facts_named(word) == (Aggregated,)


def test_a_word_may_name_several_facts_or_none() -> None:
    assert facts_named("failed") == (RoundFailed, Failed)
    assert [facts_named(word) for word in ("", "fail", "gregated", "round", "io.fedplane.round.aggregated.v2", ALL_ROUNDS_DONE)] == [()] * 6


@pytest.mark.parametrize(
    ("pattern", "facts"),
    [
        (EVERYTHING, FACTS),
        ("fed.v1.run.*.>", tuple(fact for fact in FACTS if issubclass(fact, RunFact))),
        ("fed.v1.run.mnist-5f3a9c1e.round.7.closed", (Closed,)),
        ("fed.v1.run.*.round.*.failed", (RoundFailed,)),
        ("fed.v1.fleet.*.advertised", (Advertised,)),
        ("fed.v1.run.Mnist.round.7.closed", ()),
        ("fed.v1.run.*.round.*.close", ()),
        ("fed.v1.run.*.round.*", ()),
        ("fed.v2.>", ()),
        ("fed.v1.run.>.closed", ()),
        ("log.fed.v1.>", ()),
        ("fed.v1.fleet.*.advertised.>", ()),
        ("", ()),
        ("fed.v1.run.mni*.completed", ()),
    ],
)
def test_a_pattern_is_of_the_facts_whose_subjects_it_may_match(pattern: str, facts: tuple[type, ...]) -> None:
    assert facts_under(pattern) == facts


def test_every_fact_is_under_its_own_pattern() -> None:
    assert [fact for fact in FACTS if fact not in facts_under(fact.pattern()) or fact not in facts_named(fact.type)] == []


@pytest.mark.parametrize(
    ("pattern", "subject", "does"),
    [
        ("fed.v1.run.r-1.>", "fed.v1.run.r-1.started", True),
        ("fed.v1.run.r-1.>", "fed.v1.run.r-1", False),
        ("fed.v1.run.*.started", "fed.v1.run.r-1.started", True),
        ("fed.v1.run.*", "fed.v1.run.r-1.started", False),
        ("fed.v1.run.r-1.started", "fed.v1.run.r-2.started", False),
        (">", "fed", True),
    ],
)
def test_a_subject_matches_token_by_token(pattern: str, subject: str, does: bool) -> None:
    assert matches(pattern, subject) is does
