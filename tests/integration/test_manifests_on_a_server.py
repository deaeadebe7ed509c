"""A real API server takes the manifests of deploy/, and gives each service exactly the rights that its work needs.

Everything is a dry run but the roles, whose effect is what is asked about.
Kinds that this server does not know are listed below, so that nothing is passed over unseen; `test_manifests` looks at those.
"""

import json
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apiserver import ApiServer
from deployed_story import given, keys
from manifest_story import FEDERATIONS, Manifest, built, built_in, of_kind

UNKNOWN = {
    ("policy/v1", "PodDisruptionBudget"),  # since Kubernetes 1.21
    ("route.openshift.io/v1", "Route"),
    ("keda.sh/v1alpha1", "ScaledObject"),
    ("cert-manager.io/v1", "Certificate"),
    ("cert-manager.io/v1", "Issuer"),
    ("addon.open-cluster-management.io/v1alpha1", "AddOnDeploymentConfig"),  # its definition is not at hand
}
NAMESPACES = ("fedplane", "team")

READ = ("get", "list", "watch")
WRITE = ("create", "update", "patch", "delete", "deletecollection")
FL, CLUSTER, ADDON, WORK = (f"{each}.open-cluster-management.io" for each in ("federation-ai", "cluster", "addon", "work"))
MADE = (*READ, "create", "patch", "delete")

RIGHTS: dict[str, dict[tuple[str, str], tuple[str, ...]]] = {
    "aggregator": {},
    "authorizer": {},
    "nats": {},
    "status": {
        (FL, "federatedlearnings"): READ,
        (FL, "federatedlearnings/status"): ("patch",),
        ("", "events"): ("create", "patch"),
    },
    "scheduler": {
        (FL, "federatedlearnings"): (*READ, "patch"),
        (FL, "federatedlearnings/finalizers"): ("update",),
        (CLUSTER, "managedclusters"): READ,
        (CLUSTER, "managedclustersets"): READ,
        (CLUSTER, "managedclustersetbindings"): READ,
        (CLUSTER, "addonplacementscores"): READ,
        (CLUSTER, "placements"): MADE,
        (CLUSTER, "placements/status"): ("patch",),
        (CLUSTER, "placementdecisions"): MADE,
        (CLUSTER, "placementdecisions/status"): ("patch",),
        (WORK, "manifestworks"): MADE,
        ("batch", "jobs"): (*READ, "create", "delete"),
        ("", "persistentvolumeclaims"): ("create",),
        ("", "nodes"): ("list",),
    },
}
"""What a service's ServiceAccount may do in any namespace. Everything that is not here is refused."""

AT_HOME: dict[str, dict[tuple[str, str], tuple[str, ...]]] = {
    "scheduler": {
        ("", "services"): ("get", "list", "create", "patch", "delete"),
        ("networking.k8s.io", "ingresses"): ("get", "list", "create", "patch", "delete"),
        ("route.openshift.io", "routes"): ("get", "list", "create", "patch", "delete"),
    },
}
"""What it may do besides in the namespace that the bus is in."""

REFUSED_TO_ALL = {
    ("", "secrets"), ("", "configmaps"), ("", "pods"), ("", "pods/exec"), ("", "serviceaccounts/token"), ("", "namespaces"),
    ("", "nodes/proxy"), ("apps", "deployments"), ("coordination.k8s.io", "leases"), ("certificates.k8s.io", "certificatesigningrequests"),
    ("certificates.k8s.io", "certificatesigningrequests/approval"), ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"), ("apiextensions.k8s.io", "customresourcedefinitions"),
    (CLUSTER, "managedclusters/status"), (WORK, "manifestworks/status"), (WORK, "manifestworkreplicasets"),
    (ADDON, "clustermanagementaddons"), (ADDON, "addontemplates"), (ADDON, "managedclusteraddons"),
    ("", "services/status"), ("route.openshift.io", "routes/custom-host"),
}  # fmt: skip


@pytest.fixture(scope="module")
def server(api_server: ApiServer, ocm_crds: dict[str, Manifest]) -> ApiServer:
    """With OCM's kinds, our namespaces, and the roles of deploy/base."""
    api_server.install(ocm_crds)
    for namespace in NAMESPACES:
        apply(api_server, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    for manifest in of_kind("base", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"):
        apply(api_server, manifest)
    return api_server


def apply(server: ApiServer, manifest: Manifest, dry_run: bool = False) -> None:
    """By the server itself: it refuses fields that it does not know."""
    path = f"{address(server, manifest)}?fieldManager=test&force=true{'&dryRun=All' if dry_run else ''}"
    try:
        server.request("PATCH", path, manifest, Content_Type="application/apply-patch+yaml")
    except urllib.error.HTTPError as error:
        pytest.fail(f"{manifest['kind']} {manifest['metadata']['name']}: {json.loads(error.read())['message']}")


def address(server: ApiServer, manifest: Manifest) -> str:
    group = f"/apis/{manifest['apiVersion']}" if "/" in manifest["apiVersion"] else f"/api/{manifest['apiVersion']}"
    (plural,) = [
        each["name"] for each in server.request("GET", group)["resources"] if each["kind"] == manifest["kind"] and "/" not in each["name"]
    ]
    namespace = manifest["metadata"].get("namespace")
    return f"{group}{f'/namespaces/{namespace}' if namespace else ''}/{plural}/{manifest['metadata']['name']}"


@pytest.mark.parametrize(("name", "minimum"), [*((name, 24) for name in FEDERATIONS), ("addon", 6), ("notebook", 4)])
def test_the_server_takes_what_is_built(name: str, minimum: int, server: ApiServer) -> None:
    taken = [each for each in built(name) if (each["apiVersion"], each["kind"]) not in UNKNOWN]

    for manifest in taken:
        apply(server, manifest, dry_run=True)

    assert len(taken) >= minimum


def test_the_server_takes_exporters_beside_the_bus_and_the_way_to_a_collector(server: ApiServer) -> None:
    observed = built_in("namespace: fedplane\nresources: [DEPLOY/base]\ncomponents: [DEPLOY/components/observe]\n")
    changed = [each for each in observed if each not in built("base") and (each["apiVersion"], each["kind"]) not in UNKNOWN]

    for manifest in changed:
        apply(server, manifest, dry_run=True)

    assert {each["kind"] for each in changed} == {"ConfigMap", "Deployment", "NetworkPolicy", "Service", "StatefulSet"}


def test_the_server_takes_the_keys_that_a_person_has_made(server: ApiServer, tmp_path: Path) -> None:
    made = given(keys(tmp_path / "keys"))

    for manifest in made:
        apply(server, manifest, dry_run=True)

    assert [each["kind"] for each in made].count("Secret") == 8


def test_the_server_refuses_what_is_misspelt(server: ApiServer) -> None:
    (deployment, *_) = of_kind("base", "Deployment")

    with pytest.raises(pytest.fail.Exception, match="replcas"):
        apply(server, deployment | {"spec": deployment["spec"] | {"replcas": 2}}, dry_run=True)


def test_the_add_ons_parts_for_a_cluster_are_taken_by_a_cluster(server: ApiServer) -> None:
    (template,) = of_kind("addon", "AddOnTemplate")
    namespace, account = template["spec"]["agentSpec"]["workload"]["manifests"]

    apply(server, namespace)
    apply(server, account, dry_run=True)

    assert (namespace["kind"], account["kind"]) == ("Namespace", "ServiceAccount")


def asked() -> Iterator[tuple[str, str]]:
    yield from sorted({each for rights in (*RIGHTS.values(), *AT_HOME.values()) for each in rights} | REFUSED_TO_ALL)


@pytest.mark.parametrize("role", RIGHTS)
@pytest.mark.parametrize("namespace", NAMESPACES)
def test_a_service_may_do_what_its_work_needs_and_nothing_else(role: str, namespace: str, server: ApiServer) -> None:
    allowed: dict[tuple[str, str], set[str]] = {}
    for group, resource in asked():
        verbs = {verb for verb in (*READ, *WRITE) if is_allowed(server, role, namespace, verb, group, resource)}
        allowed |= {(group, resource): verbs} if verbs else {}

    expected = RIGHTS[role] | (AT_HOME.get(role, {}) if namespace == "fedplane" else {})
    assert allowed == {each: set(verbs) for each, verbs in expected.items()}


def is_allowed(server: ApiServer, role: str, namespace: str, verb: str, group: str, resource: str) -> bool:
    plural, _, subresource = resource.partition("/")
    attributes = {"namespace": namespace, "verb": verb, "group": group, "resource": plural, "subresource": subresource}
    groups = ["system:serviceaccounts", "system:serviceaccounts:fedplane", "system:authenticated"]
    question = {"spec": {"user": f"system:serviceaccount:fedplane:{role}", "groups": groups, "resourceAttributes": attributes}}
    answer: dict[str, Any] = server.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", question)
    allowed: bool = answer["status"]["allowed"]
    return allowed


def test_nobody_has_a_right_to_everything_of_a_kind() -> None:
    rules = [rule for role in of_kind("base", "ClusterRole", "Role") for rule in role["rules"]]

    assert [rule for rule in rules if "*" in (*rule["apiGroups"], *rule["resources"], *rule["verbs"])] == []


def test_the_status_service_writes_a_status_and_not_what_was_asked_for(server: ApiServer) -> None:
    run = {"apiVersion": f"{FL}/v1alpha1", "kind": "FederatedLearning", "metadata": {"name": "mnist", "namespace": "team"}, "spec": {}}
    status = {"status": {"phase": "Running"}}
    finalizer = {"metadata": {"finalizers": ["federated-learning.open-cluster-management.io/resource-cleanup"]}}
    apply(server, run)

    def patch(role: str, body: Manifest, subresource: str = "") -> str:
        said = {"Content_Type": "application/merge-patch+json", "Impersonate_User": f"system:serviceaccount:fedplane:{role}"}
        try:
            server.request("PATCH", address(server, run) + subresource, body, **said)
        except urllib.error.HTTPError as error:
            return error.reason
        return "written"

    assert patch("status", status, "/status") == "written"
    assert patch("status", finalizer) == "Forbidden"
    assert patch("scheduler", status, "/status") == "Forbidden"
    assert patch("scheduler", finalizer) == "written"
    assert patch("aggregator", finalizer) == "Forbidden"
    assert patch("scheduler", {"metadata": {"finalizers": None}}) == "written"
    server.request("DELETE", address(server, run))
