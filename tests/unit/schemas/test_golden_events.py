"""Yesterday's events stay readable: each golden file has what some version said, and no file is ever written again.

`events-1` are the examples of an early version, later ones were recorded from running services (`record_events.py` beside them).
The rule that they enforce is written in docs/events.md, under "What may change, and what does not".
"""

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from sources import ROOT

from fedplane.schemas.envelope import Unreadable, read, read_structured, write
from fedplane.schemas.facts import FACTS, fact_type
from fedplane.schemas.json_schemas import fact_schema
from fedplane.schemas.patterns import facts_under

FILES = {path.stem: path.read_text().splitlines() for path in sorted((ROOT / "tests/golden").glob("events-*.jsonl"))}
GOLDEN = [pytest.param(json.loads(line), id=f"{file} {json.loads(line)['type']}") for file, lines in FILES.items() for line in lines]
every_golden_event = pytest.mark.parametrize("event", GOLDEN)

FREE = frozenset({
    "allocatable", "annotations", "carried", "claims", "commitments", "config", "configuration", "keys", "labels", "left_out", "limits",
    "metadata", "metrics", "parameters", "pending", "perCluster", "placement", "requests", "run_configuration", "sealed", "seeds",
    "weights",
})  # fmt: skip
"""Fields whose names below them are data, or Kubernetes' own and handed on, so that a new one is not ignored."""


def headers_of(event: dict[str, Any]) -> dict[str, str]:
    return {f"ce-{name}": value for name, value in event.items() if name != "data"}


def later(node: Any, name: str = "") -> Any:
    """The same as a later version might say it: each object has one field more."""
    if isinstance(node, list):
        return [later(each, name) for each in node]
    if not isinstance(node, dict):
        return node
    said = {key: later(value, key) for key, value in node.items()}
    return said if name in FREE else said | {"novelty": {"of": "a later version"}}


def lost(said: Any, understood: Any, path: str = "") -> list[str]:
    """What was said and was not understood."""
    if isinstance(said, dict):
        return [each for name in said for each in lost(said[name], (understood or {}).get(name), f"{path}.{name}")]
    if isinstance(said, list):
        pairs = zip(said, understood or [None] * len(said), strict=True)
        return [each for place, (one, other) in enumerate(pairs) for each in lost(one, other, f"{path}[{place}]")]
    return [] if said == understood else [f"{path}: {said!r} became {understood!r}"]


@every_golden_event
def test_a_golden_event_is_read_in_both_modes_and_nothing_of_it_is_lost(event: dict[str, Any]) -> None:
    body = json.dumps(event["data"]).encode()

    fact = read(event["subject"], headers_of(event), body)
    structured, attributes, _ = read_structured(json.dumps(event).encode())

    assert fact == structured
    assert lost(event["data"], json.loads(write(fact, event["source"]).body)) == []
    assert attributes["id"] == event["id"]
    assert facts_under(event["subject"]) == (type(fact),)


@every_golden_event
def test_a_golden_event_fits_todays_schema(event: dict[str, Any]) -> None:
    known = fact_type(event["type"])
    assert known is not None

    errors = Draft202012Validator(fact_schema(known), format_checker=FormatChecker()).iter_errors(event["data"])

    assert [f"{error.json_path}: {error.message}" for error in errors] == []


@every_golden_event
def test_fields_of_a_later_version_are_ignored_wherever_they_are(event: dict[str, Any]) -> None:
    body, more = (json.dumps(data).encode() for data in (event["data"], later(event["data"])))

    assert len(more) > len(body)
    assert read(event["subject"], headers_of(event) | {"ce-novelty": "1"}, more) == read(event["subject"], headers_of(event), body)


def test_a_fact_of_a_later_type_is_told_from_a_broken_one() -> None:
    event = json.loads(FILES["events-2"][0]) | {"type": "io.fedplane.run.paused.v1", "subject": "fed.v1.run.mnist-5f3a9c1e.paused"}

    with pytest.raises(Unreadable, match=r"has the type 'io\.fedplane\.run\.paused\.v1', which this version does not know"):
        read_structured(json.dumps(event).encode())


def test_every_fact_was_recorded_once() -> None:
    *_, newest = FILES.values()
    assert [json.loads(line)["type"] for line in newest] == [fact.type for fact in FACTS]


def test_what_a_version_no_longer_understands_is_found() -> None:
    said = {"run": "r", "model": {"bytes": 1, "shards": [{"bytes": 1}]}}

    assert lost(said, {"run": "r", "model": {"bytes": 2, "shards": [{}]}}) == [
        ".model.bytes: 1 became 2",
        ".model.shards[0].bytes: 1 became None",
    ]
