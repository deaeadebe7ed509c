"""The vocabulary: what holds of every fact, and what a subject is."""

import inspect
import re
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from fedplane.schemas import facts, subjects
from fedplane.schemas.examples import EXAMPLES
from fedplane.schemas.facts import FACTS, Advertised, Contributed, EditRefused, Evaluated, Exposed, Fact, Kept, RoundFact, Started, Waiting

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
every_fact = pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.__name__)
every_example = pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)


def test_the_table_has_every_fact_once() -> None:
    bases = {Fact, facts.RunFact, RoundFact, facts.AccessFact}
    defined = {found for _, found in inspect.getmembers(facts, inspect.isclass) if issubclass(found, Fact)} - bases

    assert sorted(fact.__name__ for fact in FACTS) == sorted(fact.__name__ for fact in defined)


def test_no_two_facts_share_a_type_or_a_subject() -> None:
    shapes = [re.sub(r"{\w+}", "*", fact.template) for fact in FACTS]

    assert len({fact.type for fact in FACTS}) == len(FACTS)
    assert len(set(shapes)) == len(FACTS)


@every_fact
def test_a_fact_says_what_it_is_and_who_says_it(fact: type[Fact]) -> None:
    assert fact.__dict__["__doc__"].rstrip().endswith(".")
    assert re.fullmatch(r"io\.fedplane\.(run|round|fleet|access)\.[a-z]+\.v\d+", fact.type)
    assert set(fact.__dict__["said_by"].split(", ")) <= {
        "cli", "scheduler", "aggregator", "status", "authorizer", "collaborator", "driver", "timer",
    }  # fmt: skip


@every_fact
def test_the_verb_comes_before_the_cluster(fact: type[Fact]) -> None:
    verb = fact.type.split(".")[3]

    assert re.search(rf"\.{verb}(\.{{\w+}})?$", fact.template), fact.template


@every_fact
def test_a_fact_is_found_by_its_type(fact: type[Fact]) -> None:
    assert facts.fact_type(fact.type) is fact


def test_an_unknown_type_is_no_fact() -> None:
    assert facts.fact_type("io.fedplane.run.submitted.v9") is None


@every_example
def test_a_subject_is_matched_by_the_patterns_of_its_fact_and_of_everything(example: Fact) -> None:
    assert matches(type(example).pattern(), example.subject)
    assert matches(facts.EVERYTHING, example.subject)


@every_example
def test_a_fact_of_a_run_is_matched_by_all_facts_of_that_run_only(example: Fact) -> None:
    run = getattr(example, "run", None)

    assert matches(facts.all_facts_of(), example.subject) == (run is not None)
    assert matches(facts.all_facts_of("mnist-5f3a9c1e"), example.subject) == (run == "mnist-5f3a9c1e")


@every_example
def test_a_fence_on_the_run_sees_its_own_facts_but_none_of_rounds_and_none_that_is_numbered(example: Fact) -> None:
    expected = isinstance(example, facts.RunFact) and not isinstance(example, RoundFact | Waiting | EditRefused | Exposed | Kept)

    assert matches(facts.run_level_facts_of("mnist-5f3a9c1e"), example.subject) == expected


def test_a_pattern_leaves_open_what_is_not_given() -> None:
    assert Contributed.pattern() == "fed.v1.run.*.round.*.contributed.*"
    assert Contributed.pattern(run="r", cluster="c") == "fed.v1.run.r.round.*.contributed.c"
    assert Contributed.pattern(run="r", round=0, cluster="c") == "fed.v1.run.r.round.0.contributed.c"


def test_a_pattern_over_a_field_that_the_subject_does_not_name_is_an_error() -> None:
    with pytest.raises(TypeError, match=r"does not name \['custer'\]"):
        Contributed.pattern(custer="c")


def test_a_misspelt_field_in_a_subject_fails_when_the_class_is_made() -> None:
    with pytest.raises(TypeError, match=r"the subject names \['rnu'\], which are no fields of it"):
        type("Misspelt", (facts.RunFact,), {"__module__": __name__, "template": "run.{rnu}.misspelt"})


@pytest.mark.parametrize("name", ["*", ">", "a.b", "", "A"])
def test_no_fact_can_be_stated_under_a_wildcard_or_a_deeper_subject(name: str) -> None:
    with pytest.raises(ValidationError):
        Started(at=NOON, run=name, strategy="fedavg", training_rounds=1)
    with pytest.raises(ValidationError):
        Advertised(at=NOON, cluster=name, lease_seconds=1)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_cannot_write_is_no_metric_and_no_weight(number: float) -> None:
    with pytest.raises(ValidationError):
        Evaluated(at=NOON, run="r", round=1, cluster="c", weight=1, metrics={"loss": number})
    with pytest.raises(ValidationError):
        Evaluated(at=NOON, run="r", round=1, cluster="c", weight=number, metrics={})


def test_a_fact_without_a_time_zone_has_no_time() -> None:
    with pytest.raises(ValidationError):
        Started(at=datetime(2026, 3, 2, 12), run="r", strategy="fedavg", training_rounds=1)


def test_bulk_subjects_say_whose_bytes_they_are() -> None:
    assert subjects.update_piece("r", 3, "c", "a1", 0) == "bulk.fed.v1.r.3.update.c.a1.0"
    assert subjects.model_piece("r", 3, "a1", 0) == "bulk.fed.v1.r.3.model.a1.0"


def test_all_bulk_data_of_a_round_is_matched_by_its_pattern() -> None:
    update, model = subjects.update_piece("r", 3, "c", "a1", 0), subjects.model_piece("r", 3, "a1", 0)

    assert matches(subjects.bulk_of_round("r", 3), update) and matches(subjects.bulk_of_round("r", 3), model)
    assert matches(subjects.bulk_of_round("r", 3, "update"), update) and not matches(subjects.bulk_of_round("r", 3, "update"), model)
    assert not matches(subjects.bulk_of_round("r", 3), subjects.update_piece("r", 33, "c", "a1", 0))


def test_an_archive_is_bulk_data_of_its_run_and_of_no_round() -> None:
    archive = subjects.archive_piece("r", "a1")

    assert matches(subjects.bulk_of_run("r"), f"{archive}.0") and matches(subjects.chunks_of(archive), f"{archive}.0")
    assert not matches(subjects.bulk_of_round("r", "*", "update"), f"{archive}.0")
    assert not matches(subjects.bulk_of_round("r", "*", "model"), f"{archive}.0")
    assert not matches(subjects.bulk_of_run("r"), subjects.archive_piece("rr", "a1"))


def test_a_fold_task_is_read_as_it_was_written() -> None:
    assert subjects.parse_work_on(subjects.work_on("fold", "mnist-5f3a9c1e", 12, 3)) == ("fold", "mnist-5f3a9c1e", 12, 3)


def matches(pattern: str, subject: str) -> bool:
    """NATS's rule: `*` is one token, a final `>` one or more."""
    wanted, said = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted, said, longer = wanted[:-1], said[: len(wanted) - 1], len(said) >= len(wanted)
        return longer and matches(".".join(wanted), ".".join(said))
    return len(wanted) == len(said) and all(token in ("*", heard) for token, heard in zip(wanted, said, strict=True))
