"""Authorities and what they sign: certificates as OCM's registration makes them for add-ons, and as an operator makes them for services."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fedplane.runtime.nats import Credentials
from fedplane.schemas.roles import Role, inbox_of

__all__ = ["ADDON", "Authority", "Known", "groups_of", "user_of"]

ADDON = "fedplane"
OCM = "system:open-cluster-management"
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Known:
    """A certificate and its key, in files."""

    certificate: Path
    key: Path

    @property
    def pem(self) -> str:
        return self.certificate.read_text()

    def credentials(self, authority: Path, role: Role, name: str, listening: str = "") -> Credentials:
        return Credentials(self.certificate, self.key, authority, inbox_of(role, name), listening)


class Authority:
    """Signs whatever it is asked to, as OCM's signer for add-ons does."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory, self._name = directory, x509.Name([_attribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.file = directory / f"{name}.crt"
        made = self._builder(self._name, self._key, DAY).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        certificate = made.sign(self._key, hashes.SHA256())
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self.fingerprint = certificate.fingerprint(hashes.SHA256()).hex()

    def sign(self, name: str, groups: Iterable[str] = (), *, lasts: timedelta = DAY, host: str = "") -> Known:
        """A certificate of that subject; with a `host`, a server's."""
        key = ec.generate_private_key(ec.SECP256R1())
        organizations = [_attribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        made = self._builder(x509.Name([*organizations, _attribute(NameOID.COMMON_NAME, name)]), key, lasts)
        if host:
            made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        number = len(list(self._directory.iterdir()))
        known = Known(self._directory / f"{number}.crt", self._directory / f"{number}.key")
        known.certificate.write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        known.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, *plain))
        return known

    def agent(self, cluster: str, addon: str = ADDON) -> Known:
        """What an add-on's agent on that cluster gets."""
        return self.sign(user_of(cluster, addon), groups_of(cluster, addon))

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, lasts: timedelta) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        number = x509.random_serial_number()
        return x509.CertificateBuilder(self._name, subject, key.public_key(), number, now - 2 * DAY, now + lasts)


def user_of(cluster: str, addon: str = ADDON) -> str:
    return f"{OCM}:cluster:{cluster}:addon:{addon}:agent:{addon}-agent"


def groups_of(cluster: str, addon: str = ADDON) -> tuple[str, ...]:
    return f"{OCM}:cluster:{cluster}:addon:{addon}", f"{OCM}:addon:{addon}"


def _attribute(kind: x509.ObjectIdentifier, value: str) -> x509.NameAttribute[str]:
    return x509.NameAttribute(kind, value, _validate=False)  # OCM's names are longer than X.520 allows
