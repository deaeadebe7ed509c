"""Who has which key: the Secrets that pods mount are those that `fedplane access init` or cert-manager makes, each pod's its own.

What servers and services do with them is tried in `test_deployed_bus`.
"""

import re
from typing import Any

import pytest
import yaml
from manifest_story import DEPLOY, FEDERATIONS, container, containers, named, of_kind, workloads

from fedplane.authorizer.certificates import Certificate
from fedplane.authorizer.identity import Identity, Refused, Trust, identify
from fedplane.schemas.roles import Role

ROLES = ("aggregator", "authorizer", "scheduler", "status")
CERT_MANAGER = "production, load balancer, KEDA"
"""The combination that has the component `certificates`."""

every_federation = pytest.mark.parametrize("name", FEDERATIONS)
every_role = pytest.mark.parametrize("role", ROLES)


def pod(workload: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = workload["spec"]["template"]["spec"]
    return found


KEYS: dict[str, Any] = yaml.safe_load((DEPLOY / "keys/kustomization.yaml").read_text())


def files_of_keys() -> dict[str, set[str]]:
    """The ConfigMap and the Secrets that somebody's keys become, each with its files."""
    return {
        each["name"]: {file.partition("=")[0] for file in each["files"]} for each in (*KEYS["configMapGenerator"], *KEYS["secretGenerator"])
    }


def mounted(workload: dict[str, Any]) -> dict[str, set[str] | None]:
    """Which files of which Secrets, and of which authorities, a pod's volumes have; None is all of them."""
    sources = [each for volume in pod(workload)["volumes"] for each in volume.get("projected", {}).get("sources", [volume])]
    found = [each.get("secret") or each.get("configMap") or {} for each in sources]
    named = {each.get("secretName") or each.get("name"): each.get("items") for each in found}
    return {name: items and {item["key"] for item in items} for name, items in named.items() if name and name.startswith("fedplane-")}


@every_federation
def test_pods_mount_files_of_the_keys_that_a_person_has_made(name: str) -> None:
    there = files_of_keys()

    for workload in workloads(name):
        for held, files in mounted(workload).items():
            assert (files or set()) <= there[held]
    assert {held for workload in workloads(name) for held in mounted(workload)} | {"collaborator-ca"} == there.keys()


@every_federation
def test_each_sees_its_own_certificate_and_only_the_authorizer_what_signs_rights(name: str) -> None:
    for workload in workloads(name):
        it, held = workload["metadata"]["name"], mounted(workload)
        assert {each for each in held if each.endswith("-tls")} == {f"fedplane-{it}-tls"}
        secrets = held.get("fedplane-callout", set())
        expected = {"nats": {"callout.conf"}, "authorizer": {"callout.seed", "callout.password", "system.password"}}
        assert secrets == expected.get(it, set())


@every_federation
def test_only_aggregators_have_what_noise_is_drawn_from_where_their_settings_say(name: str) -> None:
    itself = named(name, "Deployment", "aggregator")
    (volume,) = [each for each in pod(itself)["volumes"] if each.get("secret", {}).get("secretName") == "fedplane-noise"]
    mounts = {each["name"]: each["mountPath"] for each in container(itself)["volumeMounts"]}
    (item,) = volume["secret"]["items"]
    told = {key: said for each in of_kind(name, "ConfigMap") for key, said in each["data"].items()}

    assert [workload["metadata"]["name"] for workload in workloads(name) if "fedplane-noise" in mounted(workload)] == ["aggregator"]
    assert told["FEDPLANE_NOISE_SECRET"] == f"{mounts[volume['name']]}/{item['path']}"


@every_federation
@every_role
def test_a_service_finds_its_credentials_where_its_settings_say(name: str, role: str) -> None:
    itself = named(name, "Deployment", role)
    told = {key: said for each in of_kind(name, "ConfigMap") for key, said in each["data"].items() if key.startswith("FEDPLANE_")}
    mounts = {each["name"]: each["mountPath"] for each in container(itself)["volumeMounts"]}
    (volume,) = [each for each in pod(itself)["volumes"] if each["name"] == "credentials"]
    paths = {item["path"] for source in volume["projected"]["sources"] for each in source.values() for item in each["items"]}

    wanted = [f"FEDPLANE_TLS_{what}" for what in ("CERTIFICATE", "KEY", "AUTHORITY")]
    wanted += ["FEDPLANE_CLUSTERS_AUTHORITY"] if role == "scheduler" else []
    assert {f"{mounts['credentials']}/{path}" for path in paths} == {told[variable] for variable in wanted}
    assert all(told[variable].startswith("tls://") for variable in ("FEDPLANE_NATS_URL", "FEDPLANE_INSIDE_URL"))


def test_cert_manager_makes_the_certificates_that_pods_mount_in_the_names_that_the_authorizer_lets_in() -> None:
    certificates = {each["metadata"]["name"]: each["spec"] for each in of_kind(CERT_MANAGER, "Certificate")}
    (issuer,) = of_kind(CERT_MANAGER, "Issuer")
    nats = certificates.pop("nats")
    routes = re.findall(r"nats://([^:]+):6222", named(CERT_MANAGER, "ConfigMap", "nats")["data"]["cluster.conf"])
    maps, variables = of_kind(CERT_MANAGER, "ConfigMap"), ("FEDPLANE_NATS_URL", "FEDPLANE_INSIDE_URL")
    urls = [each["data"][name] for each in maps for name in variables if name in each["data"]]
    inside = {re.sub("tls://|:4222", "", url) for url in urls}
    trust = Trust("", frozenset(), frozenset({"ours"}))

    assert {name: spec["secretName"] for name, spec in certificates.items()} == {role: f"fedplane-{role}-tls" for role in ROLES}
    for role, spec in certificates.items():
        chain = [Certificate((spec["commonName"],), frozenset(), ""), Certificate(("authority",), frozenset(), "ours")]
        assert identify(chain, trust) == Identity(Role(role), role)
        assert "client auth" in spec["usages"]
    assert {*routes, *inside, "nats"} <= set(nats["dnsNames"])
    assert {"server auth", "client auth"} <= set(nats["usages"]), "servers connect to each other"
    assert isinstance(identify([Certificate((nats["commonName"],), frozenset(), ""), chain[1]], trust), Refused)
    for spec in (nats, *certificates.values()):
        assert spec["issuerRef"] == {"name": issuer["metadata"]["name"], "kind": "Issuer"}
        assert int(spec["renewBefore"][:-1]) * 3 == int(spec["duration"][:-1])


@every_federation
def test_a_server_asks_for_certificates_and_has_its_own_where_the_configuration_says(name: str) -> None:
    servers = named(name, "StatefulSet", "nats")
    configuration = named(name, "ConfigMap", "nats")["data"]
    mounts = {each["mountPath"] for each in container(servers)["volumeMounts"]}
    files = {file for text in configuration.values() for file in re.findall(r"_file: (\S+)", text)}
    _, reloader, *_ = containers(servers)

    assert re.search(r"^tls {.*^  verify: true$.*^  handshake_first: 500ms", configuration["nats.conf"], re.DOTALL | re.MULTILINE)
    assert {file.rpartition("/")[0] for file in files} <= mounts
    assert files <= {*reloader["args"]}, "what is read has to be read anew"
    assert reloader["command"][-1] == container(servers)["command"][-1], "the server's process id"
    assert {each["name"] for each in reloader["volumeMounts"]} == {each["name"] for each in container(servers)["volumeMounts"]} - {"data"}
    assert pod(servers)["shareProcessNamespace"] is True
