"""What stands in a certificate, as far as we ask: its subject's names and groups, and which certificate it is.

Whether it is valid, whose signature it has and whether its holder has the key is the server's business, which has checked all of that.
"""

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from fedplane.runtime.errors import BadInput

__all__ = ["Certificate", "parse", "parse_all"]

NO_CERTIFICATE = (ValueError, TypeError, x509.InvalidVersion)
"""What the library raises for bytes that are none: the second for a name of an odd kind, the last for a version that there is not."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """The subject's common names and organizations (Kubernetes' users and groups), its end, and the SHA-256 of the whole."""

    common_names: tuple[str, ...]
    groups: frozenset[str]
    fingerprint: str
    until: datetime | None = None


def parse(pem: str) -> Certificate:
    """The certificate in a PEM text. Raises BadInput for what is none."""
    try:
        return _read(x509.load_pem_x509_certificate(pem.encode()))
    except NO_CERTIFICATE as error:
        raise BadInput(f"that is no certificate in PEM: {error}") from error


def parse_all(pem: bytes) -> tuple[Certificate, ...]:
    """The certificates in a file; there is one at least. Raises BadInput for what is none."""
    try:
        return tuple(map(_read, x509.load_pem_x509_certificates(pem)))
    except NO_CERTIFICATE as error:
        raise BadInput(f"there is no certificate in PEM: {error}") from error


def _read(certificate: x509.Certificate) -> Certificate:
    subject = certificate.subject
    names = tuple(str(each.value) for each in subject.get_attributes_for_oid(NameOID.COMMON_NAME))
    groups = frozenset(str(each.value) for each in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME))
    return Certificate(names, groups, certificate.fingerprint(hashes.SHA256()).hex(), certificate.not_valid_after_utc)
