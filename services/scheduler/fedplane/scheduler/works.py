"""A cluster's part of a run as a ManifestWork: what Open Cluster Management's agent is to run there, and what it is to report back.

One work per run and cluster, in the cluster's namespace on the hub, under the run's id, which is a legal name and label everywhere.
It holds one Job, and the authorities by which its pod knows the bus and other clusters.
Namespace and ServiceAccount come with the add-on (deploy/addon).

A work is never changed: a Job's pod cannot be, and a scheduler of the next version must not touch what the last one has under way.
It is made when its cluster should work and deleted when it should not. When that is the case is told in `sending`.
"""

import json
from typing import Any

from fedplane.runtime.errors import BadInput
from fedplane.scheduler.credentials import AUTHORITY_FILE, PEERS_FILE
from fedplane.scheduler.pods import Outfit, pod
from fedplane.schemas.models import Chosen
from fedplane.schemas.resources import FederatedLearning

__all__ = ["BACKOFF_LIMIT", "FEEDBACK", "JOB_SECONDS_MAX", "LABELS", "NAMESPACE", "RUN_LABEL", "WORK_BYTES_MAX", "work"]

NAMESPACE = "fedplane-collaborator"
"""On the cluster: that of the add-on, since the cluster's certificate is there."""

LABELS = {"app.kubernetes.io/part-of": "fedplane", "app.kubernetes.io/managed-by": "fedplane-scheduler"}
"""By which our works are found among everybody's."""

RUN_LABEL, CLUSTER_LABEL, RESOURCE_ANNOTATION = "fedplane.io/run", "fedplane.io/cluster", "fedplane.io/resource"
"""A resource's name may be longer than a label, and have a slash before it; hence an annotation."""

WORK_BYTES_MAX = 500 * 1024 - 10_000
"""What Open Cluster Management's webhook takes by default, without room for what servers add to a manifest."""

BACKOFF_LIMIT = 6
"""How often containers of the pod may fail before the Job has. Kubernetes' own default: each restart waits twice as long as the one before,
so it is ten minutes in which a bus may come back. An app that fails does not count, since its container outlives it.
"""

KEPT_SECONDS = 24 * 3600
"""How long a finished Job stays to be looked at where nobody deletes its work: the hub is gone then."""

JOB_SECONDS_MIN, JOB_SECONDS_MAX = 24 * 3600, 365 * 24 * 3600
"""A Job's deadline is for a cluster that has lost its hub. A hub may be down for a night, and no run is awaited for longer than a year.
Kubernetes counts in nanoseconds: a deadline of three hundred years would have passed at once.
"""

FEEDBACK = {
    "active": ".status.active",
    "ready": ".status.ready",
    "succeeded": ".status.succeeded",
    "failed": ".status.failed",
    "failedReason": '.status.conditions[?(@.type=="Failed")].reason',
    "failedMessage": '.status.conditions[?(@.type=="Failed")].message',
}
"""What the agent reports of the Job, by name: JSONPaths to single values, which every agent can report. `standing` reads them."""


def work(run: str, resource: FederatedLearning, chosen: Chosen, outfit: Outfit) -> dict[str, Any]:
    """The work for a cluster. Raises BadInput when there cannot be one, with what to change."""
    labels = {**LABELS, RUN_LABEL: run, CLUSTER_LABEL: chosen.cluster}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": run, "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "backoffLimit": BACKOFF_LIMIT,
            "activeDeadlineSeconds": _seconds_at_most(resource),
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            "template": {"metadata": {"labels": labels}, "spec": pod(run, resource, chosen, outfit)},
        },
    }
    manifests = [job, *_authority(run, labels, outfit)]  # the Job first, since `standing` reads what is reported of the first
    if (size := len(json.dumps(manifests))) > WORK_BYTES_MAX:
        raise BadInput(f"the pod takes {size} bytes to describe, and a work has {WORK_BYTES_MAX}; shorten spec.client.template.env")
    identity = f"{resource.metadata.namespace}/{resource.metadata.name}"
    return {
        "metadata": {"name": run, "namespace": chosen.cluster, "labels": labels, "annotations": {RESOURCE_ANNOTATION: identity}},
        "spec": {
            "workload": {"manifests": manifests},
            "deleteOption": {"propagationPolicy": "Foreground"},  # the work is gone when its processes are
            "manifestConfigs": [
                {
                    "resourceIdentifier": {"group": "batch", "resource": "jobs", "name": run, "namespace": NAMESPACE},
                    "updateStrategy": {"type": "ServerSideApply"},
                    "feedbackRules": [
                        {"type": "JSONPaths", "jsonPaths": [{"name": name, "path": path} for name, path in FEEDBACK.items()]}
                    ],
                    # A Job that has ended is left alone; otherwise the agent would make it anew when its time to be kept is over.
                    "conditionRules": [{"condition": "Complete", "type": "WellKnownConditions"}],
                }
            ],
        },
    }


def _authority(run: str, labels: dict[str, str], outfit: Outfit) -> list[dict[str, Any]]:
    """Each run has its own, so that it goes with the run; it is the same for all, and may be another one for the next run."""
    if not outfit.secure:
        return []
    metadata = {"name": run, "namespace": NAMESPACE, "labels": labels}
    data = {AUTHORITY_FILE: outfit.authority, **({PEERS_FILE: outfit.peers} if outfit.peers else {})}
    return [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}]


def _seconds_at_most(resource: FederatedLearning) -> int:
    """How long the run can take at most: every round as often as it may be tried, up to its deadline."""
    policy = resource.spec.rounds
    rounds = 1 + resource.spec.server.rounds * (2 if policy.evaluate else 1)
    return int(min(max(rounds * policy.attempts * policy.deadline_seconds, JOB_SECONDS_MIN), JOB_SECONDS_MAX))
