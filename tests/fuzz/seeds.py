"""What decoders are meant to read, from which whoever changes inputs begins: examples from the tables, and what our own writers write.

They are made when they are needed, so that a new fact or field is tried without anybody thinking of it.
"""

import base64
import gzip
import json
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import forms
import masked_round
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from targets import TARGETS
from trying import corpus

from fedplane.authorizer.tokens import Signer
from fedplane.schemas import envelope
from fedplane.schemas.examples import EXAMPLES

__all__ = ["seeds"]

ROOT = Path(__file__).parents[2]
SEED = "SAAAAAICAMCAKBQHBAEQUCYMBUHA6EARCIJRIFIWC4MBSGQ3DQOR4HYMHI"
"""An account's, of the 32 bytes 0, 1, 2 ... 31."""

TENSORS = {
    "__metadata__": {"order": '["b", "a"]'},
    "a": {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]},
    "b": forms.entry("U8", 3, 8),
}
RECORDS = [
    {"name": "model", "kind": "arrays", "values": [["w", None], ["o", {"dtype": "object", "shape": [1], "form": "pickle"}]], "weight": ""},
    {"name": "said", "kind": "metrics", "values": [["num-examples", 3], ["loss", 0.5]], "weight": "num-examples"},
    {"name": "told", "kind": "config", "values": [["raw", {"bytes": 2}], ["parts", {"bytes": [1, 1]}], ["lr", 0.1]], "weight": ""},
]
REPLY = {
    "__metadata__": {"order": '["0/w", "0/o", "2/raw", "2/parts"]', "records": json.dumps(RECORDS)},
    "0/w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
    "0/o": forms.entry("U8", 2, 4), "2/parts": forms.entry("U8", 2, 6), "2/raw": forms.entry("U8", 2, 8),
}  # fmt: skip
METRICS = {"weight": 40, "metrics": {"loss": 0.31}, "configuration": {"lr": 0.1, "layers": ["a"]}}
UPSTREAM = {"metrics": {"num-examples": 40, "loss": "0.31"}, "labels": {"round": 3}}
RESOURCE = {
    "apiVersion": "federation-ai.open-cluster-management.io/v1alpha1",
    "kind": "FederatedLearning",
    "metadata": {"name": "mnist", "namespace": "default"},
    "spec": {
        "framework": "flower",
        "server": {"rounds": 3, "minAvailableClients": 2, "listeners": [{"name": "a", "port": 80, "type": "NodePort"}]},
        "client": {"placement": {"clusterSets": ["global"], "numberOfClusters": 2, "predicates": [{"requiredClusterSelector": {
            "labelSelector": {"matchLabels": {"a": "b"}}, "celSelector": {"celExpressions": ["true"]}}}]}},
        "rounds": {"deadlineSeconds": 60, "stop": {"metric": "loss", "mode": "min", "target": 0.1}},
        "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": "1"}}, "config": {"lr": 0.1, "names": ["a"]},
        "weights": {"cpu": 1},
    },
    "status": {"phase": "Running", "run": "mnist-5f3a9c1e"},
}  # fmt: skip
HUB = [
    {"kind": "ManagedCluster", "metadata": {"name": "amsterdam", "labels": {"a": "b"}}, "spec": {
        "hubAcceptsClient": True, "taints": [{"key": "a", "value": "b", "effect": "NoSelect", "timeAdded": "2026-01-02T03:04:05Z"}]},
     "status": {"clusterClaims": [{"name": "a", "value": "b"}], "allocatable": {"cpu": "4", "memory": "8Gi"}, "capacity": {"cpu": 4},
                "conditions": [{"type": "ManagedClusterConditionAvailable", "status": "True"}]}},
    {"kind": "ManagedClusterSet", "metadata": {"name": "s"}, "spec": {"clusterSelector": {
        "selectorType": "LabelSelector", "labelSelector": {"matchLabels": {"a": "b"}, "matchExpressions": [
            {"key": "a", "operator": "In", "values": ["b"]}]}}}},
    {"kind": "ManagedClusterSetBinding", "metadata": {"name": "s", "namespace": "n"}},
    {"kind": "PlacementDecision", "metadata": {"name": "p", "namespace": "n", "labels": {
        "cluster.open-cluster-management.io/placement": "p"}}, "status": {"decisions": [{"clusterName": "amsterdam"}]}},
    {"kind": "AddOnPlacementScore", "metadata": {"name": "s", "namespace": "amsterdam"}, "status": {
        "scores": [{"name": "x", "value": 5}], "validUntil": "2026-01-02T03:04:05Z"}},
]  # fmt: skip
PROJECT = """[project]
name = "app"
version = "1.0"
requires-python = ">=3.10,<4"
dependencies = ["numpy>=1.26", "flwr[simulation]>=1.20,<2"]
[tool.flwr.app]
publisher = "us"
"""
EXPRESSIONS = (
    'managedCluster.metadata.labels["region"].startsWith("e") && 1 + 2 * 3 > 4 ? true : !false',
    '"[1, 2.5, {\\"a\\": null}]".trim().parseJSON().exists(x, x == 1 || x in [1, 2]) || quantity("8Gi").isGreaterThan(quantity("500m"))',
    'managedCluster.scores("x").filter(s, s.name.matches("^a+$")).map(s, s.value).sum() >= -1 % 2',
    'semver("v1.2.3-rc.1", true).compareTo(semver("1.2.3")) == 1 && "a,b".split(",").join("-").replace("a", "b", 1) != r"x"',
    "[1, 2, 3].all(i, i < 4) && {'a': 1}.size() == 1 && has(managedCluster.metadata.labels) && int('5') == 5 && double(\"1e3\") > .5",
)
QUANTITIES = ("500m", "8Gi", "1e3", "-.5E-10", "9223372036854775807", "1.5Ei", "0.0000000001")
BROWSERS = (
    "GET /api/runs/mnist/rounds/3?since=1-2-3 HTTP/1.1\r\nHost: localhost:8080\r\nLast-Event-ID: 1-2-3\r\n\r\n",
    "HEAD / HTTP/1.0\r\nhost: [::1]\r\n\r\n",
)
WEBHOOKS = ("503 120\nbusy", "429 Wed, 21 Oct 2026 07:28:00 GMT\n", "301 \nelsewhere", "200 -1\n")
HEADERS = (
    "NATS/1.0\r\nce-type: a\r\nTraceparent: 00-8d68183b153a999790b1d13bf36188c6-a6ae4344de11cb90-01\r\n\r\n",
    "NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 1016\r\n\r\n",
    "NATS/1.0 404\r\n\r\n",
)
VIEW = {
    "run": "mnist", "name": "mnist", "namespace": "default", "phase": "Running", "message": "m", "sequence": 3, "training_rounds": 3,
    "submitted_at": "2026-01-02T03:04:05Z", "phases": {"Running": "2026-01-02T03:04:05Z"}, "metrics": {"loss": 0.5},
    "rounds": [{"round": 1, "task": "train", "training_round": 1, "state": "Open", "opened_at": "2026-01-02T03:04:05Z",
                "deadline": "2026-01-02T03:14:05Z", "invited": ["a"], "declined": [{"cluster": "a", "reason": "r", "message": "m"}]}],
}  # fmt: skip
DIGEST = "blake3:" + "0" * 64
MANIFEST = {"version": 1, "file": "model.safetensors", "bytes": 5, "file_digest": DIGEST, "origin": {
    "run": "mnist", "namespace": "default", "name": "mnist", "framework": "flower", "strategy": {"name": "fedavg", "parameters": {"a": 1}},
    "round": 3, "training_round": 2, "training_rounds": 3, "members": ["amsterdam"], "metrics": {"loss": 0.5}, "digest": DIGEST,
    "layout_digest": DIGEST, "submitted_at": "2026-01-02T03:04:05Z", "ended_at": "2026-01-02T03:04:05Z",
}}  # fmt: skip
QUESTION = {"iss": "NA", "nats": {"type": "authorization_request", "user_nkey": "UA", "server_id": {"id": "NA", "name": "n"},
            "client_tls": {"verified_chains": [["pem", "pem"]]}}}  # fmt: skip
ASKED = {"training_round": 1, "timeout_seconds": 3.5, "contents": 1, "instructions": [
    {"position": 0, "kind": "train", "group": "1", "content": 0}]}  # fmt: skip
REFUSED = {"kind": "Status", "status": "Failure", "message": "no", "code": 403}


@cache
def seeds(name: str) -> tuple[bytes, ...]:
    """The inputs to begin with: those that are meant, and those that were kept."""
    return (*_meant()[name], *corpus(name).values())


@cache
def _meant() -> dict[str, tuple[bytes, ...]]:
    facts = tuple(f"{fact.type} {fact.subject}\n".encode() + envelope.write(fact, "/cli").body for fact in EXAMPLES)
    golden = (ROOT / "tests/golden/events-2.jsonl").read_bytes()
    model, reply = _safetensors(TENSORS, 11), _safetensors(REPLY, 10)
    cancelled = next(fact for fact in facts if fact.startswith(b"io.fedplane.run.cancelled")).partition(b"\n")[2]
    meant = {
        "fact": facts,
        "structured-fact": tuple(golden.splitlines()),
        "log-of-a-service": (golden,),
        "message-headers": _texts(*HEADERS),
        "model-for-an-app": (model, reply),
        "replies-for-a-server": (reply,),
        "appended-layout": (_safetensors({"a": forms.entry("U8", 3, 0), "b": forms.entry("U8", 4, 3)}, 0),),
        "layout": (_safetensors(TENSORS, 0), _safetensors(REPLY, 0)),
        "update-of-a-program": (model,),
        "update-of-an-app": (model,),
        "metrics-of-a-program": _documents(METRICS, UPSTREAM),
        "answer-of-an-app": _documents(METRICS),
        "line-of-an-app": _documents({"said": "ready", "framework": "torch", "version": "2"}, {"said": "ended", "code": -9}),
        "questions-of-a-server": _documents(ASKED),
        "bundle": (forms.ZIP.write(b"", {"pyproject.toml": PROJECT, "app/client.py": "app = None\n"}, b""),),
        "recipe": _texts(PROJECT),
        "archive": (gzip.compress(b"".join(golden.splitlines(keepends=True)[:4]), mtime=0),),
        "token": _texts(Signer(SEED).sign({"sub": "UA", "nats": {"type": "user"}})),
        "question-of-a-bus": _documents(QUESTION),
        "certificate": _certificates(),
        "request-to-sign": (_signing_request(),),
        "review-of-a-request": _documents(_review()),
        "view": _documents(VIEW),
        "dead-letter": (b'{"reason": "gone", "status": 410, "attempts": 1, "at": "2026-01-02T03:04:05Z"}\n' + cancelled,),
        "objects-of-a-hub": _documents(HUB),
        "object-of-a-run": _documents({key: RESOURCE[key] for key in ("spec", "status")}),
        "expression": _texts(*EXPRESSIONS),
        "quantity": _texts(*QUANTITIES),
        "resource": _documents(RESOURCE),
        "file-of-a-run": tuple(path.read_bytes() for path in sorted((ROOT / "examples").glob("*/*.yaml"))[:6]),
        "answer-of-a-webhook": _texts(*WEBHOOKS),
        "answer-of-a-hub": _documents(REFUSED, [REFUSED]),
        "question-of-a-browser": _texts(*BROWSERS),
        "manifest-of-a-model": _documents(MANIFEST),
        "shares-from-a-hub": _documents(masked_round.seen_by_a_cluster(), masked_round.seen_by_a_cluster_with_noise()),
        "shares-from-clusters": _documents(masked_round.seen_by_the_hub()),
        "keys-of-another-cluster": _documents(masked_round.signed_keys()),
    }
    assert meant.keys() == TARGETS.keys(), "every decoder has an input to begin with"
    return meant


def _documents(*documents: object) -> tuple[bytes, ...]:
    return tuple(json.dumps(document).encode() for document in documents)


def _texts(*texts: str) -> tuple[bytes, ...]:
    return tuple(text.encode() for text in texts)


def _safetensors(header: object, size: int) -> bytes:
    return forms.SAFETENSORS.write(b"", header, bytes(size))


def _certificates() -> tuple[bytes, ...]:
    key, now = ec.derive_private_key(7, ec.SECP256R1()), datetime(2026, 1, 2, tzinfo=UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "o"), x509.NameAttribute(NameOID.COMMON_NAME, "fedplane:cli:a")])
    made = x509.CertificateBuilder(subject, subject, key.public_key(), 7, now, now.replace(year=2027)).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM), made.public_bytes(serialization.Encoding.DER)


def _signing_request() -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "o"), x509.NameAttribute(NameOID.COMMON_NAME, "a")])
    hosts = x509.SubjectAlternativeName([x509.DNSName("fedplane.addon.open-cluster-management.io")])
    made = x509.CertificateSigningRequestBuilder().subject_name(subject).add_extension(hosts, critical=False)
    return made.sign(ec.derive_private_key(7, ec.SECP256R1()), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _review() -> dict[str, object]:
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "1",
            "kind": {"group": "certificates.k8s.io", "version": "v1", "kind": "CertificateSigningRequest"},
            "operation": "CREATE",
            "userInfo": {
                "username": "system:open-cluster-management:amsterdam:agent",
                "groups": ["system:open-cluster-management:amsterdam"],
            },
            "object": {
                "metadata": {"name": "a", "labels": {}},
                "spec": {
                    "signerName": "open-cluster-management.io/signer",
                    "request": base64.b64encode(_signing_request()).decode(),
                    "usages": ["client auth"],
                    "username": "u",
                    "groups": ["g"],
                },
            },
        },
    }
