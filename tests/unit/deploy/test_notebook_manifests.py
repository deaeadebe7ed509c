"""The notebook of a cluster: what its README tells a person to write is built, and the pod can do what it has to and no more."""

import re
import tomllib
from typing import Any

from manifest_story import DEPLOY, Manifest, built_in, container, matches
from notebook_story import EXAMPLE, README
from sources import ROOT

OVERLAY: str = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)[0]
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
IMAGE: str = re.findall(r"^FROM .* AS notebook\n(.*?)(?=^FROM |^# What is built)", DOCKERFILE, re.DOTALL | re.MULTILINE)[0]


def objects() -> dict[str, Manifest]:
    """By kind: there is one of each."""
    manifests = built_in(OVERLAY.replace("../deploy", "DEPLOY"))
    found = {each["kind"]: each for each in manifests}
    assert len(found) == len(manifests)
    return found


def pod() -> dict[str, Any]:
    found: dict[str, Any] = objects()["Deployment"]["spec"]["template"]["spec"]
    return found


def test_the_overlay_of_the_readme_says_namespace_claim_and_image() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

    assert {kind: each["metadata"]["namespace"] for kind, each in objects().items()} == dict.fromkeys(
        ["ConfigMap", "Deployment", "NetworkPolicy", "ServiceAccount"], "team"
    )
    assert container(objects()["Deployment"])["image"] == f"registry.example.org/fedplane/notebook:{version}"
    assert [each["persistentVolumeClaim"] for each in pod()["volumes"] if "persistentVolumeClaim" in each] == [
        {"claimName": "mnist-model", "readOnly": True}
    ]


def test_the_pod_has_the_examples_own_notebook() -> None:
    (mounted,) = [each["configMap"]["name"] for each in pod()["volumes"] if "configMap" in each]

    assert objects()["ConfigMap"]["metadata"]["name"] == mounted
    assert objects()["ConfigMap"]["data"] == {name: (EXAMPLE / name).read_text() for name in ("validate.ipynb", "model_file.py")}


def test_the_pod_is_told_where_model_and_digits_are() -> None:
    itself = container(objects()["Deployment"])
    mounts = {each["name"]: each["mountPath"] for each in itself["volumeMounts"]}
    told = {each["name"]: each["value"] for each in itself["env"]}

    assert told == {"HOME": mounts["scratch"], "MODEL": mounts["model"], "DIGITS": "/app/data/heldout.npz"}
    assert "/app/data/heldout.npz" in IMAGE
    assert f"cp -L {mounts['notebook']}/* " in itself["args"][0]
    assert set(mounts) == {each["name"] for each in pod()["volumes"]}


def test_the_notebook_has_no_privilege_and_writes_only_what_goes_with_its_pod() -> None:
    itself = container(objects()["Deployment"])
    user = re.findall(r"^USER (\d+):(\d+)$", IMAGE, re.MULTILINE)[0]
    writable = {each["name"] for each in itself["volumeMounts"] if not each.get("readOnly")}

    assert itself["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod()["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": int(user[0]),
        "runAsGroup": int(user[1]),
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert [each["name"] for each in pod()["volumes"] if "emptyDir" in each] == sorted(writable)
    assert (pod()["serviceAccountName"], pod()["automountServiceAccountToken"]) == (objects()["ServiceAccount"]["metadata"]["name"], False)
    assert "memory" in itself["resources"]["limits"]


def test_nothing_reaches_the_notebook_and_it_reaches_nothing() -> None:
    labels = objects()["Deployment"]["spec"]["template"]["metadata"]["labels"]
    policy = objects()["NetworkPolicy"]["spec"]

    assert matches(objects()["Deployment"]["spec"]["selector"], labels)
    assert matches(policy["podSelector"], labels)
    assert {key: value for key, value in policy.items() if key != "podSelector"} == {"policyTypes": ["Ingress", "Egress"]}
    assert "--ip=127.0.0.1" in container(objects()["Deployment"])["args"][0], "where `kubectl port-forward` arrives"


def test_the_image_has_the_apps_pytorch_and_what_the_notebook_needs() -> None:
    dependencies = tomllib.loads((ROOT / "examples/01-mnist/pyproject.toml").read_text())["project"]["dependencies"]
    (pytorch,) = [each for each in dependencies if each.startswith("torch")]

    assert re.findall(r"torch\S*", IMAGE) == [pytorch]
    assert "--requirement /app/requirements.txt 'jupyterlab" in IMAGE
