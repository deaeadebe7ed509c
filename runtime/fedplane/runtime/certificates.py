"""Authorities, and the certificates that they sign: for a federation that has nobody else to make them.

A certificate says who its holder is, and the authorizer reads it there. So the subjects of all kinds of clients are made here.
Keys are of P-256, which every TLS library knows and which takes a fraction of a millisecond to make.
But an authority that a hub is to sign with has an RSA key, since Open Cluster Management reads no other one, and that as PKCS #1.
Where keys and certificates are kept is the caller's business, and what their holder may do is the authorizer's.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from warnings import catch_warnings, simplefilter

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedplane.runtime.errors import BadInput
from fedplane.schemas.roles import Role

__all__ = ["AUTHORITY_LASTS", "Authority", "Issued", "Subject", "of_agent", "of_client", "of_server", "valid_until"]

AUTHORITY_LASTS = timedelta(days=3650)
"""Longer than a federation on one machine, or a trial on a hub, will be. A lasting one has an authority of its own."""

BACKDATED = timedelta(hours=1)
"""From when on a certificate counts, before it was made: clocks of two machines differ."""

RSA_BITS = 3072
"""As strong as P-256: NIST SP 800-57, part 1."""

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

OCM = "system:open-cluster-management"
"""What Open Cluster Management's names of add-ons' agents begin with: `pkg/registration/register/csr` of its registration."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a certificate names: Kubernetes' user and groups, to OCM. Servers have hosts besides, names or addresses."""

    common_name: str
    organizations: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()


def of_client(role: Role, name: str) -> Subject:
    """A service, an operator or a subscriber."""
    return Subject(f"fedplane:{role}:{name}")


def of_agent(cluster: str, addon: str) -> Subject:
    """The agent of an add-on on a cluster, as OCM names it. It is our collaborator."""
    groups = (f"{OCM}:cluster:{cluster}:addon:{addon}", f"{OCM}:addon:{addon}")
    return Subject(f"{OCM}:cluster:{cluster}:addon:{addon}:agent:{addon}-agent", groups)


def of_server(hosts: Iterable[str]) -> Subject:
    """A server that is reached under these names and addresses."""
    return Subject("fedplane:nats", hosts=tuple(hosts))


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its key, in PEM; until when it counts, and its SHA-256 in hexadecimal digits."""

    certificate: str
    key: str
    until: datetime
    fingerprint: str


class Authority:
    """Signs certificates. Servers and clients know those of its own by its certificate, which it has signed itself."""

    def __init__(self, certificate: x509.Certificate, key: Key) -> None:
        self._certificate, self._key = certificate, key

    @classmethod
    def new(cls, name: str, now: datetime, *, for_hub: bool = False) -> "Authority":
        """An authority of that name, with a key that nobody else has; `for_hub`, one that Open Cluster Management can sign with."""
        key: Key = rsa.generate_private_key(65537, RSA_BITS) if for_hub else ec.generate_private_key(ec.SECP256R1())
        subject = _name(Subject(name))
        certificate = (
            _builder(subject, subject, key.public_key(), key.public_key(), now, AUTHORITY_LASTS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    @classmethod
    def read(cls, certificate: str, key: str) -> "Authority":
        """The authority that was kept as these two texts in PEM. Raises BadInput unless they are such, and belong together."""
        try:
            loaded = serialization.load_pem_private_key(key.encode(), None)
        except (ValueError, TypeError) as error:
            raise BadInput(f"that is no key in PEM without a password: {error}") from error
        authority = _loaded(certificate)
        if not isinstance(loaded, Key) or loaded.public_key() != authority.public_key():
            raise BadInput("the key is not that of the authority's certificate")
        return cls(authority, loaded)

    @property
    def certificate(self) -> str:
        """What others know it by, in PEM."""
        return _pem(self._certificate)

    @property
    def key(self) -> str:
        """What it signs with, in PEM: whoever has it can be anybody."""
        return _key_pem(self._key)

    @property
    def until(self) -> datetime:
        """When everything ends that it has signed."""
        return self._certificate.not_valid_after_utc

    def issue(self, subject: Subject, now: datetime, lasts: timedelta) -> Issued:
        """A certificate and its key. One with hosts is a server's, any other one a client's."""
        key = ec.generate_private_key(ec.SECP256R1())
        both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]  # to another server of its cluster a server is a client
        purposes = both if subject.hosts else both[1:]
        builder = (
            _builder(_name(subject), self._certificate.subject, key.public_key(), self._key.public_key(), now, lasts)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        )
        if subject.hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName([_host(each) for each in subject.hosts]), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return Issued(
            _pem(certificate), _key_pem(key), certificate.not_valid_after_utc, certificate.fingerprint(hashes.SHA256()).hex()
        )  # fmt: skip

    def has_issued(self, certificate: str) -> bool:
        """Whether the first certificate of a text in PEM has the signature of this authority."""
        try:
            _loaded(certificate).verify_directly_issued_by(self._certificate)
        except (BadInput, ValueError, TypeError, InvalidSignature):
            return False
        return True


def valid_until(certificate: str) -> datetime:
    """When the first certificate of a text in PEM ends. Raises BadInput if there is none."""
    return _loaded(certificate).not_valid_after_utc


def _loaded(certificate: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(certificate.encode())
    except ValueError as error:
        raise BadInput(f"that is no certificate in PEM: {error}") from error


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PublicKey, signs: PublicKey,
    now: datetime, lasts: timedelta,
) -> x509.CertificateBuilder:  # fmt: skip
    """With what strict verifiers want of every certificate (RFC 5280): which key it is about, and which one has signed it."""
    builder = x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number(), now - BACKDATED, now + lasts)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False).add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(signs), critical=False
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    """An authority signs certificates and lists of revoked ones; everyone else signs what TLS has him sign."""
    return x509.KeyUsage(
        digital_signature=not signs, key_cert_sign=signs, crl_sign=signs, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _name(subject: Subject) -> x509.Name:
    organizations = [_attribute(NameOID.ORGANIZATION_NAME, each) for each in subject.organizations]
    return x509.Name([*organizations, _attribute(NameOID.COMMON_NAME, subject.common_name)])


def _attribute(kind: x509.ObjectIdentifier, value: str) -> x509.NameAttribute[str]:
    """Unchecked, since OCM's names of agents are longer than the 64 characters of X.520. Go and OpenSSL read them all the same."""
    with catch_warnings():
        simplefilter("ignore", UserWarning)
        return x509.NameAttribute(kind, value, _validate=False)


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: Key) -> str:
    form = serialization.PrivateFormat.TraditionalOpenSSL if isinstance(key, rsa.RSAPrivateKey) else serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
