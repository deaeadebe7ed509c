"""The page about installing on Kubernetes tells its readers commands and files that work."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from apiserver import ApiServer, Server
from manifest_story import DEPLOY, KUBECTL, built_in
from sources import ROOT

PAGE = (ROOT / "docs/how-to/install-on-kubernetes.md").read_text()
COMMANDS = [line.strip().partition("  #")[0].strip() for line in PAGE.splitlines() if line.startswith("    ")]
HUB: str = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0]

TRIED_ELSEWHERE = re.compile(" (-k|-f|kustomize) | create ")
"""Manifests, which `test_manifests_on_a_server` gives to a server, and the authority's secret."""

NOT_THERE = (
    "Error from server (NotFound)",
    *(f'error: the server doesn\'t have a resource type "{kind}"' for kind in ("route", "scaledobject")),
)
"""How a server refuses what would be right if the page's objects were there, and OpenShift and KEDA."""

CHANGING = re.compile(" (delete|patch|scale) ")
"""What would change objects of whatever tests asked this server before, and wait, say, for a run's finalizer that nobody takes away."""

ENOUGH_SECONDS = 60
"""For one command of the page; most answer within one."""


def commands(word: str) -> list[str]:
    return [each for each in COMMANDS if each.startswith(word)]


def run(command: str, directory: Path) -> str:
    done = subprocess.run(["bash", "-c", command], cwd=directory, capture_output=True, text=True, check=False, timeout=ENOUGH_SECONDS)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_directory_that_is_applied_can_be_built() -> None:
    named = set(re.findall(r"(?:-k|kustomize) (\S+)", "\n".join(COMMANDS)))

    assert named == {"hub", "deploy/overlays/kind", "deploy/overlays/openshift", "deploy/addon"}
    assert [each for each in named - {"hub"} if not (ROOT / each / "kustomization.yaml").exists()] == []


def test_every_component_is_explained() -> None:
    explained = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))

    assert explained == {each.name for each in (DEPLOY / "components").iterdir()} - {"cluster", "from-outside"}


def test_the_hub_of_the_page_is_built_with_the_readers_images_and_settings() -> None:
    manifests = built_in(HUB.replace("../deploy", "DEPLOY"))
    images = {image for each in manifests for image in re.findall(r"'image': '([^']+)'", str(each))}
    (settings,) = [each["data"] for each in manifests if each["metadata"]["name"].startswith("settings-")]

    assert {each for each in images if each.startswith("registry.example.org/fedplane/")} == {
        f"registry.example.org/fedplane/{role}:0.1.0" for role in ("scheduler", "aggregator", "status")
    }
    assert (settings["FEDPLANE_LOG_LEVEL"], settings["FEDPLANE_STREAM_REPLICAS"]) == ("debug", "3")


def test_the_authority_of_the_page_is_one_that_the_add_on_manager_can_sign_with(tmp_path: Path) -> None:
    for command in commands("openssl"):
        run(command, tmp_path)
    (create,) = [each for each in commands("kubectl") if "collaborator-ca.key" in each]

    secret = yaml.safe_load(run(f"{KUBECTL.parent}/{create} --dry-run=client --output=yaml", tmp_path))

    assert (tmp_path / "collaborator-ca.key").read_text().startswith("-----BEGIN RSA PRIVATE KEY-----"), "the only form it reads"
    assert (secret["type"], set(secret["data"])) == ("kubernetes.io/tls", {"tls.crt", "tls.key"})
    assert secret["metadata"] == {"name": "collaborator-ca", "namespace": "fedplane"}


@pytest.mark.parametrize("command", sorted({each for each in commands("kubectl apply") if "deploy/crds" in each}))
def test_the_definition_is_applied_as_the_page_says(command: str, api_server: ApiServer, tmp_path: Path) -> None:
    """Without its rules, since this server is older than they are; and forced, since it has the definition from somebody else already."""
    (definition,) = (DEPLOY / "crds").iterdir()
    (tmp_path / "deploy/crds").mkdir(parents=True)
    (tmp_path / "deploy/crds" / definition.name).write_text(json.dumps(without_rules(yaml.safe_load(definition.read_text()))))

    said = run(f"{KUBECTL.parent}/{command} --force-conflicts --dry-run=server --kubeconfig={api_server.kubeconfig}", tmp_path)

    assert "federatedlearnings.federation-ai.open-cluster-management.io serverside-applied (server dry run)" in said


@pytest.mark.parametrize("command", dict.fromkeys(each for each in commands("kubectl") if not TRIED_ELSEWHERE.search(each)))
def test_kubectl_and_a_hub_understand_what_the_page_asks(command: str, hub_server: Server, tmp_path: Path) -> None:
    """What is asked for is mostly not there, as the server says. What kubectl does not understand, it says before it asks anybody."""
    asked = f"{KUBECTL.parent}/{command} --kubeconfig={hub_server.kubeconfig} --request-timeout=5s"
    if CHANGING.search(command):
        asked += " --dry-run=server"

    done = subprocess.run(["bash", "-c", asked], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=ENOUGH_SECONDS)

    said = done.stderr.strip().rpartition("\n")[2]
    assert done.returncode == 0 or said.startswith(NOT_THERE), said


def without_rules(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_rules(inner) for key, inner in value.items() if key != "x-kubernetes-validations"}
    return [without_rules(inner) for inner in value] if isinstance(value, list) else value
