"""Whose keys they are: signed by the certificate's key, and believed only of the cluster whose certificate it is."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from authority_story import groups_of, user_of
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from masking_story import ABOUT, NOW, keyholder, participant

from fedplane.privacy.pairing import About
from fedplane.privacy.participant import Withdrawn
from fedplane.privacy.vouching import Peers, Voucher, words
from fedplane.runtime.errors import BadInput
from fedplane.schemas.privacy_terms import CERTIFICATE_CHARACTERS_MAX, Keyholder

DAY = timedelta(days=1)
PEM = serialization.Encoding.PEM
OURS, THEIRS, SIGNER, LEAF = (ec.generate_private_key(ec.SECP256R1()) for _ in range(4))


def name(common: str, groups: tuple[str, ...] = ()) -> x509.Name:
    attributes = [(NameOID.ORGANIZATION_NAME, group) for group in groups] + [(NameOID.COMMON_NAME, common)]
    return x509.Name([x509.NameAttribute(kind, value, _validate=False) for kind, value in attributes])


def certificate(subject: x509.Name, key: Any, by: Any = OURS, issuer: str = "clusters", *, ca: bool = False) -> x509.Certificate:
    made = x509.CertificateBuilder(name(issuer), subject, key.public_key(), 7, NOW - DAY, NOW + DAY)
    return made.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True).sign(by, hashes.SHA256())


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(each.public_bytes(PEM) for each in certificates)


def agent(cluster: str, key: Any = LEAF, addon: str = "fedplane", **by: Any) -> x509.Certificate:
    return certificate(name(user_of(cluster, addon), groups_of(cluster, addon)), key, **by)


def plain(key: Any) -> bytes:
    written: bytes = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return written


AUTHORITY = certificate(name("clusters"), OURS, ca=True)
PEERS = Peers.of("fedplane", pem(AUTHORITY))


def said(cluster: str = "b", about: About = ABOUT, *, papers: bytes | None = None, key: Any = LEAF) -> Keyholder:
    """What a cluster says of its keys, signed."""
    of = participant(cluster)
    voucher = Voucher.of(papers or pem(agent(cluster, key)), plain(key))
    signed = {"certificate": voucher.certificate, "signature": voucher.sign(words(about, cluster, of.mask_key, of.seal_key))}
    return keyholder(of).model_copy(update=signed)


@pytest.mark.parametrize(
    "key", [LEAF, rsa.generate_private_key(65537, 2048), ed25519.Ed25519PrivateKey.generate()], ids=lambda key: type(key).__name__
)
def test_keys_that_a_cluster_has_signed_are_believed_whatever_kind_of_certificate_it_has(key: Any) -> None:
    papers = pem(agent("b", key))
    member = said(papers=papers, key=key)

    PEERS.check(member, ABOUT, NOW)
    assert member.certificate.encode() == papers


def test_an_authority_may_have_others_sign_for_it() -> None:
    chain = pem(agent("b", by=SIGNER, issuer="between"), certificate(name("between"), SIGNER, ca=True))
    member = said(papers=chain + pem(AUTHORITY))

    PEERS.check(member, ABOUT, NOW)
    assert member.certificate.encode() == chain


MALLORY = participant("mallory")


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (lambda: said().model_copy(update={"mask_key": MALLORY.mask_key}), "signed by somebody else"),
        (lambda: said().model_copy(update={"seal_key": MALLORY.seal_key}), "signed by somebody else"),
        (lambda: said(about=About("r1", 4)), "signed by somebody else"),
        (lambda: said("c").model_copy(update={"cluster": "b", "mask_key": participant("b").mask_key}), "somebody else"),
        (lambda: said(papers=pem(agent("c"))), "are vouched for by c"),
        (lambda: said(papers=pem(agent("b", addon="other"))), "no agent of the add-on fedplane"),
        (lambda: said(papers=pem(agent("b", by=THEIRS))), "not by an authority that this cluster knows"),
        (lambda: said(papers=pem(certificate(name(user_of("b")), LEAF))), "is not in the group"),
        (lambda: said(papers=forged_by_a_leaf()), "do not follow from one another"),
        (lambda: said().model_copy(update={"certificate": NONE}), "nobody vouches"),
        (lambda: said().model_copy(update={"signature": "AAAA"}), "signed by somebody else"),
    ],
    ids=[
        "another mask key", "another seal key", "another round", "another cluster's words", "another cluster's certificate",
        "another add-on", "another authority", "no groups", "signed by a cluster", "no certificate", "no signature of any kind",
    ],
)  # fmt: skip
def test_keys_are_not_believed_if_anything_is_another_ones(told: Callable[[], Keyholder], why: str) -> None:
    with pytest.raises(Withdrawn, match=why) as refused:
        PEERS.check(told(), ABOUT, NOW)
    assert refused.value.reason == "keys-unvouched"


NONE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


def forged_by_a_leaf() -> bytes:
    """A certificate for b that the cluster c has signed as if it were an authority."""
    return pem(agent("b", by=SIGNER, issuer=user_of("c")), certificate(name(user_of("c")), SIGNER))


def test_keys_without_a_signature_are_refused_by_who_has_a_certificate() -> None:
    with pytest.raises(Withdrawn, match="the keys of b are not signed") as refused:
        PEERS.check(keyholder(participant("b")), ABOUT, NOW)
    assert refused.value.reason == "keys-unsigned"


@pytest.mark.parametrize("when", [NOW - 2 * DAY, NOW + 2 * DAY], ids=["too early", "too late"])
def test_a_certificate_counts_within_its_time(when: Any) -> None:
    with pytest.raises(Withdrawn, match="a certificate counts from"):
        PEERS.check(said(), ABOUT, when)


def test_what_is_shown_is_the_certificate_and_what_it_follows_from_and_never_the_key() -> None:
    own = pem(agent("b"))

    voucher = Voucher.of(own + pem(AUTHORITY, certificate(name("nats"), SIGNER)) + plain(LEAF), plain(LEAF))

    assert (voucher.certificate.encode(), voucher.addon) == (own, "fedplane")


@pytest.mark.parametrize(
    ("certificates", "key", "why"),
    [
        (b"", plain(LEAF), "cannot sign its keys"),
        (pem(agent("b")), b"", "cannot sign its keys"),
        (pem(agent("b")), plain(OURS), "its key is not that of its certificate"),
        (pem(agent("b", dsa.generate_private_key(1024))), plain(LEAF), "its key is not that of its certificate"),
        (pem(certificate(name("fedplane:cli:ann"), LEAF)), plain(LEAF), "no agent of an add-on"),
        (pem(agent("b", addon="x" * CERTIFICATE_CHARACTERS_MAX)), plain(LEAF), "room for 6000"),
    ],
    ids=["no certificate", "no key", "another key", "an old kind of key", "no cluster's", "too long"],
)
def test_who_cannot_sign_is_told_why_before_it_says_anything(certificates: bytes, key: bytes, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        Voucher.of(certificates, key)


def test_a_file_without_authorities_is_no_authority() -> None:
    with pytest.raises(BadInput, match="let FEDPLANE_PEERS_AUTHORITY name the file"):
        Peers.of("fedplane", b"nothing")
