"""The manifests of deploy/ agree with each other and with the code, as `kubectl kustomize` builds them.

Kinds of other people's servers (Route, ScaledObject) are looked at here only: no server that knows them is at hand.
"""

import re
import tomllib
from typing import Any

import pytest
import yaml
from manifest_story import (
    DEPLOY,
    FEDERATIONS,
    built,
    container,
    containers,
    matches,
    may_connect,
    named,
    of_kind,
    references,
    settings_class,
    workloads,
)
from sources import ROOT

from fedplane.cli.accounts import ACCOUNT
from fedplane.runtime.health import Health
from fedplane.runtime.nats.streams import FOLDS_CONSUMER, WORK

ROLES = ("aggregator", "authorizer", "scheduler", "status")
EVERYTHING = (*FEDERATIONS, "addon", "notebook")
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
KEDA = "production, load balancer, KEDA"
CPU = "production, route, CPU"

every_federation = pytest.mark.parametrize("name", FEDERATIONS)
every_role = pytest.mark.parametrize("role", ROLES)


def labels(workload: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = workload["spec"]["template"]["metadata"]["labels"]
    return found


def pod(workload: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = workload["spec"]["template"]["spec"]
    return found


def test_every_file_is_part_of_something_that_is_built() -> None:
    listed = {DEPLOY / "overlays/kind/cluster.yaml", *(DEPLOY / "crds").iterdir(), DEPLOY / "Dockerfile"}
    for kustomization in DEPLOY.rglob("kustomization.yaml"):
        said = yaml.safe_load(kustomization.read_text())
        files = [
            *said.get("resources", ()),
            *(file for each in said.get("configMapGenerator", ()) for file in (*each.get("files", ()), *each.get("envs", ()))),
        ]
        listed |= {kustomization, *(kustomization.parent / file for file in files)}

    listed |= set((DEPLOY / "grafana").rglob("*"))  # see test_dashboards
    listed |= set((DEPLOY / "observe").iterdir()) | set((DEPLOY / "compose").iterdir())  # see test_compose_files
    listed |= set((DEPLOY / "locks").glob("*"))  # what images install

    assert {str(path) for path in DEPLOY.rglob("*") if path.is_file() and path not in listed} == set()


@pytest.mark.parametrize("name", EVERYTHING)
def test_what_is_built_names_each_object_once(name: str) -> None:
    names = [(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in built(name)]

    assert sorted(set(names), key=str) == sorted(names, key=str)


@every_federation
def test_everything_that_lives_in_a_namespace_lives_in_ours(name: str) -> None:
    cluster_wide = {"Namespace", "ClusterRole", "ClusterRoleBinding"}

    assert {each["metadata"].get("namespace") for each in built(name) if each["kind"] not in cluster_wide} == {"fedplane"}


@every_federation
def test_a_selector_selects_the_pods_it_is_written_for(name: str) -> None:
    pods = {each["metadata"]["name"]: labels(each) for each in workloads(name)}

    def selected(selector: dict[str, Any]) -> set[str]:
        return {workload for workload, each in pods.items() if matches(selector, each)}

    for workload in workloads(name):
        own = {workload["metadata"]["name"]}
        assert selected(workload["spec"]["selector"]) == own
        assert [selected(each["labelSelector"]) for each in pod(workload)["topologySpreadConstraints"]] == [own]
    assert {each["metadata"]["name"]: selected(each["spec"]["selector"]) for each in of_kind(name, "PodDisruptionBudget")} == {
        each: {each} for each in pods
    }
    assert [selected({"matchLabels": each["spec"]["selector"]}) for each in of_kind(name, "Service")] == [{"nats"}, {"nats"}]
    assert all(selected(each["spec"]["podSelector"]) for each in of_kind(name, "NetworkPolicy"))


@every_federation
def test_a_service_leads_to_a_port_that_its_pods_have(name: str) -> None:
    ports = {each["name"]: each["containerPort"] for each in container(named(name, "StatefulSet", "nats"))["ports"]}

    for service in of_kind(name, "Service"):
        assert [ports[each["targetPort"]] for each in service["spec"]["ports"]] == [each["port"] for each in service["spec"]["ports"]]


@pytest.mark.parametrize("name", EVERYTHING)
def test_what_is_referred_to_is_there(name: str) -> None:
    accounts = {each["metadata"]["name"] for each in of_kind(name, "ServiceAccount")} | {"addon-manager-controller-sa"}  # OCM's own
    roles = {(each["kind"], each["metadata"]["name"]) for each in of_kind(name, "Role", "ClusterRole")}
    maps = {each["metadata"]["name"] for each in of_kind(name, "ConfigMap")} | {"fedplane-authorities"}  # deploy/keys has that one

    for binding in of_kind(name, "RoleBinding", "ClusterRoleBinding"):
        assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) in roles
        assert {subject["name"] for subject in binding["subjects"]} <= accounts
    for workload in workloads(name):
        assert pod(workload)["serviceAccountName"] in accounts
        assert {each["name"] for key in ("configMapRef", "configMap") for each in references(workload, key)} <= maps


@every_federation
@every_role
def test_a_service_is_told_only_what_its_role_understands(name: str, role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    itself = container(named(name, "Deployment", role))
    maps = {each["metadata"]["name"]: each["data"] for each in of_kind(name, "ConfigMap")}
    told: dict[str, str] = {key: said for each in itself["envFrom"] for key, said in maps[each["configMapRef"]["name"]].items()}
    environment = told | {each["name"]: "pod-0" for each in itself["env"]}
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)

    settings = settings_class(role)()

    assert {f"FEDPLANE_{field.upper()}" for field in settings.model_fields_set} >= set(environment)
    assert (settings.replica, settings.insecure) == ("pod-0", False)


@every_federation
def test_a_service_is_probed_where_it_answers(name: str) -> None:
    health = Health()
    health.is_ready = lambda: True
    port = int(named(name, "ConfigMap", "settings")["data"]["FEDPLANE_HEALTH_PORT"])

    for service in of_kind(name, "Deployment"):
        probes = {probe: container(service)[probe]["httpGet"] for probe in ("livenessProbe", "readinessProbe")}
        assert probes == {"livenessProbe": {"path": "/live", "port": "health"}, "readinessProbe": {"path": "/ready", "port": "health"}}
        assert container(service)["ports"] == [{"name": "health", "containerPort": port, "protocol": "TCP"}]
        assert {health.answer(probe["path"])[0] for probe in probes.values()} == {"200 OK"}


@every_federation
def test_no_container_has_a_privilege(name: str) -> None:
    for workload in workloads(name):
        for each in containers(workload):
            assert each["securityContext"] == {
                "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
            }  # fmt: skip
            assert "limits" in each["resources"]
        assert pod(workload)["securityContext"]["runAsNonRoot"] is True
        assert pod(workload)["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}


def test_pods_run_as_the_user_of_their_image_but_on_openshift_which_chooses_one() -> None:
    user = re.findall(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)[0]

    def users(name: str) -> set[tuple[Any, ...]]:
        contexts = [pod(each)["securityContext"] for each in workloads(name)]
        return {(context.get("runAsUser"), context.get("runAsGroup")) for context in contexts} | {
            (each["fsGroup"],) for each in contexts if "fsGroup" in each
        }

    assert users("base") == {(int(user[0]), int(user[1])), (int(user[1]),)}
    assert users("overlays/openshift") == {(None, None)}


@every_federation
def test_only_who_speaks_to_the_api_server_has_a_token(name: str) -> None:
    tokens = {each["metadata"]["name"]: pod(each)["automountServiceAccountToken"] for each in workloads(name)}

    assert tokens == {"aggregator": False, "authorizer": False, "nats": False, "scheduler": True, "status": True}
    assert {each["automountServiceAccountToken"] for each in of_kind(name, "ServiceAccount")} == {False}


@every_federation
def test_images_are_said_in_one_place_and_are_this_version(name: str) -> None:
    said = {each["name"]: each["newTag"] for each in yaml.safe_load((DEPLOY / "base/kustomization.yaml").read_text())["images"]}
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    bus = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["nats"]["image"]

    assert {each["image"] for workload in workloads(name) for each in containers(workload)} == {
        f"{image}:{tag}" for image, tag in said.items()
    }
    assert said == {**{f"fedplane-{role}": version for role in ROLES}, "nats": bus.removeprefix("nats:")}
    assert named(name, "ConfigMap", "scheduler")["data"]["FEDPLANE_COLLABORATOR_IMAGE"] == f"fedplane-collaborator:{version}"


def test_an_image_of_anothers_registry_is_named_in_one_place() -> None:
    names = [
        line.split("image: ")[1]
        for path in (DEPLOY / "base").glob("*.yaml")
        for line in path.read_text().splitlines()
        if "  image: " in line
    ]

    assert sorted(names) == ["fedplane-aggregator", "fedplane-authorizer", "fedplane-scheduler", "fedplane-status", "nats", "nats"]


@pytest.mark.parametrize(
    ("name", "replicas"),
    {
        "base": {"aggregator": 2, "authorizer": 2, "scheduler": 2, "status": 2, "nats": 1},
        "overlays/kind": {"aggregator": 1, "authorizer": 1, "scheduler": 1, "status": 1, "nats": 1},
        "overlays/production": {"aggregator": 2, "authorizer": 2, "scheduler": 2, "status": 2, "nats": 3},
        KEDA: {"aggregator": None, "authorizer": 2, "scheduler": 2, "status": 2, "nats": 3},
        CPU: {"aggregator": None, "authorizer": 2, "scheduler": 2, "status": 2, "nats": 3},
    }.items(),
)
def test_there_are_as_many_as_was_meant_and_an_autoscaler_has_the_only_say(name: str, replicas: dict[str, int | None]) -> None:
    assert {each["metadata"]["name"]: each["spec"].get("replicas") for each in workloads(name)} == replicas


def test_a_cluster_of_servers_knows_all_its_servers_and_keeps_a_copy_on_each() -> None:
    name = "overlays/production"
    servers = named(name, "StatefulSet", "nats")
    routes = re.findall(r"nats://(\S+)", named(name, "ConfigMap", "nats")["data"]["cluster.conf"])

    assert routes == [f"nats-{each}.{servers['spec']['serviceName']}:6222" for each in range(servers["spec"]["replicas"])]
    assert named(name, "ConfigMap", "settings")["data"]["FEDPLANE_STREAM_REPLICAS"] == str(servers["spec"]["replicas"])
    assert [each["whenUnsatisfiable"] for each in pod(servers)["topologySpreadConstraints"]] == ["DoNotSchedule"]


@every_federation
def test_the_store_fits_its_volume(name: str) -> None:
    (claim,) = named(name, "StatefulSet", "nats")["spec"]["volumeClaimTemplates"]
    (gigabytes,) = re.findall(r"max_file_store: (\d+)GB", named(name, "ConfigMap", "nats")["data"]["nats.conf"])
    gibibytes = claim["spec"]["resources"]["requests"]["storage"].removesuffix("Gi")

    assert int(gigabytes) < int(gibibytes), "nats-server's GB is Kubernetes' Gi"


@every_federation
def test_the_server_is_told_to_cache_less_than_its_container_may_have(name: str) -> None:
    server = container(named(name, "StatefulSet", "nats"))
    (told,) = [each["value"] for each in server["env"] if each["name"] == "GOMEMLIMIT"]
    limit = server["resources"]["limits"]["memory"]

    assert (told[-3:], limit[-2:]) == ("MiB", "Gi")
    assert int(told[:-3]) <= 0.75 * 1024 * int(limit[:-2]), "it takes a twentieth more than it is told"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("base", None),
        ("overlays/production", None),
        ("overlays/kind", "NodePort"),
        ("overlays/nodeport", "NodePort"),
        ("overlays/loadbalancer", "LoadBalancer"),
    ],
)
def test_the_bus_is_reached_from_outside_only_where_that_was_asked_for(name: str, kind: str | None) -> None:
    service = named(name, "Service", "nats")["spec"]

    assert service.get("type") == kind
    assert service["ports"][0].get("nodePort") == (31422 if kind == "NodePort" else None)
    assert may_connect(name, None, labels(named(name, "StatefulSet", "nats")), 4222) == (kind is not None)


def test_the_laptops_cluster_makes_the_node_port_its_own_on_loopback_only() -> None:
    (node,) = yaml.safe_load((DEPLOY / "overlays/kind/cluster.yaml").read_text())["nodes"]

    assert node["extraPortMappings"] == [{"containerPort": 31422, "hostPort": 31422, "listenAddress": "127.0.0.1"}]


def test_a_route_hands_the_greeting_through_to_the_server() -> None:
    route = named("overlays/openshift", "Route", "nats")["spec"]

    assert (route["to"], route["port"]) == ({"kind": "Service", "name": "nats", "weight": 100}, {"targetPort": "nats"})
    assert route["tls"] == {"termination": "passthrough", "insecureEdgeTerminationPolicy": "None"}


ROUTER = {"namespace": {"policy-group.network.openshift.io/ingress": ""}}
AUTOSCALER = {"namespace": {"kubernetes.io/metadata.name": "keda"}}
STRANGER = {
    "namespace": {"kubernetes.io/metadata.name": "default"},
    "app.kubernetes.io/part-of": "fedplane",
    "app.kubernetes.io/name": "scheduler",
}


@every_federation
def test_pods_may_connect_to_what_they_need_and_to_nothing_else(name: str) -> None:
    ours = {each["metadata"]["name"]: labels(each) for each in workloads(name)}
    places = ours | {"outside": None, "a pod that calls itself ours": STRANGER}
    ports = (443, 4222, 6222, 6443, 8080, 8222)
    allowed = {(role, "nats", 4222) for role in ROLES} | {
        (role, "outside", port) for role in ("scheduler", "status") for port in (443, 6443)
    }
    allowed |= {("nats", "nats", 6222)} if "production" in name else set()
    allowed |= {(source, "nats", 4222) for source in ("outside", "a pod that calls itself ours")} if opened(name) else set()

    found = {
        (source, target, port)
        for source, it in places.items()
        for target, that in places.items()
        for port in ports
        if (source in ours or target in ours) and may_connect(name, it, that, port)
    }

    # A policy cannot tell the API server from other addresses, so on its ports a pod may knock anywhere; nobody of ours opens.
    assert {
        each for each in found if each[1:] not in {("a pod that calls itself ours", 443), ("a pod that calls itself ours", 6443)}
    } == allowed


def opened(name: str) -> bool:
    return named(name, "Service", "nats")["spec"].get("type") is not None


@pytest.mark.parametrize(
    ("name", "who", "port", "expected"),
    [
        ("overlays/openshift", ROUTER, 4222, True),
        ("overlays/openshift", AUTOSCALER, 4222, False),
        ("overlays/openshift", ROUTER, 8222, False),
        (KEDA, AUTOSCALER, 8222, True),
        (CPU, AUTOSCALER, 8222, False),
        ("base", ROUTER, 4222, False),
    ],
)
def test_the_bus_opens_to_routers_and_autoscalers_only_where_there_are_any(
    name: str, who: dict[str, Any], port: int, expected: bool
) -> None:
    assert may_connect(name, who, labels(named(name, "StatefulSet", "nats")), port) == expected


@pytest.mark.parametrize(
    ("who", "labelled", "expected"), [("keeper", True, True), ("driver", True, True), ("driver", False, False), ("app", True, False)]
)
def test_the_bus_opens_to_our_jobs_in_namespaces_that_are_labelled(who: str, labelled: bool, expected: bool) -> None:
    namespace = {"fedplane.io/keeps-models": "true"} if labelled else {}
    source = {"namespace": namespace, "app.kubernetes.io/part-of": "fedplane", "app.kubernetes.io/name": who}

    assert may_connect("base", source, labels(named("base", "StatefulSet", "nats")), 4222) == expected


def test_aggregators_are_scaled_by_the_shards_that_wait() -> None:
    spec = named(KEDA, "ScaledObject", "aggregator")["spec"]
    (trigger,) = spec["triggers"]
    endpoint, _, port = trigger["metadata"]["natsServerMonitoringEndpoint"].partition(":")
    service, namespace, _ = endpoint.split(".")
    servers = named(KEDA, "Service", service)

    assert spec["scaleTargetRef"] == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": named(KEDA, "Deployment", "aggregator")["metadata"]["name"],
    }
    assert (trigger["type"], trigger["metadata"]["stream"], trigger["metadata"]["consumer"]) == ("nats-jetstream", WORK, FOLDS_CONSUMER)
    assert (servers["metadata"]["namespace"], servers["spec"]["clusterIP"]) == (namespace, "None")
    assert int(port) in {each["port"] for each in servers["spec"]["ports"]}
    assert trigger["metadata"]["account"] == ACCOUNT
    assert set(trigger["metadata"]) == {"natsServerMonitoringEndpoint", "account", "stream", "consumer", "lagThreshold"}
    assert spec["minReplicaCount"] >= 1, "aggregators also open and close rounds"


def test_aggregators_are_scaled_by_cpu_of_which_they_request_some() -> None:
    spec = named(CPU, "HorizontalPodAutoscaler", "aggregator")["spec"]

    assert spec["scaleTargetRef"]["name"] == named(CPU, "Deployment", "aggregator")["metadata"]["name"]
    assert container(named(CPU, "Deployment", "aggregator"))["resources"]["requests"]["cpu"] == "1"


def test_the_add_on_agrees_with_itself() -> None:
    template = named("addon", "AddOnTemplate", "fedplane-collaborator")["spec"]
    config = named("addon", "AddOnDeploymentConfig", "fedplane-collaborator")
    addon = named("addon", "ClusterManagementAddOn", "fedplane-collaborator")["spec"]
    (registration,) = template["registration"]
    namespace, account = template["agentSpec"]["workload"]["manifests"]

    assert namespace["metadata"]["name"] == account["metadata"]["namespace"] == config["spec"]["agentInstallNamespace"]
    assert {(each["resource"], each["defaultConfig"]["name"]) for each in addon["supportedConfigs"]} == {
        ("addontemplates", template["addonName"]),
        ("addondeploymentconfigs", config["metadata"]["name"]),
    }
    placement = named("addon", "Placement", "fedplane-collaborator")
    assert addon["installStrategy"]["placements"][0]["namespace"] == placement["metadata"]["namespace"] == config["metadata"]["namespace"]
    assert {each["spec"]["clusterSet"] for each in of_kind("addon", "ManagedClusterSetBinding")} == set(placement["spec"]["clusterSets"])
    assert {each["metadata"]["name"] == each["spec"]["clusterSet"] for each in of_kind("addon", "ManagedClusterSetBinding")} == {True}
    assert "subject" not in registration["customSigner"], "it would be the same for all clusters"


def test_the_add_on_manager_may_read_the_authority_and_no_other_secret() -> None:
    (registration,) = named("addon", "AddOnTemplate", "fedplane-collaborator")["spec"]["registration"]
    authority = registration["customSigner"]["signingCA"]
    role = named("addon", "Role", "sign-collaborators")

    assert role["metadata"]["namespace"] == authority["namespace"]
    assert role["rules"] == [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": [authority["name"]], "verbs": ["get"]}]
