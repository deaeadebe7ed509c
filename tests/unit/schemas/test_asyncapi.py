"""The AsyncAPI document: valid by AsyncAPI's own schema, and true of every fact.

The schema beside `tests/golden` is the file `schemas/3.0.0.json` of the npm package `@asyncapi/specs` 6.11.1, compressed and else as it is.
It is AsyncAPI Initiative's, under Apache-2.0, as this project is.
"""

import gzip
import json
from copy import deepcopy
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator, Draft202012Validator
from sources import ROOT

from fedplane.schemas.asyncapi import asyncapi_document
from fedplane.schemas.envelope import write
from fedplane.schemas.examples import EXAMPLES
from fedplane.schemas.facts import FACTS, Fact

COMMITTED: dict[str, Any] = yaml.safe_load((ROOT / "schemas/asyncapi.yaml").read_text())
every_example = pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)


@pytest.fixture(scope="module")
def asyncapi() -> Draft7Validator:
    return Draft7Validator(json.loads(gzip.decompress((ROOT / "tests/golden/asyncapi-3.0.0.json.gz").read_bytes())))


def test_the_committed_document_is_valid_by_asyncapis_own_schema(asyncapi: Draft7Validator) -> None:
    assert [f"{error.json_path}: {error.message}" for error in asyncapi.iter_errors(COMMITTED)] == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("asyncapi",), "2.6.0"),
        (("operations", "hearClosed", "action"), "hear"),
        (("channels", "closed", "address"), 1),
        (("servers", "bus", "protocol"), None),
        (("components", "messages", "closed", "payload"), "json"),
    ],
    ids=lambda given: ".".join(given) if isinstance(given, tuple) else "",
)
def test_the_schema_finds_what_is_wrong(asyncapi: Draft7Validator, path: tuple[str, ...], value: Any) -> None:
    wrong = deepcopy(asyncapi_document())
    place = wrong
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value

    assert list(asyncapi.iter_errors(wrong)) != []


def test_every_fact_has_a_channel_an_operation_and_a_message() -> None:
    messages = COMMITTED["components"]["messages"]

    assert [channel["address"] for channel in COMMITTED["channels"].values()] == [fact.template for fact in FACTS]
    assert [message["name"] for message in messages.values()] == [fact.type for fact in FACTS]
    assert [operation["channel"]["$ref"] for operation in COMMITTED["operations"].values()] == [f"#/channels/{key}" for key in messages]
    assert [(ROOT / "schemas" / message["payload"]["$ref"]).is_file() for message in messages.values()] == [True] * len(FACTS)


def test_every_reference_within_the_document_leads_somewhere() -> None:
    for reference in references(COMMITTED):
        if reference.startswith("#/"):
            place: Any = COMMITTED
            for step in reference[2:].split("/"):
                place = place[step]
            assert place


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [each for value in node.values() for each in references(value)]
    return [each for value in node for each in references(value)] if isinstance(node, list) else []


@every_example
def test_what_is_sent_has_the_headers_and_the_parameters_that_the_document_tells(example: Fact) -> None:
    key = next(key for key, message in COMMITTED["components"]["messages"].items() if message["name"] == example.type)
    message, channel = COMMITTED["components"]["messages"][key], COMMITTED["channels"][key]
    common, own = message["headers"]["allOf"]
    wire = write(example, "/test", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    body = json.loads(wire.body)

    schema = {"allOf": [COMMITTED["components"]["schemas"][common["$ref"].rpartition("/")[2]], own]}
    assert list(Draft202012Validator(schema).iter_errors(wire.headers)) == []
    assert list(wire.headers) == list(schema["allOf"][0]["properties"])
    assert channel["address"].format_map({name: body[name] for name in channel["parameters"]}) == wire.subject
