"""The component that forwards facts to a webhook, as `kubectl kustomize` builds it."""

import tomllib
from typing import Any

import typer
from manifest_story import Manifest, built_in, container, matches
from sources import ROOT

from fedplane.cli.main import app

COMMANDS: Any = typer.main.get_command(app)
OBJECTS = built_in("""
namespace: fedplane
resources: [DEPLOY/overlays/production]
components: [DEPLOY/components/forwarder]
""")


def the(kind: str, name: str) -> Manifest:
    (found,) = (each for each in OBJECTS if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return found


def labels(kind: str, name: str) -> dict[str, str]:
    found: dict[str, str] = the(kind, name)["spec"]["template"]["metadata"]["labels"]
    return found


def test_fedplane_understands_what_the_pod_is_told() -> None:
    told = container(the("Deployment", "forwarder"))
    variables = {each["name"] for each in told["env"]}

    *_, name = told["command"]
    context = COMMANDS.commands[name].make_context(name, list(told["args"]))

    assert (told["command"][:3], context.params["name"]) == (["python", "-m", "fedplane.cli.main"], "webhook")
    assert {option.envvar for option in COMMANDS.commands[name].params if option.name in ("address", "url", "credentials")} == variables


def test_its_secrets_are_in_no_list_of_processes() -> None:
    pod = the("Deployment", "forwarder")["spec"]["template"]["spec"]
    told = container(the("Deployment", "forwarder"))
    sources = {each["name"]: each.get("valueFrom") for each in told["env"]}

    assert sources["FEDPLANE_FORWARD_TO"] == {"secretKeyRef": {"name": "webhook", "key": "address"}}
    secrets = {each["name"]: each["secret"] for each in pod["volumes"]}
    files = {f"{each['mountPath']}/{secrets[each['name']]['items'][0]['path']}": secrets[each["name"]] for each in told["volumeMounts"]}
    assert {path: secret["secretName"] for path, secret in files.items()} == {
        "/secret/authorization": "webhook", "/credentials/credentials.pem": "fedplane-forwarder",
    }  # fmt: skip
    assert "Authorization=/secret/authorization" in told["args"]
    assert {"name": "FEDPLANE_CREDENTIALS", "value": "/credentials/credentials.pem"} in told["env"]


def test_there_is_one_at_a_time_without_a_privilege_or_a_token() -> None:
    workload = the("Deployment", "forwarder")["spec"]
    pod = workload["template"]["spec"]
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

    assert (workload["replicas"], workload["strategy"]) == (1, {"type": "Recreate"})
    assert (container(the("Deployment", "forwarder"))["image"], pod["automountServiceAccountToken"]) == (f"fedplane-cli:{version}", False)
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container(the("Deployment", "forwarder"))["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip


def test_the_bus_lets_it_in_and_it_reaches_nothing_else_inside() -> None:
    forwarder, nats = labels("Deployment", "forwarder"), labels("StatefulSet", "nats")
    policies = [each["spec"] for each in OBJECTS if each["kind"] == "NetworkPolicy"]
    out = [rule for each in policies if matches(each["podSelector"], forwarder) for rule in each.get("egress", ())]
    into = [rule for each in policies if matches(each["podSelector"], nats) for rule in each.get("ingress", ())]

    places = {(str(rule.get("to")), port["port"]) for rule in out for port in rule["ports"]}
    bus = str([{"podSelector": {"matchLabels": nats}}])
    assert {port for place, port in places if place == "None"} == {443}
    assert {port for place, port in places if place == bus} == {4222}
    assert {port for place, port in places if place not in ("None", bus)} == {53, 5353}, "names"
    assert {"from": [{"podSelector": {"matchLabels": forwarder}}], "ports": [{"port": 4222}]} in into
