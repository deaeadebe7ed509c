"""The page about installing on Kubernetes tells its readers commands and files that work."""

import base64
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from apiserver import ApiServer, Server
from manifest_story import DEPLOY, KUBECTL, built_in, of_kind
from sources import ROOT

PAGE = (ROOT / "docs/how-to/install-on-kubernetes.md").read_text()
COMMANDS = [line.strip().partition("  #")[0].strip() for line in PAGE.splitlines() if line.startswith("    ")]
BLOCKS: list[str] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
HUB = BLOCKS[0]
(INIT,) = [each for each in COMMANDS if each.startswith("fedplane access init hub-keys ")]

TRIED_ELSEWHERE = re.compile(" (-k|-f|kustomize) | create ")
"""Manifests, which `test_manifests_on_a_server` gives to a server, and secrets."""

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

    readers_own = {"hub", "hub-keys", "laptop-keys"}
    assert named == {*readers_own, "deploy/overlays/kind", "deploy/overlays/openshift", "deploy/addon"}
    assert [each for each in named - readers_own if not (ROOT / each / "kustomization.yaml").exists()] == []


def test_every_component_is_explained() -> None:
    explained = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))

    assert explained == {each.name for each in (DEPLOY / "components").iterdir()} - {"cluster", "from-outside"}


def test_the_hub_of_the_page_is_built_with_the_readers_images_and_settings() -> None:
    manifests = built_in(HUB.replace("../deploy", "DEPLOY"))
    images = {image for each in manifests for image in re.findall(r"'image': '([^']+)'", str(each))}
    (settings,) = [each["data"] for each in manifests if each["metadata"]["name"].startswith("settings-")]

    assert {each for each in images if each.startswith("registry.example.org/fedplane/")} == {
        f"registry.example.org/fedplane/{role}:0.1.0" for role in ("authorizer", "scheduler", "aggregator", "status")
    }
    assert (settings["FEDPLANE_LOG_LEVEL"], settings["FEDPLANE_STREAM_REPLICAS"]) == ("debug", "3")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the page has its readers make of keys, and put beside them."""
    directory = tmp_path_factory.mktemp("page")
    (directory / "deploy").symlink_to(DEPLOY)
    for command in (INIT, *(each for each in COMMANDS if each.startswith("cp ") and each.endswith(" hub-keys/"))):
        run(f"PATH={KUBECTL.parent}:$PATH; {command}", directory)
    return directory / "hub-keys"


def test_the_authority_of_the_page_is_one_that_the_add_on_manager_can_sign_with(keys: Path) -> None:
    made = {each["metadata"]["name"]: each for each in yaml.safe_load_all(run(f"{KUBECTL} kustomize {keys}", keys))}

    secret = made["collaborator-ca"]
    key = base64.b64decode(secret["data"]["tls.key"]).decode()
    assert key.startswith("-----BEGIN RSA PRIVATE KEY-----"), "the only form it reads"
    assert (secret["type"], set(secret["data"])) == ("kubernetes.io/tls", {"tls.crt", "tls.key"})
    assert {each["metadata"]["namespace"] for each in made.values()} == {"fedplane"}
    services = (keys / "services.key").read_text()
    assert [name for name, each in made.items() for text in each["data"].values() if services in (text, decoded(text))] == []


def decoded(text: str) -> str:
    try:
        return base64.b64decode(text).decode()
    except ValueError:
        return text


def test_the_bus_of_the_page_has_a_certificate_for_every_name_under_which_it_is_reached() -> None:
    names = set(re.findall(r"--server-name '?([^ ']+)", INIT))
    maps = [each["data"] for each in of_kind("overlays/production", "ConfigMap")]
    urls = {value for each in maps for name, value in each.items() if name in {"FEDPLANE_NATS_URL", "FEDPLANE_INSIDE_URL"}}
    reached = set(re.findall(r"//([^:\s]+):6222", str(maps))) | {url.removeprefix("tls://").partition(":")[0] for url in urls}

    assert len(reached) == 5
    assert {host for host in reached if not {host, re.sub(r"^[^.]+", "*", host)} & names} == set()


def test_with_cert_manager_the_bus_has_the_readers_own_name_as_well() -> None:
    (certificates,) = [yaml.safe_load(each) for each in BLOCKS if "components/certificates" in each]
    hub = yaml.safe_load(HUB)
    mine = {**hub, "components": [*hub["components"], *certificates["components"]], "patches": certificates["patches"]}

    (nats,) = [
        each["spec"]
        for each in built_in(yaml.safe_dump(mine).replace("../deploy", "DEPLOY"))
        if (each["kind"], each["metadata"]["name"]) == ("Certificate", "nats")
    ]

    assert {"nats", "bus.example.org"} <= set(nats["dnsNames"])


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
