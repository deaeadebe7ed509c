"""Requests for certificates as OCM's agents make them, and as those make them who mean harm; and what an API server asks about them."""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from authority_story import groups_of, user_of
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fedplane.authorizer.admission.judging import ADDON_LABEL, CLUSTER_LABEL

__all__ = ["ADDON", "HOST", "KEY", "OCM", "SIGNER", "USAGES", "Asker", "Asking", "agent", "pkcs10", "review"]

ADDON, SIGNER = "fedplane-collaborator", "fedplane.io/collaborator"
HOST = f"{ADDON}.addon.open-cluster-management.io"
USAGES = ("digital signature", "key encipherment", "client auth")
OCM = "system:open-cluster-management"
KEY = ec.generate_private_key(ec.SECP256R1())


@dataclass(frozen=True)
class Asker:
    """Who asks an API server, as it knows him."""

    username: str
    groups: tuple[str, ...] = ()


def agent(cluster: str) -> Asker:
    """A cluster's agent on the hub."""
    return Asker(f"{OCM}:{cluster}:x7vq2", (f"{OCM}:{cluster}", f"{OCM}:managed-clusters", "system:authenticated"))


def pkcs10(
    names: Iterable[str], groups: Iterable[str], others: Iterable[x509.GeneralName] = (x509.DNSName(HOST),), *further: x509.ExtensionType
) -> bytes:
    """A request in PEM. The groups are one set of several values, as Go writes them."""
    organizations = [_attribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    parts = [x509.RelativeDistinguishedName(organizations)] if organizations else []
    parts += [x509.RelativeDistinguishedName([_attribute(NameOID.COMMON_NAME, name)]) for name in names]
    builder = x509.CertificateSigningRequestBuilder(x509.Name(parts))
    for value in ([x509.SubjectAlternativeName(others)] if others else []) + list(further):
        builder = builder.add_extension(value, critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@dataclass(frozen=True)
class Asking:
    """A CertificateSigningRequest; what is not said is as OCM's agent says it of its own cluster."""

    cluster: str
    addon: str = ADDON
    signer: str = SIGNER
    usages: tuple[str, ...] = USAGES
    labels: Mapping[str, str] | None = None
    request: bytes | None = None
    name: str = "a-request"

    def manifest(self) -> dict[str, Any]:
        pem = self.request or pkcs10([user_of(self.cluster, self.addon)], groups_of(self.cluster, self.addon))
        labels = {CLUSTER_LABEL: self.cluster, ADDON_LABEL: self.addon} if self.labels is None else dict(self.labels)
        spec = {"request": base64.b64encode(pem).decode(), "signerName": self.signer, "usages": list(self.usages)}
        head = {"name": self.name, "labels": labels}
        return {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": head, "spec": spec}


def review(wanted: Mapping[str, Any], asker: Asker, operation: str = "CREATE", subresource: str = "", by: str = "") -> dict[str, Any]:
    """The question about it. Once it is stored the object names who has asked, and the user is who changes it."""
    who = {"username": asker.username, "groups": list(asker.groups)}
    changer = {"username": by or asker.username, "groups": ["system:authenticated"] if by else list(asker.groups)}
    resource = {"group": "certificates.k8s.io", "version": "v1", "resource": "certificatesigningrequests"}
    request = {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": {"group": "certificates.k8s.io", "version": "v1", "kind": "CertificateSigningRequest"},
        "resource": resource,
        "operation": operation,
        "userInfo": changer,
        "object": {**wanted, "spec": {**wanted["spec"], **who}},
        "oldObject": None,
        "dryRun": False,
    }
    if subresource:
        request["subResource"] = subresource
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


def _attribute(kind: x509.ObjectIdentifier, value: str) -> x509.NameAttribute[str]:
    return x509.NameAttribute(kind, value, _validate=False)  # OCM's names are longer than X.520 allows
