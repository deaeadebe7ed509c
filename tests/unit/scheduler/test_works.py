"""What a cluster is sent: the whole work for a small resource, and what changes it."""

from dataclasses import replace

import pytest

from fedplane.runtime.errors import BadInput
from fedplane.scheduler.credentials import certificates
from fedplane.scheduler.pods import Outfit, literal
from fedplane.scheduler.works import FEEDBACK, work
from fedplane.schemas.models import Chosen, Exposure
from fedplane.schemas.resources import API_VERSION, KIND, FederatedLearning

AUTHORITY = "-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----\n"
OUTFIT = Outfit("registry.example.org/collaborator:1", "tls://hub.example.org:4222", authority=AUTHORITY)
INSECURE = Outfit("registry.example.org/collaborator:1", "nats://hub.example.org:4222")
LABELS = {
    "app.kubernetes.io/part-of": "fedplane",
    "app.kubernetes.io/managed-by": "fedplane-scheduler",
    "fedplane.io/run": "mnist-0123abcd",
    "fedplane.io/cluster": "hospital-a",
}
LOCKED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
OURS = {
    "image": "registry.example.org/collaborator:1",
    "securityContext": LOCKED | {"runAsNonRoot": True, "readOnlyRootFilesystem": True},
    "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
}
SHARED = {"name": "shared", "mountPath": "/fedplane"}


def resource(name="mnist", template=None, image="registry.example.org/app:7", **spec):
    client = {"image": image, "template": template or {}}
    document = {"framework": "flower", "data": {"claim": "data"}, "client": client, **spec}
    return FederatedLearning.model_validate({"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": document})


def sent(data="/data/a", outfit=OUTFIT, **spec):
    return work("mnist-0123abcd", resource(**spec), Chosen(cluster="hospital-a", score=1, terms=(), data=data), outfit)


def job(made):
    return made["spec"]["workload"]["manifests"][0]


def pod(made):
    return job(made)["spec"]["template"]["spec"]


def app(made):
    return pod(made)["containers"][1]


def test_a_small_resource_becomes_one_job_the_authority_of_the_bus_and_what_is_to_be_reported():
    made = sent()

    assert made == {
        "metadata": {
            "name": "mnist-0123abcd",
            "namespace": "hospital-a",
            "labels": LABELS,
            "annotations": {"fedplane.io/resource": "default/mnist"},
        },
        "spec": {
            "workload": {
                "manifests": [
                    job(made),
                    {
                        "apiVersion": "v1",
                        "kind": "ConfigMap",
                        "metadata": {"name": "mnist-0123abcd", "namespace": "fedplane-collaborator", "labels": LABELS},
                        "data": {"services.crt": AUTHORITY},
                    },
                ]
            },
            "deleteOption": {"propagationPolicy": "Foreground"},
            "manifestConfigs": [
                {
                    "resourceIdentifier": {
                        "group": "batch",
                        "resource": "jobs",
                        "name": "mnist-0123abcd",
                        "namespace": "fedplane-collaborator",
                    },
                    "updateStrategy": {"type": "ServerSideApply"},
                    "feedbackRules": [
                        {"type": "JSONPaths", "jsonPaths": [{"name": name, "path": path} for name, path in FEEDBACK.items()]}
                    ],
                    "conditionRules": [{"condition": "Complete", "type": "WellKnownConditions"}],
                }
            ],
        },
    }
    assert job(made) == {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "mnist-0123abcd", "namespace": "fedplane-collaborator", "labels": LABELS},
        "spec": {
            "backoffLimit": 6,
            "activeDeadlineSeconds": 86_400,
            "ttlSecondsAfterFinished": 86_400,
            "template": {"metadata": {"labels": LABELS}, "spec": pod(made)},
        },
    }


def test_the_pod_has_our_collaborator_beside_the_users_image_and_a_directory_that_both_share():
    assert pod(sent()) == {
        "restartPolicy": "OnFailure",
        "serviceAccountName": "collaborator",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [
            {"name": "shared", "emptyDir": {"sizeLimit": "64Gi"}},
            {"name": "certificate", "secret": {"secretName": "fedplane-collaborator-fedplane.io-collaborator-client-cert"}},
            {"name": "authority", "configMap": {"name": "mnist-0123abcd"}},
        ],
        "initContainers": [
            OURS
            | {
                "name": "install",
                "command": ["python", "-m", "fedplane.collaborator.installing", "/fedplane/runner"],
                "volumeMounts": [SHARED],
            }
        ],
        "containers": [
            OURS
            | {
                "name": "collaborator",
                "command": ["python", "-m", "fedplane.collaborator.main"],
                "env": [
                    {"name": "FEDPLANE_RUN", "value": "mnist-0123abcd"},
                    {"name": "FEDPLANE_CLUSTER", "value": "hospital-a"},
                    {"name": "FEDPLANE_NATS_URL", "value": "tls://hub.example.org:4222"},
                    {"name": "FEDPLANE_TLS_CERTIFICATE", "value": "/certificate/tls.crt"},
                    {"name": "FEDPLANE_TLS_KEY", "value": "/certificate/tls.key"},
                    {"name": "FEDPLANE_TLS_AUTHORITY", "value": "/authority/services.crt"},
                    {"name": "FEDPLANE_APP_SOCKET", "value": "/fedplane/app.sock"},
                    {"name": "FEDPLANE_WORKDIR", "value": "/fedplane/work"},
                    {"name": "FEDPLANE_REPLICA", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                ],
                "volumeMounts": [
                    SHARED,
                    {"name": "certificate", "mountPath": "/certificate", "readOnly": True},
                    {"name": "authority", "mountPath": "/authority", "readOnly": True},
                ],
            },
            {
                "name": "app",
                "image": "registry.example.org/app:7",
                "command": ["python3", "/fedplane/runner"],
                "args": ["--framework=flower", "--app=.", "--socket=/fedplane/app.sock", "--data-path=/data/a"],
                "env": [],
                "securityContext": LOCKED,
                "resources": {},
                "volumeMounts": [SHARED],
            },
        ],
    }


def test_where_the_bus_asks_for_nothing_the_pod_has_nothing_and_is_told_so():
    made = sent(outfit=INSECURE)
    (collaborator, _), volumes = pod(made)["containers"], pod(made)["volumes"]

    assert made["spec"]["workload"]["manifests"] == [job(made)]
    assert {"name": "FEDPLANE_INSECURE", "value": "true"} in collaborator["env"]
    assert not [each for each in collaborator["env"] if "TLS" in each["name"]]
    assert ([each["name"] for each in volumes], collaborator["volumeMounts"]) == (["shared"], [SHARED])


def test_a_cluster_is_sent_by_what_it_knows_the_others_whom_it_masks_with():
    made = sent(outfit=replace(OUTFIT, peers="theirs"))
    (collaborator, _) = pod(made)["containers"]

    assert made["spec"]["workload"]["manifests"][1]["data"] == {"services.crt": AUTHORITY, "clusters.crt": "theirs"}
    assert {"name": "FEDPLANE_PEERS_AUTHORITY", "value": "/authority/clusters.crt"} in collaborator["env"]


def test_of_a_file_with_a_key_a_cluster_is_sent_the_certificates_alone():
    key = "-----BEGIN PRIVATE KEY-----\nMC4=\n-----END PRIVATE KEY-----\n"

    assert certificates(f"# fedplane:scheduler:scheduler\n{key}{AUTHORITY}\n{AUTHORITY}") == AUTHORITY * 2
    with pytest.raises(BadInput, match="no certificate"):
        certificates(key)


DIFFERENT = {
    "another image on one cluster": (
        {"template": {"perCluster": {"hospital-a": {"image": "other:1"}, "hospital-b": {"image": "not:mine"}}}},
        lambda made: app(made)["image"],
        "other:1",
    ),
    "variables, of which a cluster's replace everybody's": (
        {
            "template": {
                "env": [
                    {"name": "A", "value": "1"},
                    {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                    {"name": "C", "value": "$(A)"},
                ],
                "perCluster": {"hospital-a": {"env": [{"name": "A", "value": "2"}, {"name": "D"}]}},
            }
        },
        lambda made: app(made)["env"],
        [
            {"name": "A", "value": "2"},
            {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            {"name": "C", "value": "$(A)"},
            {"name": "D", "value": ""},
        ],
    ),
    "pull secrets": (
        {"template": {"imagePullSecrets": [{"name": "all"}]}},
        lambda made: pod(made)["imagePullSecrets"],
        [{"name": "all"}],
    ),
    "pull secrets of one cluster": (
        {"template": {"imagePullSecrets": [{"name": "all"}], "perCluster": {"hospital-a": {"imagePullSecrets": [{"name": "mine"}]}}}},
        lambda made: pod(made)["imagePullSecrets"],
        [{"name": "mine"}],
    ),
    "resources, and a device of which limit and request are the same": (
        {"resources": {"requests": {"cpu": "2", "memory": "4Gi", "nvidia.com/gpu": 1}, "limits": {"memory": "8Gi"}}},
        lambda made: app(made)["resources"],
        {"requests": {"cpu": "2", "memory": "4Gi", "nvidia.com/gpu": "1"}, "limits": {"memory": "8Gi", "nvidia.com/gpu": "1"}},
    ),
    "a device that is only limited": (
        {"resources": {"limits": {"nvidia.com/gpu": 2}}},
        lambda made: app(made)["resources"],
        {"requests": {"nvidia.com/gpu": "2"}, "limits": {"nvidia.com/gpu": "2"}},
    ),
    "resources of one cluster": (
        {
            "resources": {"requests": {"cpu": "2"}},
            "template": {"perCluster": {"hospital-a": {"resources": {"requests": {"cpu": "1"}}}}},
        },
        lambda made: app(made)["resources"],
        {"requests": {"cpu": "1"}},
    ),
    "data on the node": (
        {"template": {"data": {}}},
        lambda made: (pod(made)["volumes"][3], app(made)["volumeMounts"][1], app(made)["args"][3]),
        (
            {"name": "data", "hostPath": {"path": "/data/a", "type": "Directory"}},
            {"name": "data", "mountPath": "/data", "readOnly": True},
            "--data-path=/data",
        ),
    ),
    "data of a claim": (
        {"template": {"data": {"source": "PersistentVolumeClaim", "mountPath": "/mnt/x", "readOnly": False}}, "data": "images.2024"},
        lambda made: (pod(made)["volumes"][3], app(made)["volumeMounts"][1], app(made)["args"][3]),
        (
            {"name": "data", "persistentVolumeClaim": {"claimName": "images.2024", "readOnly": False}},
            {"name": "data", "mountPath": "/mnt/x", "readOnly": False},
            "--data-path=/mnt/x",
        ),
    ),
    "a deadline that no run outlasts": (
        {"server": {"rounds": 10}, "rounds": {"deadlineSeconds": 3600, "attempts": 3}},
        lambda made: job(made)["spec"]["activeDeadlineSeconds"],
        (1 + 2 * 10) * 3 * 3600,
    ),
    "a deadline of a year, since three hundred would be none": (
        {"server": {"rounds": 100_000}, "rounds": {"deadlineSeconds": 604_800, "attempts": 100}},
        lambda made: job(made)["spec"]["activeDeadlineSeconds"],
        365 * 24 * 3600,
    ),
}


@pytest.mark.parametrize(("asked", "part", "expected"), DIFFERENT.values(), ids=DIFFERENT)
def test_a_resource_changes_what_it_names(asked, part, expected):
    assert part(sent(**asked)) == expected


HOSTILE = {
    "a shell's characters": '"; rm -rf / #`id`|&',
    "lines": "a\nb\r\n\tc",
    "an option": "--socket=/etc",
    "what Kubernetes expands": "$(FEDPLANE_NATS_URL) $$(A) $",
    "what templates expand": "{{CLUSTER_NAME}} ${A} %s",
    "the longest there is": "x" * 1024,
    "other alphabets": "Daten/ä/数据/\u202e",
}


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_a_clusters_word_about_its_data_is_one_argument_and_never_more(value):
    made = sent(data=value)
    harmless = sent(data="/data/a")

    assert [argument.replace("$$", "$") for argument in app(made)["args"]] == [*app(harmless)["args"][:3], f"--data-path={value}"]
    assert "$(" not in app(made)["args"][3].replace("$$", "")
    assert [pod(made)["volumes"], pod(made)["containers"][0]] == [pod(harmless)["volumes"], pod(harmless)["containers"][0]]
    assert all(command[0].startswith("python") for command in (each["command"] for each in pod(made)["containers"]))


def test_a_dollar_is_doubled_since_kubernetes_halves_it():
    assert literal("$(A) $$ a$b") == "$$(A) $$$$ a$$b"


IMPOSSIBLE = {
    "no image": ({"image": ""}, "spec.client.image names no image"),
    "no image of ours": ({"outfit": Outfit("", "nats://h")}, "FEDPLANE_COLLABORATOR_IMAGE"),
    "no bus": ({"outfit": Outfit("i", "")}, "FEDPLANE_OUTSIDE_URL"),
    "a bus without TLS that asks for certificates": (
        {"outfit": Outfit("i", "tls://a:1,nats://b:1", authority=AUTHORITY)},
        "FEDPLANE_OUTSIDE_URL is 'tls://a:1,nats://b:1'.* tls://HOST:PORT",
    ),
    "a relative path": ({"template": {"data": {}}, "data": "a/b"}, "no absolute path"),
    "a path that climbs": ({"template": {"data": {}}, "data": "/data/../etc"}, "no absolute path"),
    "a path with lines": ({"template": {"data": {}}, "data": "/a\n/b"}, "no absolute path"),
    "no name of a claim": (
        {"template": {"data": {"source": "PersistentVolumeClaim"}}, "data": "/data"},
        "no name of a PersistentVolumeClaim",
    ),
    "a long name of a claim": (
        {"template": {"data": {"source": "PersistentVolumeClaim"}}, "data": "a" * 254},
        "no name of a PersistentVolumeClaim",
    ),
    "data in our directory": ({"template": {"data": {"mountPath": "/fedplane/work"}}}, "neither / nor in /fedplane"),
    "data everywhere": ({"template": {"data": {"mountPath": "/"}}}, "neither / nor in /fedplane"),
    "more than a work may have": (
        {"template": {"env": [{"name": f"A{number}", "value": "x" * 10_000} for number in range(60)]}},
        "a work has 502000; shorten spec.client.template.env",
    ),
}


@pytest.mark.parametrize(("asked", "said"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_what_cannot_be_sent_says_what_to_change(asked, said):
    with pytest.raises(BadInput, match=said):
        sent(**asked)


@pytest.mark.parametrize(
    ("bus_url", "authority", "listener", "told"),
    [
        ("tls://hub.example.org:4222", AUTHORITY, None, "tls://hub.example.org:4222"),
        ("", AUTHORITY, ("NodePort", "10.0.0.1:31531"), "tls://10.0.0.1:31531"),
        ("", "", ("NodePort", "10.0.0.1:31531"), "nats://10.0.0.1:31531"),
        ("nats://hub.example.org:4222", "", ("LoadBalancer", "[fd00::2]:80"), "nats://[fd00::2]:80"),
        ("tls://hub.example.org:4222", "", ("NodePort", "10.0.0.1:31531"), "tls://10.0.0.1:31531"),
        ("nats://hub.example.org:4222", "", ("Route", "nats.example.org:443"), "tls://nats.example.org:443"),
        ("", "", ("Ingress", "nats.example.org:443"), "tls://nats.example.org:443"),
    ],
)
def test_a_run_with_a_listener_tells_its_clusters_to_come_by_it(bus_url, authority, listener, told):
    exposure = listener and Exposure(name="listener", type=listener[0], address=listener[1])

    assert Outfit("ours:1", bus_url, authority=authority).by(exposure) == Outfit("ours:1", told, authority=authority)
