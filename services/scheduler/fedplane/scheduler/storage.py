"""Where a run's model is to be kept on the hub, as objects: a Job that keeps it there, and the claim of a volume for it.

The Job runs `fedplane keep` beside the storage, in the namespace of the resource, since volumes and Secrets are there.
What upstream's controller does with `spec.server.storage` is done alike: a claim is made if there is none, ReadWriteOnce, of the default
class, and never changed or deleted; `path` is a file if its last name has a dot in it, else a directory.
A bucket is written to by its own interface, so there is nothing to mount and no driver to install.
When the objects are made is told in `storing`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fedplane.runtime.errors import BadInput
from fedplane.scheduler.credentials import check_address, of_keeper
from fedplane.scheduler.pods import literal
from fedplane.scheduler.works import LABELS, RUN_LABEL
from fedplane.schemas.quantities import parse
from fedplane.schemas.resources import FederatedLearning, Storage

__all__ = ["KINDS", "MOUNT", "Keeper", "claim", "job", "objection"]

MOUNT = "/model"
"""Where the Job sees the volume."""

NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
"""Of a claim or a Secret: a DNS subdomain (RFC 1123)."""

BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
"""Amazon's rules for names of buckets, but for the rarest."""

PATH = re.compile(r"[\w./ +=@-]*", re.ASCII)
"""Characters that mean the same in a path, in an address and in a container's arguments."""

BACKOFF_LIMIT = 6
"""Kubernetes' own default: the pods of ten minutes, in which a bus, a node or a bucket may come back."""

SECONDS_AT_MOST = 24 * 3600
"""A model of 80 GB at 1 MB/s takes less; what takes longer hangs."""

KEPT_SECONDS = 8 * 24 * 3600
"""How long a finished Job stays: a day longer than the log has the run, so that a fresh scheduler finds it and makes no second one."""

RESOURCES = {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}
"""A model passes chunk by chunk; a bucket's parts and its library are the most of it."""

Part = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Keeper:
    """What every Job is given. `bus_url` is the bus as any namespace of the hub sees it.

    `group` owns the files of a volume, so that the image's user may write; 0 leaves that to the hub, as OpenShift wants it.
    `secure` is whether the bus asks for certificates.
    """

    image: str
    bus_url: str
    group: int = 10001
    secure: bool = False


@dataclass(frozen=True, slots=True)
class _Kind:
    """One type of storage: why it cannot be, the address that the command is given, what others call its folder, and what the pod needs."""

    objection: Callable[[Storage], str | None]
    address: Callable[[Storage], str]
    known_as: Callable[[Storage], str]
    pod: Callable[[Storage], tuple[Part, Part]]


def objection(resource: FederatedLearning) -> str | None:
    """Why the resource's storage cannot be, in a sentence that says what to change; None if it can, or if there is none."""
    storage = resource.spec.server.storage
    if storage is None:
        return None
    if storage.type not in KINDS:
        return f"spec.server.storage.type is {storage.type!r}; known are {', '.join(KINDS)}"
    if not PATH.fullmatch(storage.path) or ".." in storage.path.split("/"):
        return f"spec.server.storage.path is {storage.path!r}; use letters, digits and . _ - / without .."
    return KINDS[storage.type].objection(storage)


def claim(resource: FederatedLearning) -> Part | None:
    """The claim of the volume, to be made if there is none; None if the model goes elsewhere. Raises BadInput."""
    storage = _storage(resource)
    if storage.type != "PersistentVolumeClaim":
        return None
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": storage.name, "namespace": resource.metadata.namespace, "labels": LABELS},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": storage.size}}},
    }


def job(run: str, resource: FederatedLearning, keeper: Keeper) -> Part:
    """The Job that keeps the run's model. Raises BadInput."""
    storage = _storage(resource)
    if not keeper.image or not keeper.bus_url:
        raise BadInput("the scheduler does not know what keeps models: set its FEDPLANE_CLI_IMAGE and FEDPLANE_INSIDE_URL")
    check_address("FEDPLANE_INSIDE_URL", keeper.bus_url, secure=keeper.secure)
    kind = KINDS[storage.type]
    labels = {**LABELS, RUN_LABEL: run, "app.kubernetes.io/name": "keeper"}
    of_pod, of_container = kind.pod(storage)
    shown = of_keeper(secure=keeper.secure)
    told = {"FEDPLANE_NATS_URL": keeper.bus_url, **shown.variables}
    security: Part = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    pod: Part = {
        "restartPolicy": "Never",  # a pod that failed stays, with its log
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {**security, "fsGroup": keeper.group} if keeper.group else security,
        "containers": [
            {
                "name": "keep",
                "image": keeper.image,
                "command": [
                    "python", "-m", "fedplane.cli.main", "keep", run, "--only-newer",
                    f"--to={literal(kind.address(storage))}", f"--known-as={literal(kind.known_as(storage))}",
                ],
                "securityContext": {
                    "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
                },
                "resources": RESOURCES,
                **of_container,
                "env": [*({"name": name, "value": literal(value)} for name, value in told.items()), *of_container.get("env", ())],
                "volumeMounts": [*of_container.get("volumeMounts", ()), *shown.mounts],
            }
        ],
        **of_pod,
        "volumes": [*of_pod.get("volumes", ()), *shown.volumes],
    }  # fmt: skip
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": run, "namespace": resource.metadata.namespace, "labels": labels},
        "spec": {
            "backoffLimit": BACKOFF_LIMIT,
            "activeDeadlineSeconds": SECONDS_AT_MOST,
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def _storage(resource: FederatedLearning) -> Storage:
    if wrong := objection(resource):
        raise BadInput(wrong)
    assert resource.spec.server.storage is not None, "only resources with storage have something to be kept"
    return resource.spec.server.storage


def _halves(path: str) -> tuple[str, str]:
    """The directory and the file's name, which is empty if the path is a directory's."""
    directory, _, name = path.rpartition("/")
    return (directory, name) if "." in name[1:-1] else (path.rstrip("/"), "")  # a dot that hides a name ends none


def _mounted(storage: Storage) -> str:
    name = _halves(storage.path)[1]
    return f"{MOUNT}/{name}" if name else MOUNT


def _volume(source: Part) -> tuple[Part, Part]:
    return {"volumes": [{"name": "model", **source}]}, {"volumeMounts": [{"name": "model", "mountPath": MOUNT}]}


def _no_claim(storage: Storage) -> str | None:
    if not NAME.fullmatch(storage.name):
        return f"spec.server.storage.name is {storage.name!r}; name the PersistentVolumeClaim"
    try:
        if parse(storage.size) > 0:
            return None
    except ValueError:
        pass  # said below, with what it should be
    return f"spec.server.storage.size is {storage.size!r}; a PersistentVolumeClaim needs one, such as 2Gi"


def _no_host_path(storage: Storage) -> str | None:
    if storage.path.startswith("/") and _halves(storage.path)[0].strip("/."):
        return None
    return f"spec.server.storage.path is {storage.path!r}; for a HostPath it is a directory of the node, not its root"


def _no_bucket(storage: Storage) -> str | None:
    if storage.s3 is None or not BUCKET.fullmatch(storage.s3.bucket_name):
        return f"spec.server.storage.s3.bucketName is {storage.s3.bucket_name if storage.s3 else ''!r}; an S3Bucket needs its name"
    if not PATH.fullmatch(storage.s3.prefix) or ".." in storage.s3.prefix.split("/"):
        return f"spec.server.storage.s3.prefix is {storage.s3.prefix!r}; use letters, digits and . _ - / without .."
    if storage.name and not NAME.fullmatch(storage.name):
        return f"spec.server.storage.name is {storage.name!r}; name the Secret with the bucket's credentials, or nothing"
    return None


def _bucket_address(storage: Storage) -> str:
    assert storage.s3 is not None, "a bucket without a name is objected to"
    parts = [storage.s3.bucket_name, storage.s3.prefix.strip("/"), _halves(storage.path)[1]]
    return "s3://" + "/".join(part for part in parts if part) + ("" if parts[-1] else "/")


def _bucket_pod(storage: Storage) -> tuple[Part, Part]:
    assert storage.s3 is not None, "as above"
    region = [{"name": "AWS_DEFAULT_REGION", "value": literal(storage.s3.region)}] if storage.s3.region else []
    # Without a Secret, the namespace's ServiceAccount or the node may have a role that is allowed to write.
    secret = [{"secretRef": {"name": storage.name, "optional": True}}] if storage.name else []
    return {}, {"env": region, "envFrom": secret}


KINDS: Mapping[str, _Kind] = {
    "PersistentVolumeClaim": _Kind(
        _no_claim, _mounted, lambda storage: f"pvc://{storage.name}",
        lambda storage: _volume({"persistentVolumeClaim": {"claimName": storage.name}})
    ),
    "HostPath": _Kind(
        _no_host_path, _mounted, lambda storage: f"file://{_halves(storage.path)[0]}",
        lambda storage: _volume({"hostPath": {"path": _halves(storage.path)[0], "type": "DirectoryOrCreate"}}),
    ),
    "S3Bucket": _Kind(_no_bucket, _bucket_address, lambda storage: _bucket_address(storage).rpartition("/")[0], _bucket_pod),
}  # fmt: skip
"""The types of storage. The first and the last are upstream's; it declares the second and refuses it. `pvc://` is as KServe writes it."""
