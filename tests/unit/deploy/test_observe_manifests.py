"""The component that lets operators watch a hub's services, and the dashboards' ConfigMap, as `kubectl kustomize` builds them."""

import json

from manifest_story import DEPLOY, Manifest, built, built_in, container, matches
from observed_story import drawing
from sources import ROOT

from fedplane.runtime.settings import TelemetrySettings

OBJECTS = built_in("""
namespace: fedplane
resources: [DEPLOY/overlays/production]
components: [DEPLOY/components/hub, DEPLOY/components/observe]
""")
SERVICES = ("authorizer", "scheduler", "aggregator", "status")


def the(kind: str, name: str) -> Manifest:
    (found,) = (each for each in OBJECTS if each["kind"] == kind and each["metadata"]["name"] in (name, f"{name}-{suffix(each)}"))
    return found


def suffix(manifest: Manifest) -> str:
    return str(manifest["metadata"]["name"].rpartition("-")[2])


def test_every_service_is_told_where_the_collector_is_by_a_variable_that_it_understands() -> None:
    settings = the("ConfigMap", "settings")
    told = {name: value for name, value in settings["data"].items() if name.startswith("OTEL_")}

    assert told.keys() <= {str(field.validation_alias) for field in TelemetrySettings.model_fields.values()}
    assert [TelemetrySettings.model_validate(told).otel_exporter_otlp_endpoint] == [*told.values()]
    for name in SERVICES:
        assert {"configMapRef": {"name": settings["metadata"]["name"]}} in container(the("Deployment", name))["envFrom"]


def rules(direction: str, labels: dict[str, str]) -> list[Manifest]:
    policies = [each["spec"] for each in OBJECTS if each["kind"] == "NetworkPolicy" and matches(each["spec"]["podSelector"], labels)]
    return [rule for policy in policies for rule in policy.get(direction, ())]


def test_services_reach_the_collector_and_prometheus_the_exporter_in_labelled_namespaces_only() -> None:
    watching = [{"namespaceSelector": {"matchLabels": {"fedplane.io/observes": "true"}}}]

    for name in SERVICES:
        labels = the("Deployment", name)["spec"]["template"]["metadata"]["labels"]
        assert {"to": watching, "ports": [{"port": 4318}]} in rules("egress", labels)
    labels = the("StatefulSet", "nats")["spec"]["template"]["metadata"]["labels"]
    assert [rule for rule in rules("ingress", labels) if {"port": 7777} in rule["ports"]] == [{"from": watching, "ports": [{"port": 7777}]}]


def test_each_server_has_an_exporter_that_reads_its_own_monitoring_port() -> None:
    server, _, exporter = the("StatefulSet", "nats")["spec"]["template"]["spec"]["containers"]
    ports = {each["name"]: each["containerPort"] for each in (*server["ports"], *exporter["ports"])}

    assert exporter["args"][-1] == f"http://127.0.0.1:{ports['monitoring']}"
    assert f"-port={ports['metrics']}" in exporter["args"]
    assert exporter["securityContext"] == server["securityContext"]
    assert {"name": "metrics", "port": 7777, "protocol": "TCP", "targetPort": "metrics"} in the("Service", "nats-servers")["spec"]["ports"]
    assert exporter["image"] in (ROOT / "compose.observe.yaml").read_text()


def test_grafanas_sidecar_finds_every_dashboard() -> None:
    (found,) = built("grafana")

    assert found["metadata"]["labels"] == {"grafana_dashboard": "1"}
    assert found["data"] == {path.name: text for path, text in drawing()["files"]().items() if path.parent == DEPLOY / "grafana/dashboards"}
    assert len(json.dumps(found)) < 1_000_000, "what a ConfigMap may have"
