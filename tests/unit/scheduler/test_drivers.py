"""The Job that runs an app's own server on the hub: the whole of it for a small resource, and what changes it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from work_story import learning

from fedplane.runtime.errors import BadInput
from fedplane.scheduler.drivers import TROUBLES, driver_job, has_driver, objection
from fedplane.scheduler.pods import Outfit
from fedplane.scheduler.standing import PATIENCE, Stage, Standing, Trouble, job_standing, trouble

OUTFIT = Outfit("ours:1", "tls://nats.fedplane:4222", authority="one")
LABELS = {
    "app.kubernetes.io/part-of": "fedplane",
    "app.kubernetes.io/managed-by": "fedplane-scheduler",
    "app.kubernetes.io/name": "driver",
    "fedplane.io/run": "r-1",
}
LOCKED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
OURS: dict[str, Any] = {
    "image": "ours:1",
    "securityContext": LOCKED | {"runAsNonRoot": True, "readOnlyRootFilesystem": True},
    "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
    "volumeMounts": [{"name": "shared", "mountPath": "/fedplane"}],
}
APP = {"name": "app"}
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def pod(**spec: Any) -> dict[str, Any]:
    found: dict[str, Any] = driver_job("r-1", learning(strategy=APP, **spec), OUTFIT)["spec"]["template"]["spec"]
    return found


def test_a_job_has_our_driver_beside_the_users_image_which_runs_its_server() -> None:
    made = driver_job("r-1", learning(strategy=APP), OUTFIT)

    told = {
        "FEDPLANE_RUN": "r-1",
        "FEDPLANE_NATS_URL": "tls://nats.fedplane:4222",
        "FEDPLANE_TLS_CERTIFICATE": "/credentials/credentials.pem",
        "FEDPLANE_TLS_NAME": "default",
        "FEDPLANE_APP_SOCKET": "/fedplane/app.sock",
        "FEDPLANE_WORKDIR": "/fedplane/work",
    }
    replica = {"name": "FEDPLANE_REPLICA", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    install = ["python", "-m", "fedplane.collaborator.installing", "/fedplane/runner"]
    spec = {
        "restartPolicy": "OnFailure",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [
            {"name": "shared", "emptyDir": {"sizeLimit": "64Gi"}},
            {
                "name": "credentials",
                "secret": {"secretName": "fedplane-driver", "items": [{"key": "credentials.pem", "path": "credentials.pem"}]},
            },
        ],
        "initContainers": [OURS | {"name": "install", "command": install}],
        "containers": [
            OURS
            | {
                "name": "driver",
                "command": ["python", "-m", "fedplane.collaborator.driver.main"],
                "env": [*({"name": name, "value": value} for name, value in told.items()), replica],
                "volumeMounts": [*OURS["volumeMounts"], {"name": "credentials", "mountPath": "/credentials", "readOnly": True}],
            },
            {
                "name": "app",
                "image": "app:1",
                "command": ["python3", "/fedplane/runner"],
                "args": ["--framework=flower", "--app=.", "--socket=/fedplane/app.sock", "--drive"],
                "securityContext": LOCKED,
                "volumeMounts": [{"name": "shared", "mountPath": "/fedplane"}],
            },
        ],
    }
    assert made == {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "driver-r-1", "namespace": "default", "labels": LABELS},
        "spec": {
            "backoffLimit": 6,
            "activeDeadlineSeconds": 365 * 86_400,
            "ttlSecondsAfterFinished": 86_400,
            "template": {"metadata": {"labels": LABELS}, "spec": spec},
        },
    }


def test_where_the_bus_asks_for_nothing_the_driver_has_nothing_and_is_told_so() -> None:
    made = driver_job("r-1", learning(strategy=APP), Outfit("ours:1", "nats://nats.fedplane:4222"))
    spec = made["spec"]["template"]["spec"]

    assert {"name": "FEDPLANE_INSECURE", "value": "true"} in spec["containers"][0]["env"]
    assert ([each["name"] for each in spec["volumes"]], "TLS" in str(spec)) == (["shared"], False)


def test_the_servers_own_image_comes_first_and_secrets_for_images_come_along() -> None:
    made = pod(server={"image": "server:2"}, client={"image": "app:1", "template": {"imagePullSecrets": [{"name": "pull"}]}})

    assert made["containers"][1]["image"] == "server:2"
    assert made["imagePullSecrets"] == [{"name": "pull"}]


def test_what_is_meant_for_clusters_stays_there() -> None:
    template = {"env": [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}
    made = pod(client={"image": "app:1", "template": template}, resources={"requests": {"nvidia.com/gpu": "1"}})

    assert made == pod()


def test_a_run_of_the_longest_name_has_a_job_of_a_legal_name_with_the_end_that_is_its_own() -> None:
    name = driver_job("r" * 54 + "-0123abcd", learning(strategy=APP), OUTFIT)["metadata"]["name"]

    assert (len(name), name[:7], name[-9:]) == (63, "driver-", "-0123abcd")


def test_a_job_that_cannot_be_says_what_to_change() -> None:
    nowhere = learning(strategy=APP, client={})

    assert [objection(each) for each in (learning(client={}), learning(strategy=APP))] == [None, None]
    assert [has_driver(each) for each in (learning(), nowhere)] == [False, True]
    with pytest.raises(BadInput, match="no image has the app's own server"):
        driver_job("r-1", nowhere, OUTFIT)
    with pytest.raises(BadInput, match="FEDPLANE_COLLABORATOR_IMAGE and FEDPLANE_INSIDE_URL"):
        driver_job("r-1", learning(strategy=APP), Outfit("ours:1", ""))
    with pytest.raises(BadInput, match="FEDPLANE_INSIDE_URL is 'nats://h'"):
        driver_job("r-1", learning(strategy=APP), Outfit("ours:1", "nats://h", authority="one"))


EXCEEDED = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "it has failed too often"}


@pytest.mark.parametrize(
    ("status", "standing"),
    [
        ({}, Standing(Stage.PENDING)),
        ({"active": 1, "ready": 0}, Standing(Stage.PENDING)),
        ({"active": 1, "ready": 1}, Standing(Stage.WORKING)),
        ({"active": 1}, Standing(Stage.WORKING)),
        ({"ready": 1, "conditions": [EXCEEDED | {"status": "False"}]}, Standing(Stage.WORKING)),
        ({"succeeded": 1}, Standing(Stage.ENDED)),
        ({"failed": 7}, Standing(Stage.FAILED, "its pods failed 7 times")),
        ({"failed": 1, "conditions": [EXCEEDED]}, Standing(Stage.FAILED, "it has failed too often")),
        ({"conditions": [{"type": "Failed", "status": "True"}]}, Standing(Stage.FAILED, "Failed")),
        ("nonsense", Standing(Stage.PENDING)),
    ],
)
def test_how_far_a_job_has_got_is_read_from_its_status(status: Any, standing: Standing) -> None:
    assert job_standing({"status": status}) == standing


@pytest.mark.parametrize(
    ("stage", "seconds", "found"),
    [
        (Stage.PENDING, 299, None),
        (
            Stage.PENDING,
            300,
            Trouble(
                "not-started",
                "no pod of the driver's Job was ready for 300 s; "
                "see kubectl get events -A, and describe pods -A -l fedplane.io/run=r-1: said",
            ),
        ),
        (Stage.REFUSED, 29, None),
        (Stage.REFUSED, 30, Trouble("not-made", "the hub did not take the driver's Job for 30 s: said")),
        (Stage.UNREACHED, 300, Trouble("not-made", "the driver's Job could not be put on the hub for 300 s: said")),
        (Stage.ENDED, 30, Trouble("ended", "the driver's Job has ended and the run has not: said")),
        (Stage.FAILED, 0, Trouble("failed", "the driver's Job has failed: said")),
        (Stage.WORKING, 10**9, None),
    ],
)
def test_a_stage_that_lasts_too_long_is_trouble(stage: Stage, seconds: int, found: Trouble | None) -> None:
    later = NOON + timedelta(seconds=seconds)

    assert trouble("r-1", Standing(stage, "said"), NOON, later, PATIENCE, TROUBLES) == found
