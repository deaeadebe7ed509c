"""Where a model is to be kept on the hub: what is made for each type of storage, and what is wrong with one that cannot be."""

from typing import Any

import pytest
from work_story import learning

from fedplane.runtime.errors import BadInput
from fedplane.scheduler.placement import objections
from fedplane.scheduler.storage import MOUNT, Keeper, claim, job
from fedplane.schemas.resources import FederatedLearning

KEEPER = Keeper("cli:1", "tls://nats.fedplane:4222", secure=True)
CREDENTIALS = {
    "name": "credentials",
    "secret": {"secretName": "fedplane-keeper", "items": [{"key": "credentials.pem", "path": "credentials.pem"}]},
}
VOLUME = {"type": "PersistentVolumeClaim", "name": "model-pvc", "path": "/workspace/models", "size": "2Gi"}
BUCKET = {"type": "S3Bucket", "name": "s3-secret", "path": "/data/models", "s3": {"bucketName": "models", "prefix": "round-1/"}}


def stored(storage: dict[str, Any]) -> FederatedLearning:
    return learning(server={"storage": storage})


def pod(storage: dict[str, Any], keeper: Keeper = KEEPER) -> dict[str, Any]:
    spec: dict[str, Any] = job("r-1", stored(storage), keeper)["spec"]["template"]["spec"]
    return spec


def told(storage: dict[str, Any]) -> dict[str, str]:
    """What the command is told of places."""
    words = [word.partition("=") for word in pod(storage)["containers"][0]["command"]]
    return {option: value for option, equals, value in words if equals}


def test_a_claim_is_made_as_upstream_makes_it() -> None:
    assert claim(stored(VOLUME)) == {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": "model-pvc",
            "namespace": "default",
            "labels": {"app.kubernetes.io/part-of": "fedplane", "app.kubernetes.io/managed-by": "fedplane-scheduler"},
        },
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}},
    }


def test_a_job_is_the_command_of_a_person_beside_the_volume() -> None:
    made = job("r-1", stored(VOLUME), KEEPER)

    spec = made["spec"].pop("template")["spec"]
    (container,) = spec.pop("containers")
    assert (made["metadata"]["name"], made["metadata"]["namespace"], made["metadata"]["labels"]["fedplane.io/run"]) == (
        "r-1",
        "default",
        "r-1",
    )
    assert made["spec"] == {"backoffLimit": 6, "activeDeadlineSeconds": 24 * 3600, "ttlSecondsAfterFinished": 8 * 24 * 3600}
    assert spec == {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}, "fsGroup": 10001},
        "volumes": [{"name": "model", "persistentVolumeClaim": {"claimName": "model-pvc"}}, CREDENTIALS],
    }
    assert container["command"] == [
        "python",
        "-m",
        "fedplane.cli.main",
        "keep",
        "r-1",
        "--only-newer",
        "--to=/model",
        "--known-as=pvc://model-pvc",
    ]
    assert container["env"] == [
        {"name": "FEDPLANE_NATS_URL", "value": "tls://nats.fedplane:4222"},
        {"name": "FEDPLANE_CREDENTIALS", "value": "/credentials/credentials.pem"},
    ]
    assert container["volumeMounts"] == [
        {"name": "model", "mountPath": MOUNT},
        {"name": "credentials", "mountPath": "/credentials", "readOnly": True},
    ]


@pytest.mark.parametrize(
    ("storage", "address", "known_as"),
    [
        (VOLUME, "/model", "pvc://model-pvc"),
        (VOLUME | {"path": ""}, "/model", "pvc://model-pvc"),
        (VOLUME | {"path": "/workspace/models/mnist.safetensors"}, "/model/mnist.safetensors", "pvc://model-pvc"),
        (VOLUME | {"path": "/workspace/v1.2/"}, "/model", "pvc://model-pvc"),
        ({"type": "HostPath", "path": "/srv/models/m.safetensors"}, "/model/m.safetensors", "file:///srv/models"),
        (BUCKET, "s3://models/round-1/", "s3://models/round-1"),
        (BUCKET | {"path": "/data/mnist.safetensors"}, "s3://models/round-1/mnist.safetensors", "s3://models/round-1"),
        (BUCKET | {"s3": {"bucketName": "my.models"}}, "s3://my.models/", "s3://my.models"),
        (BUCKET | {"s3": {"bucketName": "models", "prefix": "v1.2"}}, "s3://models/v1.2/", "s3://models/v1.2"),
    ],
)
def test_a_path_that_ends_in_a_name_with_a_dot_is_a_file_and_any_other_a_folder(
    storage: dict[str, Any], address: str, known_as: str
) -> None:
    assert told(storage) == {"--to": address, "--known-as": known_as}


def test_a_path_of_a_node_is_mounted_and_a_bucket_is_not() -> None:
    host, bucket = (
        pod({"type": "HostPath", "path": "/srv/models/m.safetensors"}),
        pod(BUCKET | {"s3": BUCKET["s3"] | {"region": "eu-west-1"}}),
    )

    assert host["volumes"] == [{"name": "model", "hostPath": {"path": "/srv/models", "type": "DirectoryOrCreate"}}, CREDENTIALS]
    assert bucket["volumes"] == [CREDENTIALS]
    assert bucket["containers"][0]["envFrom"] == [{"secretRef": {"name": "s3-secret", "optional": True}}]
    assert bucket["containers"][0]["env"][2:] == [{"name": "AWS_DEFAULT_REGION", "value": "eu-west-1"}]
    assert claim(stored(BUCKET)) is None


def test_where_the_bus_asks_for_nothing_the_job_has_nothing_and_is_told_so() -> None:
    (container,) = pod(BUCKET, Keeper("cli:1", "nats://bus"))["containers"]

    assert (container["env"][1], container["volumeMounts"]) == ({"name": "FEDPLANE_INSECURE", "value": "true"}, [])
    with pytest.raises(BadInput, match="FEDPLANE_INSIDE_URL is 'nats://bus'"):
        pod(BUCKET, Keeper("cli:1", "nats://bus", secure=True))


def test_a_hub_that_gives_groups_itself_is_not_told_one() -> None:
    assert "fsGroup" not in pod(VOLUME, Keeper("cli:1", "nats://bus", 0))["securityContext"]


CONTRADICTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "no type": ({}, "storage.type is ''; known are PersistentVolumeClaim, HostPath, S3Bucket"),
    "an unknown type": (VOLUME | {"type": "NFS"}, "storage.type is 'NFS'"),
    "no size": (VOLUME | {"size": ""}, "storage.size is ''; a PersistentVolumeClaim needs one"),
    "a size that is none": (VOLUME | {"size": "much"}, "storage.size is 'much'"),
    "no room": (VOLUME | {"size": "0"}, "storage.size is '0'"),
    "no claim": (VOLUME | {"name": ""}, "storage.name is ''; name the PersistentVolumeClaim"),
    "no legal name": (VOLUME | {"name": "Model PVC"}, "storage.name is 'Model PVC'"),
    "no path of a node": ({"type": "HostPath"}, "storage.path is ''; for a HostPath"),
    "a node's root": ({"type": "HostPath", "path": "/model.safetensors"}, "not its root"),
    "a way out": ({"type": "HostPath", "path": "/srv/../etc"}, "without .."),
    "what a shell would read": (VOLUME | {"path": "/models/$(id).x"}, "storage.path is '/models/$(id).x'"),
    "no bucket": (BUCKET | {"s3": None}, "s3.bucketName is ''; an S3Bucket needs its name"),
    "no legal bucket": (BUCKET | {"s3": {"bucketName": "a/b"}}, "s3.bucketName is 'a/b'"),
    "a prefix that goes up": (BUCKET | {"s3": {"bucketName": "models", "prefix": "../x"}}, "s3.prefix is '../x'"),
    "no legal Secret": (BUCKET | {"name": "No"}, "name the Secret"),
}


@pytest.mark.parametrize(("storage", "said"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_storage_that_cannot_be_is_objected_to_before_the_run_begins(storage: dict[str, Any], said: str) -> None:
    resource = stored(storage)

    (told,) = objections(resource)

    assert said in told
    with pytest.raises(BadInput):
        job("r-1", resource, KEEPER)


def test_a_scheduler_that_was_not_told_what_keeps_models_says_what_to_set() -> None:
    with pytest.raises(BadInput, match="FEDPLANE_CLI_IMAGE and FEDPLANE_INSIDE_URL"):
        job("r-1", stored(VOLUME), Keeper("", ""))
