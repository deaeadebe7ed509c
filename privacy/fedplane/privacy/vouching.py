"""Whose the keys of a masked round are: signed with the key of each cluster's own certificate, and checked by every other cluster.

A hub that hands out keys of its own in place of a cluster's could read whatever is sealed for that cluster, and take its masks off.
So a cluster signs its keys, together with the run, the round and its name, and the others look at three things:
that the certificate is by an authority of clusters that they were told of, that it is that cluster's own, and that the signature is its.
The authority is given to a cluster by whoever runs it, and never by the bus.
One that the hub commands proves nothing to those who doubt the hub.

The name in a certificate is that of an add-on's agent, by the same grammar by which the authorizer lets clusters in (`schemas.agents`).
A certificate counts from its first to its last moment; what time it is, is the caller's to say. Revocation is the bus's business:
who is thrown out there says no keys.
What is signed is written with lengths, so that no two rounds' keys are the same words.
"""

from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import NameOID

from fedplane.privacy.pairing import About, raw
from fedplane.privacy.participant import Withdrawn
from fedplane.runtime.errors import BadInput
from fedplane.schemas.agents import NoAgent, addon_of, cluster_of
from fedplane.schemas.privacy_terms import CERTIFICATE_CHARACTERS_MAX, Keyholder

__all__ = ["Peers", "Voucher", "words"]

CHAIN_MAX = 4
"""A cluster's certificate and those between it and an authority: Kubernetes' signers have none between, a company's own has one or two."""

UNUSABLE = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension, InvalidSignature)
"""What the library raises for what cannot be read, some of it when it is asked for a part, and for a signature that is another one's."""

UNKNOWN = "let FEDPLANE_PEERS_AUTHORITY name the file with the authority of all clusters of the federation"

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

_PSS = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)


def words(about: About, cluster: str, mask_key: str, seal_key: str) -> bytes:
    """What a cluster signs: which round it is, who says it, and its keys."""
    return about.of(b"fedplane keys", cluster, mask_key, seal_key)


@dataclass(frozen=True, slots=True)
class Voucher:
    """A cluster's own certificate, as others are shown it, and the key that signs."""

    certificate: str
    addon: str
    _key: PrivateKey

    @classmethod
    def of(cls, certificate: bytes, key: bytes) -> "Voucher":
        """From two texts in PEM, which may be one. Raises BadInput; nothing of the key is in the message."""
        try:
            chain = x509.load_pem_x509_certificates(certificate)
            loaded = serialization.load_pem_private_key(key, None)
            addon = addon_of(_name(chain[0]))
        except (*UNUSABLE, NoAgent) as error:
            raise BadInput(f"this cluster cannot sign its keys with its certificate: {error}") from error
        if not isinstance(loaded, PrivateKey) or loaded.public_key() != chain[0].public_key():
            raise BadInput("this cluster cannot sign its keys: its key is not that of its certificate, or neither of EC, RSA and Ed25519")
        shown = "".join(each.public_bytes(serialization.Encoding.PEM).decode() for each in _in_a_row(chain))
        if len(shown) > CERTIFICATE_CHARACTERS_MAX:
            raise BadInput(f"this cluster's certificate has {len(shown)} characters, and a fact has room for {CERTIFICATE_CHARACTERS_MAX}")
        return cls(shown, addon, loaded)

    def sign(self, said: bytes) -> str:
        """A signature, as facts have it. What it takes of chance is the library's."""
        if isinstance(self._key, ec.EllipticCurvePrivateKey):
            signature = self._key.sign(said, ec.ECDSA(hashes.SHA256()))
        elif isinstance(self._key, rsa.RSAPrivateKey):
            signature = self._key.sign(said, _PSS, hashes.SHA256())
        else:
            signature = self._key.sign(said)
        return urlsafe_b64encode(signature).decode()


@dataclass(frozen=True, slots=True)
class Peers:
    """Whom a cluster believes to be other clusters: agents of this add-on with a certificate by one of these authorities."""

    addon: str
    authorities: tuple[x509.Certificate, ...]

    @classmethod
    def of(cls, addon: str, authorities: bytes) -> "Peers":
        """From a text in PEM. Raises BadInput for one without certificates."""
        try:
            return cls(addon, tuple(x509.load_pem_x509_certificates(authorities)))
        except UNUSABLE as error:
            raise BadInput(f"there is no authority of clusters in PEM: {error}; {UNKNOWN}") from error

    def check(self, member: Keyholder, about: About, now: datetime) -> None:
        """Raise Withdrawn unless the keys are those of the cluster that they are said to be of."""
        name = member.cluster
        if not member.certificate or not member.signature:
            said = f"the keys of {name} are not signed, and this cluster, which has a certificate, insists on it"
            raise Withdrawn("keys-unsigned", f"{said}; give {name} a certificate, or start all without")
        try:
            chain = x509.load_pem_x509_certificates(member.certificate.encode())[:CHAIN_MAX]
            self._insist_on_authority(chain, now)
            cluster = cluster_of(_name(chain[0]), _groups(chain[0]), self.addon)
            _insist_on_signature(chain[0].public_key(), raw(member.signature), words(about, name, member.mask_key, member.seal_key))
        except InvalidSignature as error:
            raise Withdrawn(
                "keys-unvouched", f"the keys said to be of {name} are signed by somebody else; look at the hub's aggregator"
            ) from error
        except (*UNUSABLE, NoAgent, BadInput) as error:
            raise Withdrawn("keys-unvouched", f"nobody vouches for the keys of {name}: {error}; {UNKNOWN}") from error
        if cluster != name:
            raise Withdrawn("keys-unvouched", f"the keys said to be of {name} are vouched for by {cluster}; look at the hub's aggregator")

    def _insist_on_authority(self, chain: Sequence[x509.Certificate], now: datetime) -> None:
        """Raise ValueError unless each is signed by the next one and the last one by an authority, and all of them count now."""
        for each, above in pairwise(chain):
            if not (_is_authority(above) and _has_signed(above, each)):
                raise ValueError("the certificates that it comes with do not follow from one another")
        top = next((authority for authority in self.authorities if _has_signed(authority, chain[-1])), None)
        if top is None:
            raise ValueError("its certificate is not by an authority that this cluster knows")
        for each in (*chain, top):
            if not each.not_valid_before_utc <= now <= each.not_valid_after_utc:
                raise ValueError(
                    f"a certificate counts from {each.not_valid_before_utc} to {each.not_valid_after_utc}, and now it is {now}"
                )


def _insist_on_signature(key: object, signature: bytes, said: bytes) -> None:
    if isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, said, ec.ECDSA(hashes.SHA256()))
    elif isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, said, _PSS, hashes.SHA256())
    elif isinstance(key, ed25519.Ed25519PublicKey):
        key.verify(signature, said)
    else:
        raise TypeError("its key is neither of EC, RSA and Ed25519")


def _has_signed(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except UNUSABLE:
        return False
    return True


def _in_a_row(found: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """The first certificate and those that it follows from, of a file that may hold others as well, and the authority itself.

    Who doubts us has that from elsewhere.
    """
    row = [found[0]]
    for each in found[1:]:
        if len(row) < CHAIN_MAX and each.subject != each.issuer and _has_signed(each, row[-1]):
            row.append(each)
    return row


def _is_authority(certificate: x509.Certificate) -> bool:
    """Whether it may sign others. Only what stands between has to say so: authorities are those that we were told of."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _name(certificate: x509.Certificate) -> str:
    """The one common name. Raises ValueError if there are more, or none."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(names) != 1:
        raise ValueError(f"a certificate has {len(names)} common names, and one is wanted")
    return str(names[0].value)


def _groups(certificate: x509.Certificate) -> frozenset[str]:
    return frozenset(str(each.value) for each in certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME))
