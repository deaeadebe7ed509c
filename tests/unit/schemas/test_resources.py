"""What a user may ask for: upstream's resources unchanged, ours on top, and nothing misspelt."""

from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from upstream_story import SAMPLES

from fedplane.schemas.resources import API_VERSION, IGNORE_UNKNOWN, FederatedLearning, explain_invalid

HEAD = """
apiVersion: federation-ai.open-cluster-management.io/v1alpha1
kind: FederatedLearning
metadata: {name: federated-learning-sample}
"""


def resource(spec: Any = None, **metadata: Any) -> FederatedLearning:
    head = yaml.safe_load(HEAD)
    return FederatedLearning.model_validate(head | {"metadata": head["metadata"] | metadata} | ({} if spec is None else {"spec": spec}))


def refusal(spec: Any, **metadata: Any) -> str:
    with pytest.raises(ValidationError) as refused:
        resource(spec, **metadata)
    return explain_invalid(refused.value)


@pytest.mark.parametrize("spec", SAMPLES.values(), ids=SAMPLES)
def test_an_upstream_sample_is_accepted_and_written_as_it_was(spec: Any) -> None:
    sidecar = {"federated-learning.io/sidecar-image": "quay.io/open-cluster-management/federated-learning-sidecar:latest"}
    head = yaml.safe_load(HEAD)
    sample = {**head, "metadata": {**head["metadata"], "annotations": sidecar}, "spec": spec}

    accepted = FederatedLearning.model_validate(sample)

    written = accepted.model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert written == sample


def test_what_is_left_out_has_upstreams_defaults_and_ours() -> None:
    assert resource().model_dump(mode="json", by_alias=True, exclude_none=True) == {
        "apiVersion": API_VERSION,
        "kind": "FederatedLearning",
        "metadata": {"name": "federated-learning-sample", "namespace": "default", "uid": "", "generation": 1, "annotations": {}},
        "spec": {
            "framework": "other",
            "server": {
                "image": "", "rounds": 3, "minAvailableClients": 1, "listeners": [], "initialModel": "",
                "superlink": "superlink.flower-system:9091",
            },
            "client": {
                "image": "", "placement": {"clusterSets": [], "predicates": [], "tolerations": []}, "placementRef": "",
                "supernode": "flower-supernode.flower-addon:9094",
                "template": {"env": [], "imagePullSecrets": [], "perCluster": {}},
            },
            "strategy": {"name": "fedavg", "parameters": {}},
            "fold": False,
            "rounds": {"deadlineSeconds": 600.0, "attempts": 3, "evaluate": True, "seed": 0, "carry": 0, "keep": "last", "checkpoints": 1},
            "data": {"claim": "", "requiredClaims": []},
            "privacy": {},
            "resources": {"requests": {"cpu": "0", "memory": "0"}, "limits": {}},
            "weights": {},
            "config": {},
        },
    }  # fmt: skip


REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "a misspelt part": ({"servr": {}}, "spec.servr: is not a field of this resource"),
    "a misspelt field": ({"server": {"round": 3}}, "spec.server.round: is not a field of this resource"),
    "no rounds": ({"server": {"rounds": 0}}, "spec.server.rounds: Input should be greater than or equal to 1 (got 0)"),
    "a word for a number": (
        {"server": {"rounds": "many"}},
        "spec.server.rounds: Input should be a valid integer, unable to parse string as an integer (got 'many')",
    ),
    "a quantity below nothing": (
        {"resources": {"requests": {"nvidia.com/gpu": "-1"}}},
        "spec.resources.requests.nvidia.com/gpu: '-1' is less than nothing (got '-1')",
    ),
    "a limit below the request": (
        {"resources": {"requests": {"memory": "8Gi"}, "limits": {"cpu": 1, "memory": "1Gi"}}},
        "spec.resources: the limit of memory is 1Gi and the request 8Gi; a limit is at least the request",
    ),
    "a mount that is no path": (
        {"client": {"template": {"data": {"mountPath": "data"}}}},
        "spec.client.template.data.mountPath: String should match pattern '^/' (got 'data')",
    ),
    "a quantity that is none": (
        {"resources": {"requests": {"cpu": "two"}}},
        "spec.resources.requests.cpu: 'two' is no Kubernetes quantity; write it like 500m, 2, 8Gi or 1e3 (got 'two')",
    ),
    "an operator that is none": (
        {"client": {"placement": {"predicates": [
            {"requiredClusterSelector": {"claimSelector": {"matchExpressions": [{"key": "gpu", "operator": "Is"}]}}}
        ]}}},
        "spec.client.placement.predicates.0.requiredClusterSelector.claimSelector.matchExpressions.0.operator: "
        "Input should be 'In', 'NotIn', 'Exists' or 'DoesNotExist' (got 'Is')",
    ),
    "a nested configuration": (
        {"config": {"optimizer": {"name": "sgd"}}},
        "spec.config.optimizer: must be true or false, a finite number, a text, or a list of those",
    ),
    "an infinite weight": ({"weights": {"cpu": float("inf")}}, "spec.weights.cpu: Input should be a finite number (got inf)"),
    "a bucket without a name": ({"server": {"storage": {"s3": {}}}}, "spec.server.storage.s3.bucketName: Field required"),
    "a file to start from": (
        {"server": {"initialModel": "./m"}},
        "spec.server.initialModel: String should match pattern '^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$' (got './m')",
    ),
    "a list for a part": ({"server": []}, "spec.server: Input should be a valid dictionary or instance of Server"),
}  # fmt: skip


@pytest.mark.parametrize(("spec", "explanation"), REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_says_where_and_what(spec: dict[str, Any], explanation: str) -> None:
    assert refusal(spec) == explanation


def test_resources_are_asked_for_by_the_names_that_nodes_give_them() -> None:
    asked = resource({"resources": {"requests": {"cpu": 2, "nvidia.com/gpu": "1"}, "limits": {"nvidia.com/gpu": 1}}}).spec.resources

    assert asked.requests.by_name == {"cpu": "2", "memory": "0", "nvidia.com/gpu": "1"}
    assert asked.limits == {"nvidia.com/gpu": "1"}
    many = {f"example.com/{number}": 1 for number in range(40)}
    assert refusal({"resources": {"requests": many}}) == (
        "spec.resources: 42 kinds of resources are requested, and a collaborator may ask for 32"
    )


def test_every_mistake_is_told_at_once() -> None:
    assert refusal({"server": {"rounds": 0}, "clients": {}}).splitlines() == [
        "spec.server.rounds: Input should be greater than or equal to 1 (got 0)",
        "spec.clients: is not a field of this resource",
    ]


def test_what_is_no_document_at_all_is_refused_as_a_whole() -> None:
    with pytest.raises(ValidationError) as refused:
        FederatedLearning.model_validate(["a list"])

    assert explain_invalid(refused.value) == "the document: Input should be a valid dictionary or instance of FederatedLearning"


def test_thousands_of_mistakes_are_counted_and_not_listed() -> None:
    assert refusal({"data": {"requiredClaims": [None] * 2000}}) == "the document is wrong in 2000 places"


@pytest.mark.parametrize("name", ["", "Upper", "-a", "a_b", "a" * 254])
def test_a_name_that_kubernetes_would_refuse_is_refused(name: str) -> None:
    assert refusal({}, name=name).startswith("metadata.name: ")


def test_a_later_placement_api_is_passed_on_as_it_is() -> None:
    placement = {"sortBy": "Score", "tolerations": [{"key": "gpu", "until": "noon"}], "decisionStrategy": {"groupStrategy": {"later": 1}}}

    kept = resource({"client": {"placement": placement}}).spec.client.placement

    assert kept.model_dump(mode="json", by_alias=True, exclude_unset=True) == placement


def test_a_field_of_a_later_version_is_ignored_when_it_comes_from_the_log() -> None:
    later = yaml.safe_load(HEAD) | {"spec": {"server": {"rounds": 5, "novelty": 1}, "novelties": {}, "client": {"placement": {"kept": 1}}}}

    read = FederatedLearning.model_validate(later, context=IGNORE_UNKNOWN)

    assert read == resource({"server": {"rounds": 5}, "client": {"placement": {"kept": 1}}})


def exists(*keys: str) -> dict[str, Any]:
    expressions = [{"key": key, "operator": "Exists"} for key in keys]
    return {"requiredClusterSelector": {"claimSelector": {"matchExpressions": expressions}}}


DATA_CLAIMS: dict[str, tuple[dict[str, Any], str]] = {
    "nothing said": ({}, "federated-learning-sample.client-data"),
    "named": ({"data": {"claim": "images"}}, "images"),
    "one selector": ({"client": {"placement": {"predicates": [exists("images")]}}}, "images"),
    "the last of several": ({"client": {"placement": {"predicates": [exists("a", "b"), exists("c")]}}}, "c"),
    "named, whatever is selected": ({"data": {"claim": "images"}, "client": {"placement": {"predicates": [exists("c")]}}}, "images"),
    "selected by value only": (
        {"client": {"placement": {"predicates": [
            {"requiredClusterSelector": {"claimSelector": {"matchExpressions": [{"key": "gpu", "operator": "In", "values": ["yes"]}]}}}
        ]}}},
        "federated-learning-sample.client-data",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("spec", "claim"), DATA_CLAIMS.values(), ids=DATA_CLAIMS)
def test_the_data_claim_is_the_named_one_or_the_selected_one_or_the_conventional_one(spec: dict[str, Any], claim: str) -> None:
    assert resource(spec).data_claim == claim


def test_a_status_is_accepted_and_not_passed_on() -> None:
    given = yaml.safe_load(HEAD) | {"status": {"phase": "Waiting"}}

    assert "status" not in FederatedLearning.model_validate(given).model_dump()
