"""A real API server asks the guard about certificate requests, and stores none that one cluster makes for another.

The webhook is the manifests', but for the address; OCM, which would approve what is stored, is not there.
Agents are who the server says they are: an administrator's requests in their names (impersonation) look to admission as their own.
"""

import base64
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from apiserver import ApiServer
from authority_story import Authority, Known, groups_of, user_of
from guard_story import ADDON, OCM, SIGNER, Asking, agent, pkcs10
from manifest_story import KUBECTL, Manifest, built_in
from sources import ROOT

from fedplane.authorizer.admission.judging import ADDON_LABEL, CLUSTER_LABEL

REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
ROLES = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
BINDINGS = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
READY_SECONDS = 20

PAGE = (ROOT / "docs/how-to/guard-certificates.md").read_text()
COMMANDS = [line.strip() for line in PAGE.splitlines() if line.startswith("    ")]
OF_THE_PAGE = re.findall(r"```yaml\n# addon/.*?\n(.*?)```", PAGE, re.DOTALL)[0].replace("../deploy", "DEPLOY")
BY_HAND = OF_THE_PAGE.replace("  - DEPLOY/addon/guard/cert-manager\n", "")


@dataclass
class Guard:
    """The guard as a process, with a certificate that was made as the page says."""

    directory: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        log = self.directory / "guard.log"
        log.write_bytes(b"")
        files = {f"FEDPLANE_GUARD_{name}": str(self.directory / f"guard.{end}") for name, end in (("CERTIFICATE", "crt"), ("KEY", "key"))}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fedplane.authorizer.admission.main"],
            env={**os.environ, **files, "FEDPLANE_GUARD_PORT": str(self.port)},
            stderr=log.open("ab"),
        )
        give_up = time.monotonic() + READY_SECONDS
        while not (ready := re.search(r"event=ready port=(\d+)", log.read_text())):
            assert time.monotonic() < give_up, log.read_text()
            time.sleep(0.02)
        self.port = int(ready[1])

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(10)

    @property
    def log(self) -> str:
        return (self.directory / "guard.log").read_text()


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guard]:
    guard = Guard(tmp_path_factory.mktemp("guard"))
    (command,) = [each for each in COMMANDS if each.startswith("openssl")]
    subprocess.run(command.replace(".svc", ".svc,IP:127.0.0.1"), shell=True, cwd=guard.directory, check=True, capture_output=True)
    guard.start()
    yield guard
    guard.stop()


@pytest.fixture(scope="module")
def server(api_server: ApiServer, guard: Guard) -> Iterator[ApiServer]:
    """With the guard's webhook, and clusters' agents that may create requests, and change them, which OCM does not let them."""
    rule = {"apiGroups": ["certificates.k8s.io"], "resources": ["certificatesigningrequests"], "verbs": ["create", "get", "list", "patch"]}
    api_server.request("POST", ROLES, {"metadata": {"name": "agents"}, "rules": [rule]})
    subjects = [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": f"{OCM}:{each}"} for each in ("amsterdam", "berlin")]
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "agents"}
    api_server.request("POST", BINDINGS, {"metadata": {"name": "agents"}, "roleRef": reference, "subjects": subjects})
    store(api_server, Asking("berlin", name="older", request=for_berlin()), "amsterdam")
    store(api_server, Asking("berlin", name="older-and-denied", request=for_berlin()), "amsterdam")
    store(api_server, Asking("berlin", name="older-and-approved", request=for_berlin()), "amsterdam")
    decide(api_server, "older-and-approved", "Approved")

    (webhook,) = [each for each in built_in(BY_HAND) if each["kind"] == "ValidatingWebhookConfiguration"]
    api_server.request("POST", WEBHOOKS, at_address(webhook, guard))
    (command,) = [each for each in COMMANDS if each.startswith("kubectl patch")]
    environment = {**os.environ, "KUBECONFIG": str(api_server.kubeconfig)}
    subprocess.run(f"{KUBECTL.parent}/{command}", shell=True, cwd=guard.directory, env=environment, check=True, capture_output=True)
    await_webhook(api_server)
    yield api_server
    for path in (f"{WEBHOOKS}/fedplane-guard", f"{BINDINGS}/agents", f"{ROLES}/agents"):
        api_server.request("DELETE", path)
    api_server.clear([REQUESTS])


def at_address(webhook: Manifest, guard: Guard) -> Manifest:
    (only,) = webhook["webhooks"]
    path = only["clientConfig"]["service"]["path"]
    return webhook | {"webhooks": [only | {"clientConfig": {"url": f"https://127.0.0.1:{guard.port}{path}"}}]}


def await_webhook(server: ApiServer) -> None:
    """A server hears of a new webhook a moment later."""
    give_up = time.monotonic() + READY_SECONDS
    while "denied the request" not in refused(server, Asking("berlin", name="probe"), "amsterdam", "?dryRun=All"):
        assert time.monotonic() < give_up, "the server does not ask the guard"
        time.sleep(0.05)


def for_berlin() -> bytes:
    return pkcs10([user_of("berlin", ADDON)], groups_of("berlin", ADDON))


def store(server: ApiServer, wanted: Asking, cluster: str, query: str = "", path: str = REQUESTS) -> Any:
    who = agent(cluster)
    version = path.removeprefix("/apis/").rpartition("/")[0]
    body = wanted.manifest() | {"apiVersion": version}
    return server.request("POST", path + query, body, Impersonate_User=who.username, Impersonate_Group=who.groups[0])


def message(error: urllib.error.HTTPError) -> str:
    return str(json.loads(error.read())["message"])


def refused(server: ApiServer, wanted: Asking, cluster: str, query: str = "", path: str = REQUESTS) -> str:
    """What the server says against it, or nothing."""
    try:
        store(server, wanted, cluster, query, path)
    except urllib.error.HTTPError as error:
        return message(error)
    return ""


def stored(server: ApiServer) -> set[str]:
    return {each["metadata"]["name"] for each in server.request("GET", REQUESTS)["items"]}


def test_a_clusters_own_request_is_stored(server: ApiServer, guard: Guard) -> None:
    made = store(server, Asking("amsterdam", name="own"), "amsterdam")

    assert (made["spec"]["username"], "own" in stored(server)) == (agent("amsterdam").username, True)
    assert "cluster=amsterdam" in guard.log


def test_a_request_to_another_signer_is_stored_although_it_has_the_add_ons_label(server: ApiServer) -> None:
    other = replace(Asking("berlin", name="elsewhere"), signer="kubernetes.io/kube-apiserver-client", request=for_berlin())

    assert refused(server, other, "amsterdam") == ""
    assert "elsewhere" in stored(server)


@pytest.mark.parametrize(
    ("wanted", "asks", "reason"),
    [
        (
            Asking("berlin"),
            "amsterdam",
            "the agent of the cluster amsterdam asks for a certificate of berlin; each cluster asks for its own",
        ),
        (Asking("amsterdam", request=for_berlin()), "amsterdam", "asks for a certificate of berlin"),
        (Asking("amsterdam"), "berlin", "the agent of the cluster berlin asks for a certificate of amsterdam"),
        (Asking("amsterdam", labels={CLUSTER_LABEL: "berlin", ADDON_LABEL: ADDON}), "amsterdam", "should be 'amsterdam', and is 'berlin'"),
        (Asking("amsterdam", request=pkcs10(["fedplane:cli:x"], [])), "amsterdam", "'fedplane:cli:x' is no agent of the add-on"),
        (Asking("amsterdam", usages=("server auth",)), "amsterdam", "the use 'server auth' is asked for as well"),
    ],
)
def test_another_request_is_refused_with_the_sentence_and_not_stored(wanted: Asking, asks: str, reason: str, server: ApiServer) -> None:
    hostile = replace(wanted, name="hostile")

    said = refused(server, hostile, asks)

    assert said.startswith(f'admission webhook "guard.fedplane.io" denied the request: no certificate of {SIGNER} for this request: ')
    assert reason in said
    assert "hostile" not in stored(server)


def test_an_administrator_is_no_clusters_agent_either(server: ApiServer) -> None:
    with pytest.raises(urllib.error.HTTPError) as error:
        server.request("POST", REQUESTS, Asking("amsterdam", name="admins").manifest())

    assert "'admin' is no cluster's agent" in message(error.value)


def test_a_request_in_an_older_version_of_the_api_is_judged_as_well(server: ApiServer) -> None:
    older = "/apis/certificates.k8s.io/v1beta1/certificatesigningrequests"
    versions = {each["version"] for each in server.request("GET", "/apis/certificates.k8s.io")["versions"]}
    if "v1beta1" not in versions:
        pytest.skip("this server has no older version of the API")

    assert "asks for a certificate of berlin" in refused(server, Asking("berlin", name="hostile"), "amsterdam", path=older)
    assert refused(server, Asking("amsterdam", name="own-older"), "amsterdam", path=older) == ""
    with pytest.raises(urllib.error.HTTPError) as error:
        decide(server, "older", "Approved", older)
    assert "asks for a certificate of berlin" in message(error.value)


def test_a_label_that_is_put_on_later_is_judged_when_it_comes(server: ApiServer) -> None:
    store(server, Asking("berlin", name="bare", labels={}), "amsterdam")
    labels = {"metadata": {"labels": {CLUSTER_LABEL: "berlin", ADDON_LABEL: ADDON}}}
    patch = {"Content_Type": "application/merge-patch+json"}

    for who in ({"Impersonate_User": agent("amsterdam").username, "Impersonate_Group": agent("amsterdam").groups[0]}, {}):
        with pytest.raises(urllib.error.HTTPError) as error:
            server.request("PATCH", f"{REQUESTS}/bare", labels, **patch, **who)
        assert "the agent of the cluster amsterdam asks for a certificate of berlin" in message(error.value)

    assert "labels" not in server.request("GET", f"{REQUESTS}/bare")["metadata"]


def decide(server: ApiServer, name: str, condition: str, requests: str = REQUESTS) -> Any:
    """As OCM's approver would."""
    held = server.request("GET", f"{requests}/{name}")
    said = {"type": condition, "status": "True", "reason": "ByTest", "message": "says a test"}
    return server.request("PUT", f"{requests}/{name}/approval", held | {"status": {"conditions": [said]}})


def hand_out(server: ApiServer, name: str, certificate: Known) -> Any:
    """As OCM's signer would."""
    held = server.request("GET", f"{REQUESTS}/{name}")
    given = {"certificate": base64.b64encode(certificate.pem.encode()).decode()}
    return server.request("PUT", f"{REQUESTS}/{name}/status", held | {"status": held["status"] | given})


def test_a_request_that_is_older_than_the_guard_cannot_be_approved_and_can_be_denied(server: ApiServer) -> None:
    with pytest.raises(urllib.error.HTTPError) as error:
        decide(server, "older", "Approved")

    assert "asks for a certificate of berlin" in message(error.value)
    assert decide(server, "older-and-denied", "Denied")["status"]["conditions"][0]["type"] == "Denied"
    store(server, Asking("amsterdam", name="approved"), "amsterdam")
    assert decide(server, "approved", "Approved")["status"]["conditions"][0]["type"] == "Approved"


def test_a_request_that_was_approved_before_the_guard_was_there_gets_no_certificate(server: ApiServer, tmp_path: Path) -> None:
    authority = Authority(tmp_path, "collaborators")
    store(server, Asking("amsterdam", name="signed"), "amsterdam")
    decide(server, "signed", "Approved")

    with pytest.raises(urllib.error.HTTPError) as error:
        hand_out(server, "older-and-approved", authority.agent("berlin", ADDON))

    assert "asks for a certificate of berlin" in message(error.value)
    assert "certificate" in hand_out(server, "signed", authority.agent("amsterdam", ADDON))["status"]


def test_with_no_guard_there_only_the_add_ons_requests_are_refused(server: ApiServer, guard: Guard) -> None:
    kubelet = Asking("amsterdam", signer="kubernetes.io/kube-apiserver-client", labels={CLUSTER_LABEL: "amsterdam"})
    assert refused(server, replace(kubelet, name="kubelets-before"), "amsterdam") == ""
    assert guard.stop() == 0
    try:
        assert 'failed calling webhook "guard.fedplane.io"' in refused(server, Asking("amsterdam", name="down"), "amsterdam")
        assert refused(server, replace(kubelet, name="kubelets"), "amsterdam") == ""
        assert {"kubelets-before", "kubelets", "down"} & stored(server) == {"kubelets-before", "kubelets"}
    finally:
        guard.start()

    assert refused(server, Asking("amsterdam", name="up-again"), "amsterdam") == ""


def test_the_server_takes_the_guards_other_manifests(server: ApiServer) -> None:
    unknown = {"PodDisruptionBudget", "Issuer", "Certificate"}  # of Kubernetes 1.21, and of cert-manager
    plurals = {"ServiceAccount": "serviceaccounts", "Deployment": "deployments", "Service": "services", "NetworkPolicy": "networkpolicies"}
    server.request("PATCH", "/api/v1/namespaces/fedplane?fieldManager=test&force=true", namespace(), Content_Type=APPLY)
    guards = [each for each in built_in(OF_THE_PAGE) if each["metadata"]["name"].startswith("guard")]

    for manifest in (each for each in guards if each["kind"] not in unknown):
        group = f"/apis/{manifest['apiVersion']}" if "/" in manifest["apiVersion"] else "/api/v1"
        path = f"{group}/namespaces/fedplane/{plurals[manifest['kind']]}/guard?fieldManager=test&force=true&dryRun=All"
        assert server.request("PATCH", path, manifest, Content_Type=APPLY)["metadata"]["name"] == "guard"

    assert {each["kind"] for each in guards} == unknown | plurals.keys()


APPLY = "application/apply-patch+yaml"


def namespace() -> Manifest:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "fedplane"}}
