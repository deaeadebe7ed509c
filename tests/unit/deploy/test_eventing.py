"""The files for Knative and Argo Events name facts that there are, fields that these APIs have, and arguments that fedplane takes.

The fields are from the references of `sources.knative.dev/v1`, `eventing.knative.dev/v1` and `argoproj.io/v1alpha1`; no cluster is needed.
"""

import re
from typing import Any

import pytest
import typer
import yaml
from sources import ROOT

from fedplane.cli.main import app
from fedplane.schemas.examples import EXAMPLES
from fedplane.schemas.facts import ALL_ROUNDS_DONE, Completed, fact_type
from fedplane.schemas.patterns import facts_named, facts_under

DOCUMENTS = {
    (body["kind"], body["metadata"]["name"]): body
    for name in ("knative.yaml", "argo.yaml")
    for body in yaml.safe_load_all((ROOT / "examples/11-eventing" / name).read_text())
}
FIELDS: dict[str, tuple[str, dict[str, set[str]]]] = {
    "Broker": ("eventing.knative.dev/v1", {"": set()}),
    "ContainerSource": ("sources.knative.dev/v1", {"": {"template", "sink"}, "sink": {"ref"}, "sink.ref": {"apiVersion", "kind", "name"}}),
    "Trigger": (
        "eventing.knative.dev/v1",
        {"": {"broker", "subscriber", "filter"}, "filter": {"attributes"}, "subscriber.ref": {"apiVersion", "kind", "name"}},
    ),
    "EventSource": (
        "argoproj.io/v1alpha1",
        {"": {"nats"}, "nats.completed": {"url", "tls", "subject", "jsonBody", "connectionBackoff"},
         "nats.completed.connectionBackoff": {"duration", "steps", "factor"},
         "nats.completed.tls": {"caCertSecret", "clientCertSecret", "clientKeySecret"}},
    ),
    "Sensor": (
        "argoproj.io/v1alpha1",
        {"": {"template", "dependencies", "triggers"}, "template": {"serviceAccountName"},
         "dependencies.0": {"name", "eventSourceName", "eventName", "filters"}, "dependencies.0.filters.data.0": {"path", "type", "value"},
         "triggers.0.template": {"name", "k8s"}, "triggers.0.template.k8s": {"operation", "source", "parameters"},
         "triggers.0.template.k8s.parameters.0": {"src", "dest"},
         "triggers.0.template.k8s.parameters.0.src": {"dependencyName", "dataKey"}},
    ),
}  # fmt: skip
"""For each kind its version, and at some places below `spec` the fields that the API has and we use."""


def at(body: Any, path: str) -> Any:
    for step in filter(None, path.split(".")):
        body = body[int(step)] if isinstance(body, list) else body.get(step, {})
    return body


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=["/".join(key) for key in DOCUMENTS])
def test_a_document_has_the_version_and_the_fields_of_its_kind(document: dict[str, Any]) -> None:
    version, places = FIELDS[document["kind"]]

    assert document["apiVersion"] == version
    assert {path: set(at(document.get("spec", {}), path)) for path in places} == places


def test_the_trigger_waits_for_an_event_that_the_source_forwards() -> None:
    trigger = DOCUMENTS["Trigger", "test-new-models"]["spec"]
    container = DOCUMENTS["ContainerSource", "fedplane-facts"]["spec"]["template"]["spec"]["containers"][0]
    forwarded = {fact for word in container["args"] if word.startswith("--type=") for fact in facts_named(word.partition("=")[2])}

    assert fact_type(trigger["filter"]["attributes"]["type"]) in forwarded
    assert len(forwarded) == sum(word.startswith("--type=") for word in container["args"])
    assert ("Broker", trigger["broker"]) in DOCUMENTS
    assert DOCUMENTS["ContainerSource", "fedplane-facts"]["spec"]["sink"]["ref"]["name"] == trigger["broker"]


def test_fedplane_understands_what_the_source_tells_it() -> None:
    container = DOCUMENTS["ContainerSource", "fedplane-facts"]["spec"]["template"]["spec"]["containers"][0]
    (program,), (name, *words) = container["command"], container["args"]
    command: Any = typer.main.get_command(app)

    taken = command.commands[name].make_context(name, [word.replace("$(K_SINK)", "http://broker") for word in words])

    assert (program, taken.params["address"], taken.params["name"]) == ("fedplane", "http://broker", "knative")
    assert [variable["name"] for variable in container["env"]] == ["FEDPLANE_NATS_URL", "FEDPLANE_CREDENTIALS"]


def test_argo_subscribes_to_subjects_of_facts_and_reads_fields_that_they_have() -> None:
    events = DOCUMENTS["EventSource", "fedplane"]["spec"]["nats"]
    sensor = DOCUMENTS["Sensor", "test-new-models"]["spec"]
    (dependency,), (trigger,) = sensor["dependencies"], sensor["triggers"]
    (heard,) = facts_under(events[dependency["eventName"]]["subject"])
    (chosen,), (parameter,) = dependency["filters"]["data"], trigger["template"]["k8s"]["parameters"]
    completed = next(example for example in EXAMPLES if isinstance(example, Completed))

    assert [len(facts_under(event["subject"])) for event in events.values()] == [1, 1]
    assert all(f"--subscribe '{event['subject']}'" in (ROOT / "examples/11-eventing/argo.yaml").read_text() for event in events.values())
    assert (heard, dependency["eventSourceName"]) == (Completed, "fedplane")
    assert (chosen["path"], chosen["value"]) == ("body.reason", [ALL_ROUNDS_DONE])
    assert completed.reason == ALL_ROUNDS_DONE
    assert (parameter["src"], hasattr(completed, "run")) == ({"dependencyName": dependency["name"], "dataKey": "body.run"}, True)
    assert at(trigger["template"]["k8s"]["source"]["resource"], parameter["dest"]) == "run"


def test_every_type_and_subject_that_the_page_or_the_files_name_is_there() -> None:
    text = "".join((ROOT / "examples/11-eventing" / name).read_text() for name in ("README.md", "knative.yaml", "argo.yaml"))

    named = set(re.findall(r"io\.fedplane\.[a-z.]+\.v\d", text)), set(re.findall(r"fed\.v1\.[\w.*>{}]+", text))

    assert all(fact_type(type_) for type_ in named[0])
    assert all(facts_under(subject) for subject in named[1])
