"""The manifests of the guard agree with the add-on, with the code, and with the page that has them installed."""

import re
import tomllib
from typing import Any

import pytest
import yaml
from manifest_story import DEPLOY, Manifest, built_in, container, matches, named, references
from sources import ROOT

from fedplane.authorizer.admission.judging import ADDON_LABEL, KIND
from fedplane.authorizer.admission.listening import HEALTH_PATH, QUESTION_PATH, QUESTION_SECONDS
from fedplane.authorizer.admission.settings import GuardSettings

PAGE = (ROOT / "docs/how-to/guard-certificates.md").read_text()
BLOCKS = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
OBJECTS = built_in(yaml.safe_dump(BLOCKS[0]).replace("../deploy", "DEPLOY"))


def the(kind: str, name: str = "guard") -> Manifest:
    (found,) = (each for each in OBJECTS if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return found


@pytest.fixture
def webhook() -> dict[str, Any]:
    (only,) = the("ValidatingWebhookConfiguration", "fedplane-guard")["webhooks"]
    return dict(only)


@pytest.fixture
def pod() -> dict[str, Any]:
    return dict(the("Deployment")["spec"]["template"]["spec"])


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> GuardSettings:
    for each in container(the("Deployment"))["env"]:
        monkeypatch.setenv(each["name"], each["value"])
    return GuardSettings()


def test_the_page_adds_the_guard_to_the_add_on_and_changes_nothing_of_it() -> None:
    kinds = sorted(each["kind"] for each in OBJECTS if each["metadata"]["name"].startswith(("guard", "fedplane-guard")))

    assert kinds == [
        "Certificate", "Certificate", "Deployment", "Issuer", "Issuer", "NetworkPolicy", "PodDisruptionBudget", "Service", "ServiceAccount",
        "ValidatingWebhookConfiguration",
    ]  # fmt: skip
    assert {each["metadata"].get("namespace") for each in OBJECTS if each["kind"] in set(kinds) - {"ValidatingWebhookConfiguration"}} == {
        "fedplane"
    }
    addon = built_in("resources: [DEPLOY/addon]\n")
    assert [each for each in addon if each not in OBJECTS] == []


def test_the_guard_judges_the_add_ons_signer_and_the_webhook_selects_its_label(settings: GuardSettings, webhook: dict[str, Any]) -> None:
    template = named("addon", "AddOnTemplate", settings.addon)["spec"]
    (registration,) = template["registration"]

    assert (template["addonName"], registration["customSigner"]["signerName"]) == (settings.addon, settings.guard_signer)
    assert webhook["objectSelector"] == {"matchLabels": {ADDON_LABEL: settings.addon}}


def test_the_webhook_asks_about_whatever_could_lead_to_a_certificate_and_fails_closed(webhook: dict[str, Any]) -> None:
    group, version, _ = KIND

    assert webhook["rules"] == [
        {
            "apiGroups": [group],
            "apiVersions": [version],
            "operations": ["CREATE", "UPDATE"],
            "resources": [f"certificatesigningrequests{part}" for part in ("", "/approval", "/status")],
            "scope": "Cluster",
        }
    ]
    assert (webhook["failurePolicy"], webhook["matchPolicy"], webhook["sideEffects"]) == ("Fail", "Equivalent", "None")
    assert (webhook["timeoutSeconds"], webhook["admissionReviewVersions"]) == (QUESTION_SECONDS, ["v1"])


def test_a_question_comes_to_where_the_guard_listens(settings: GuardSettings, webhook: dict[str, Any], pod: dict[str, Any]) -> None:
    asked, service = webhook["clientConfig"]["service"], the("Service")["spec"]
    (port,) = container(the("Deployment"))["ports"]
    (policy,) = the("NetworkPolicy")["spec"]["ingress"]

    assert asked == {"name": "guard", "namespace": "fedplane", "path": QUESTION_PATH, "port": service["ports"][0]["port"]}
    assert (service["ports"][0]["targetPort"], port["containerPort"]) == (port["name"], settings.guard_port)
    assert (policy, settings.guard_host) == ({"ports": [{"port": settings.guard_port}]}, "0.0.0.0")
    assert the("NetworkPolicy")["spec"]["policyTypes"] == ["Ingress", "Egress"]
    for probe in ("livenessProbe", "readinessProbe"):
        assert container(the("Deployment"))[probe]["httpGet"] == {"path": HEALTH_PATH, "port": port["name"], "scheme": "HTTPS"}


def test_everything_selects_the_guards_pods() -> None:
    labels = the("Deployment")["spec"]["template"]["metadata"]["labels"]
    selectors = [
        the("Deployment")["spec"]["selector"],
        the("PodDisruptionBudget")["spec"]["selector"],
        the("NetworkPolicy")["spec"]["podSelector"],
        {"matchLabels": the("Service")["spec"]["selector"]},
        *references(the("Deployment"), "labelSelector"),
    ]

    assert [matches(each, labels) for each in selectors] == [True] * 5
    assert {each["matchLabels"]["app.kubernetes.io/name"] for each in selectors} == {"guard"}


def test_the_certificate_is_for_the_services_name_however_it_is_made(settings: GuardSettings, pod: dict[str, Any]) -> None:
    (mount,), (volume,) = container(the("Deployment"))["volumeMounts"], pod["volumes"]
    made = the("Certificate")
    (host,) = made["spec"]["dnsNames"]
    (secret,) = re.findall(r"create secret tls (\S+)", PAGE)

    assert (mount["name"], volume["secret"]["secretName"]) == (volume["name"], made["spec"]["secretName"])
    assert {str(settings.guard_certificate), str(settings.guard_key)} == {f"{mount['mountPath']}/tls.{end}" for end in ("crt", "key")}
    assert (host, secret) == ("guard.fedplane.svc", made["spec"]["secretName"])
    assert f"subjectAltName=DNS:{host}" in PAGE
    assert the("ValidatingWebhookConfiguration", "fedplane-guard")["metadata"]["annotations"] == {
        "cert-manager.io/inject-ca-from": f"{made['metadata']['namespace']}/{made['metadata']['name']}"
    }
    issuer = the("Issuer", made["spec"]["issuerRef"]["name"])
    assert issuer["spec"]["ca"]["secretName"] == the("Certificate", "guard-ca")["spec"]["secretName"]


def test_its_pods_have_no_privilege_and_no_token(pod: dict[str, Any]) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    guard = container(the("Deployment"))

    assert guard["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert (pod["automountServiceAccountToken"], the("ServiceAccount")["automountServiceAccountToken"]) == (False, False)
    assert guard["command"] == ["python", "-m", "fedplane.authorizer.admission.main"]
    assert guard["image"] == f"registry.example.org/fedplane/authorizer:{version}"
    assert "USER 10001:10001" in (DEPLOY / "Dockerfile").read_text(), "a name would be no proof that it is not root"


def test_the_policy_of_the_page_is_about_the_same_signer(settings: GuardSettings) -> None:
    policy, binding = BLOCKS[1:]

    assert policy["spec"]["matchConditions"] == [{"name": "signer", "expression": f"object.spec.signerName == '{settings.guard_signer}'"}]
    assert (binding["spec"]["policyName"], binding["spec"]["validationActions"]) == (policy["metadata"]["name"], ["Deny"])
