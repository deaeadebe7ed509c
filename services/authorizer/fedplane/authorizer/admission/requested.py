"""What a certificate request (PKCS#10) asks for, read so that whoever signs it can find nothing else in it.

The signer on a hub is a Go program, and parsers differ: in which of two PEM blocks counts, in which of two lists of extensions.
So whatever leaves a choice is refused: the text has to be what this one request looks like when it is written anew,
with one list of extensions at most, and nothing in it but other names.
Whether somebody may ask for that is `judging`'s business.
"""

from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from fedplane.runtime.errors import BadInput

__all__ = ["REQUEST_BYTES_MAX", "Requested", "parse_request"]

REQUEST_BYTES_MAX = 8_192
"""OCM's agents send less than 1,000, with an elliptic key; one with an RSA key of 4,096 bits has 2,600."""

EXTENSION_REQUEST = x509.ObjectIdentifier("1.2.840.113549.1.9.14")
"""The attribute that holds the extensions which a certificate should have (RFC 2985, section 5.4.2)."""

UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What the library raises for what it cannot read; some of it when it is asked for a part, and not before."""


@dataclass(frozen=True, slots=True)
class Requested:
    """The subject's common names and organizations (Kubernetes' users and groups), and the hosts' names besides."""

    common_names: tuple[str, ...]
    groups: frozenset[str]
    hosts: frozenset[str]


def parse_request(pem: bytes) -> Requested:
    """What a request in PEM asks for. Raises BadInput for anything that is not exactly that, or that its key has not signed."""
    if len(pem) > REQUEST_BYTES_MAX:
        raise BadInput(f"the request has {len(pem):,} bytes, and {REQUEST_BYTES_MAX:,} are read at most")
    try:
        request = x509.load_pem_x509_csr(pem)
        if request.public_bytes(Encoding.PEM).strip() != pem.strip():
            raise BadInput("the request is not one PEM block in its plain form: leave out headers, other blocks and remarks")
        if not request.is_signature_valid:
            raise BadInput("the request is not signed by the key that it names")
        names, groups = _subject(request)
        return Requested(names, groups, _hosts(request))
    except UNREADABLE as error:
        raise BadInput(f"that is no certificate request that can be read: {error}") from error


def _subject(request: x509.CertificateSigningRequest) -> tuple[tuple[str, ...], frozenset[str]]:
    found: dict[x509.ObjectIdentifier, list[str]] = {NameOID.COMMON_NAME: [], NameOID.ORGANIZATION_NAME: []}
    for attribute in request.subject:
        if attribute.oid not in found:
            raise BadInput(f"the requested subject has {attribute.rfc4514_attribute_name}, and should have CN and O only")
        found[attribute.oid].append(str(attribute.value))
    return tuple(found[NameOID.COMMON_NAME]), frozenset(found[NameOID.ORGANIZATION_NAME])


def _hosts(request: x509.CertificateSigningRequest) -> frozenset[str]:
    attributes = [each.oid for each in request.attributes]
    if others := [each for each in attributes if each != EXTENSION_REQUEST]:
        raise BadInput(f"the request has the attribute {others[0].dotted_string}, and should have none but its extensions")
    if len(attributes) > 1:
        raise BadInput(f"the request has {len(attributes)} lists of extensions, and should have one at most")
    hosts: list[str] = []
    for extension in request.extensions:
        if not isinstance(extension.value, x509.SubjectAlternativeName):
            raise BadInput(f"the request asks for the extension {extension.oid.dotted_string}, and may ask for other names only")
        for name in extension.value:
            if not isinstance(name, x509.DNSName):
                raise BadInput(f"the request asks for {name.value!s} as another name, and may ask for a host's name only")
            hosts.append(name.value)
    return frozenset(hosts)
