"""What is generated from the vocabulary is committed, true, and says every word's meaning."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import ValidationError

from fedplane.schemas.envelope import write
from fedplane.schemas.examples import EXAMPLES
from fedplane.schemas.facts import FACTS, Fact
from fedplane.schemas.generate import ROOT, derived, differences
from fedplane.schemas.glossary import WORDS
from fedplane.schemas.json_schemas import VALUES, fact_schema, resource_schema

every_example = pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)


def test_the_committed_files_are_what_the_vocabulary_says() -> None:
    assert differences(ROOT) == []


def test_a_missing_a_stale_and_a_left_over_file_are_told(tmp_path: Path) -> None:
    for path, text in derived():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert differences(tmp_path) == []

    (tmp_path / "docs/events.md").unlink()
    (tmp_path / "schemas/json/FederatedLearning.json").write_text("{}")
    (tmp_path / "schemas/json/io.fedplane.run.forgotten.v1.json").write_text("{}")

    assert differences(tmp_path) == [
        "schemas/json/FederatedLearning.json is out of date",
        "docs/events.md is missing",
        "schemas/json/io.fedplane.run.forgotten.v1.json describes nothing that there is",
    ]


def test_there_is_one_example_of_every_fact() -> None:
    assert tuple(type(example) for example in EXAMPLES) == FACTS


@every_example
def test_an_example_fits_its_facts_schema(example: Fact) -> None:
    schema = fact_schema(type(example))
    Draft202012Validator.check_schema(schema)

    validator = Draft202012Validator(schema, format_checker=FormatChecker())

    assert list(validator.iter_errors(json.loads(write(example, "/test").body))) == []


@every_example
def test_a_schema_lets_later_fields_pass_and_needs_the_required_ones(example: Fact) -> None:
    validator = Draft202012Validator(fact_schema(type(example)))
    body = json.loads(write(example, "/test").body)

    validator.validate(body | {"novelty": 1})
    with pytest.raises(ValidationError):
        validator.validate({name: value for name, value in body.items() if name != "at"})


def test_the_resources_schema_refuses_what_the_resource_refuses() -> None:
    validator = Draft202012Validator(resource_schema())
    resource = {
        "apiVersion": "federation-ai.open-cluster-management.io/v1alpha1",
        "kind": "FederatedLearning",
        "metadata": {"name": "mnist"},
    }

    validator.validate(resource | {"spec": {"resources": {"requests": {"cpu": 2}}}})
    with pytest.raises(ValidationError):
        validator.validate(resource | {"spec": {"servr": {}}})


def test_every_word_has_a_meaning_and_no_meaning_is_left_over() -> None:
    fields = {(owner.__name__, field) for owner in (*FACTS, *VALUES) for field in owner.model_fields}
    used = {f"{owner}.{field}" if f"{owner}.{field}" in WORDS else field for owner, field in fields}

    assert sorted(used) == sorted(WORDS)
