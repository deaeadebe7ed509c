"""Our CustomResourceDefinition on a real API server: it serves whatever upstream's serves, and what is ours on top."""

import json
import urllib.error
import uuid
from typing import Any

import pytest
import yaml
from apiserver import DEFINITIONS, Server
from upstream_story import SAMPLES

from fedplane.schemas.crd import CRD_NAME
from fedplane.schemas.resources import API_VERSION, FederatedLearning

PATH = f"/apis/{API_VERSION}/namespaces/default/federatedlearnings"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"

PLACEMENT = """
server:
  listeners: [{port: 8080, type: LoadBalancer}, {type: Route, ip: 10.0.0.1}]
client:
  placement:
    numberOfClusters: 3
    prioritizerPolicy:
      configurations:
      - {scoreCoordinate: {type: AddOn, addOn: {resourceName: r, scoreName: s}}, weight: -2}
      - {scoreCoordinate: {builtIn: Steady}}
    spreadPolicy: {spreadConstraints: [{topologyKey: region, topologyKeyType: Claim}]}
    tolerations: [{key: gpu, operator: Exists}, {key: zone, value: a, effect: NoSelect, tolerationSeconds: 60}, {}]
    decisionStrategy:
      groupStrategy:
        decisionGroups: [{groupName: g-1, groupClusterSelector: {labelSelector: {matchLabels: {a: b}}}}]
"""

ASKED = {**SAMPLES, "placement": yaml.safe_load(PLACEMENT), "an empty spec": {}}

OURS = """
framework: flower
server: {rounds: 5, minAvailableClients: 2}
client:
  image: registry/app:1
  placement:
    predicates:
    - requiredClusterSelector:
        celSelector: {celExpressions: ['managedCluster.status.allocatable["nvidia.com/gpu"] != "0"']}
  template:
    env: [{name: LEVEL, value: debug}, {name: TOKEN, valueFrom: {secretKeyRef: {name: s, key: k}}}]
    data: {source: PersistentVolumeClaim, mountPath: /data, readOnly: true}
    imagePullSecrets: [{name: registry}]
    perCluster:
      hospital-a: {image: registry/app:arm, resources: {requests: {cpu: 500m}}, env: [{name: LEVEL, value: info}]}
strategy: {name: fedprox, parameters: {mu: 0.1}}
rounds: {deadlineSeconds: 90.5, invite: 4, quorum: 2, closeAt: 3, keep: best, stop: {metric: accuracy, mode: max, target: 0.9}}
data: {claim: images, requiredClaims: [consent]}
resources: {requests: {cpu: "2", memory: 4Gi, nvidia.com/gpu: "1"}, limits: {nvidia.com/gpu: "1"}}
weights: {cpu: 0.5, data-locality: 2.0}
config: {lr: 0.1, epochs: 2, fast: true, layers: [8, 16], optimizer: sgd}
"""

STATUS: dict[str, Any] = {
    "phase": "Running",
    "message": "round 2 of 5",
    "listeners": [{"name": "listener(service):a-server", "type": "NodePort", "address": "172.18.0.2:31166", "port": 31166}],
    "observedGeneration": 1,
    "conditions": [{"type": "Running", "status": "True", "reason": "Started", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    "run": "a-5f3a9c1e",
    "round": 2,
    "rounds": [
        {
            "round": 3, "task": "train", "trainingRound": 2, "state": "Open", "invited": 3, "answered": 1, "declined": 0, "rejected": 0,
            "openedAt": "2026-01-01T00:00:00Z", "metrics": {"loss": 0.25},
        }
    ],
    "participating": 3,
    "participants": [{"cluster": "a", "score": 1.5, "terms": [{"criterion": "cpu", "score": 0.5, "weight": 3}]}],
    "refused": [{"cluster": "b", "reason": "cpu", "message": "advertises 1 CPU, the run asks for 2"}],
    "metrics": {"accuracy": 0.875, "loss": 0.25},
    "model": {"round": 1, "location": "bulk.model.x", "digest": "0" * 64, "bytes": 12},
}  # fmt: skip


def a_run(spec: Any, name: str | None = None, **parts: Any) -> dict[str, Any]:
    head = {"apiVersion": API_VERSION, "kind": "FederatedLearning", "metadata": {"name": name or f"run-{uuid.uuid4().hex[:8]}"}}
    return {**head, "spec": spec, **parts}


def refusal(server: Server, spec: Any) -> str:
    with pytest.raises(urllib.error.HTTPError) as refused:
        server.request("POST", PATH, a_run(spec))
    assert refused.value.code == 422
    message: str = json.load(refused.value)["message"]
    return message


@pytest.fixture(scope="module")
def upstream_server(kubernetes_server: Server, ocm_crds: dict[str, Any]) -> str:
    """Upstream's definition beside ours, under a group of its own; the path of its objects."""
    definition = json.loads(json.dumps(ocm_crds[CRD_NAME]).replace("federation-ai.open-cluster-management.io", "upstream.example.com"))
    kubernetes_server.install({definition["metadata"]["name"]: definition})
    return "/apis/upstream.example.com/v1alpha1/namespaces/default/federatedlearnings"


def on_upstream(server: Server, path: str, spec: Any) -> Any:
    return server.request("POST", path, {**a_run(spec), "apiVersion": "upstream.example.com/v1alpha1"})["spec"]


@pytest.mark.parametrize("spec", ASKED.values(), ids=ASKED)
def test_an_upstream_resource_is_stored_as_upstream_stores_it(kubernetes_server: Server, upstream_server: str, spec: Any) -> None:
    assert kubernetes_server.request("POST", PATH, a_run(spec))["spec"] == on_upstream(kubernetes_server, upstream_server, spec)


def test_what_neither_knows_is_dropped_as_upstream_does_but_kept_in_a_placement(kubernetes_server: Server, upstream_server: str) -> None:
    spec = {"novelty": 1, "server": {"image": "x", "novelty": 1}, "client": {"novelty": 1, "placement": {"sortBy": "Score"}}}

    ours = kubernetes_server.request("POST", PATH, a_run(spec))["spec"]
    theirs = on_upstream(kubernetes_server, upstream_server, spec)

    assert ours == {**theirs, "client": {**theirs["client"], "placement": {"sortBy": "Score"}}}
    assert theirs["client"]["placement"] == {}


def test_what_is_ours_is_stored_whole_and_read_back_as_it_was_asked(kubernetes_server: Server) -> None:
    spec = yaml.safe_load(OURS)
    asked = FederatedLearning.model_validate(a_run(spec, "ours"))

    stored = kubernetes_server.request("POST", PATH, asked.model_dump(mode="json", by_alias=True, exclude_unset=True))
    read = FederatedLearning.model_validate(stored)

    assert read.spec == asked.spec
    assert read.metadata.uid == stored["metadata"]["uid"]
    dumped = read.model_dump(mode="json", by_alias=True, exclude_unset=True)["spec"]
    assert dumped == stored["spec"]


REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "no rounds": ({"server": {"rounds": 0}}, "spec.server.rounds: Invalid value: 0"),
    "nobody to train": ({"server": {"minAvailableClients": 0}}, "spec.server.minAvailableClients: Invalid value: 0"),
    "an unknown framework": (
        {"framework": "magic"},
        'spec.framework: Unsupported value: "magic": supported values: "flower", "openfl", "other"',
    ),
    "an impossible quantity": ({"resources": {"requests": {"cpu": "two"}}}, 'spec.resources.requests.cpu: Invalid value: "two"'),
    "an impossible number of GPUs": ({"resources": {"limits": {"nvidia.com/gpu": "1x"}}}, "spec.resources.limits.nvidia.com/gpu: Invalid"),
    "a bucket without a name": ({"server": {"storage": {"s3": {}}}}, "spec.server.storage.s3.bucketName: Required value"),
    "a deadline of no time": ({"rounds": {"deadlineSeconds": 0}}, "spec.rounds.deadlineSeconds: Invalid value: 0"),
    "a word for a number": ({"server": {"rounds": "many"}}, "spec.server.rounds: Invalid value: \"string\""),
    "a weight beyond the scale": (
        {"client": {"placement": {"prioritizerPolicy": {"configurations": [{"scoreCoordinate": {"type": "BuiltIn"}, "weight": 11}]}}}},
        "spec.client.placement.prioritizerPolicy.configurations.weight: Invalid value: 11",
    ),
    "a mount that is no path": ({"client": {"template": {"data": {"mountPath": "x"}}}}, "spec.client.template.data.mountPath: Invalid"),
}  # fmt: skip


@pytest.mark.parametrize(("spec", "said"), REFUSALS.values(), ids=REFUSALS)
def test_a_bad_value_is_refused_with_its_path(kubernetes_server: Server, spec: dict[str, Any], said: str) -> None:
    assert said in refusal(kubernetes_server, spec)


def test_the_status_is_written_apart_and_stored_whole(kubernetes_server: Server) -> None:
    made = kubernetes_server.request("POST", PATH, a_run({}, "shown", status=STATUS))
    assert "status" not in made

    shown = kubernetes_server.request("PUT", f"{PATH}/shown/status", {**made, "spec": {"server": {"rounds": 9}}, "status": STATUS})

    assert shown["status"] == STATUS
    assert shown["spec"] == made["spec"]
    assert shown["metadata"]["generation"] == 1


def test_a_status_without_a_phase_waits_as_upstreams_does(kubernetes_server: Server) -> None:
    made = kubernetes_server.request("POST", PATH, a_run({}, "waits"))

    assert kubernetes_server.request("PUT", f"{PATH}/waits/status", {**made, "status": {}})["status"] == {"phase": "Waiting"}


def test_the_columns_are_upstreams_and_ours(kubernetes_server: Server) -> None:
    made = kubernetes_server.request("POST", PATH, a_run({}, "listed"))
    kubernetes_server.request("PUT", f"{PATH}/listed/status", {**made, "status": STATUS})

    table = kubernetes_server.request("GET", f"{PATH}/listed", accept=TABLE)

    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Phase", "Round", "Participants", "Accuracy", "Age"]
    assert table["rows"][0]["cells"][:5] == ["listed", "Running", 2, 3, 0.875]


def test_the_server_takes_the_definition_with_rules_that_it_may_not_know(kubernetes_server: Server) -> None:
    stored = kubernetes_server.request("GET", f"{DEFINITIONS}/{CRD_NAME}")

    conditions = {condition["type"]: condition["status"] for condition in stored["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}  # NonStructuralSchema would be the third
    assert stored["spec"]["names"]["shortNames"] == ["fl"]
