"""What stands in a certificate, as far as we ask: its subject's names and groups, and which certificate it is.

Whether it is valid, whose signature it has and whether its holder has the key is the server's business, which has checked all of that.
"""

from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from fedplane.runtime.errors import BadInput

__all__ = ["Certificate", "parse"]


@dataclass(frozen=True, slots=True)
class Certificate:
    """The subject's common names and organizations (Kubernetes' users and groups), and the SHA-256 of the whole."""

    common_names: tuple[str, ...]
    groups: frozenset[str]
    fingerprint: str


def parse(pem: str) -> Certificate:
    """The certificate in a PEM text. Raises BadInput for what is none."""
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        subject = certificate.subject
    except ValueError as error:
        raise BadInput(f"that is no certificate in PEM: {error}") from error
    names = tuple(str(each.value) for each in subject.get_attributes_for_oid(NameOID.COMMON_NAME))
    groups = frozenset(str(each.value) for each in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME))
    return Certificate(names, groups, certificate.fingerprint(hashes.SHA256()).hex())
