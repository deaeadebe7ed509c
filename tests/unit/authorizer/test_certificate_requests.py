"""A certificate request is read whole or not at all: nothing in it may mean one thing here and another one where it is signed."""

import base64

import pytest
from authority_story import groups_of, user_of
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from guard_story import ADDON, HOST, KEY, pkcs10
from hypothesis import given
from hypothesis import strategies as st

from fedplane.authorizer.admission.requested import REQUEST_BYTES_MAX, Requested, parse_request
from fedplane.runtime.errors import BadInput

pytestmark = pytest.mark.filterwarnings("ignore:Attribute's length must be")  # OCM's names are longer than X.520 allows

NAMES, GROUPS = (user_of("amsterdam", ADDON),), groups_of("amsterdam", ADDON)
GOOD = pkcs10(NAMES, GROUPS)
OTHERS = pkcs10((user_of("berlin", ADDON),), groups_of("berlin", ADDON))
DER = x509.load_pem_x509_csr(GOOD).public_bytes(serialization.Encoding.DER)

EXTENSIONS, PASSWORD = bytes.fromhex("06092a864886f70d01090e"), bytes.fromhex("06092a864886f70d010907")
"""Attributes of requests: the list of extensions that is asked for, and a password."""


def tlv(tag: int, *parts: bytes) -> bytes:
    """A value in DER, whose length fits two bytes."""
    body = b"".join(parts)
    size = bytes([len(body)]) if len(body) < 128 else b"\x81" + bytes([len(body)]) if len(body) < 256 else b"\x82" + len(body).to_bytes(2)
    return bytes([tag]) + size + body


def armoured(der: bytes) -> bytes:
    letters = base64.b64encode(der)
    lines = [letters[start : start + 64] for start in range(0, len(letters), 64)]
    return b"\n".join([b"-----BEGIN CERTIFICATE REQUEST-----", *lines, b"-----END CERTIFICATE REQUEST-----", b""])


def with_attributes(*attributes: tuple[bytes, bytes], subject: bytes = b"") -> bytes:
    """A request with attributes that no builder makes, signed."""
    spki = KEY.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    listed = sorted(tlv(0x30, kind, tlv(0x31, value)) for kind, value in attributes)  # a set in DER is in order
    inner = tlv(0x30, b"\x02\x01\x00", subject or x509.load_pem_x509_csr(GOOD).subject.public_bytes(), spki, tlv(0xA0, *listed))
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")  # ecdsa-with-SHA256
    return armoured(tlv(0x30, inner, algorithm, tlv(0x03, b"\x00", KEY.sign(inner, ec.ECDSA(hashes.SHA256())))))


def extensions_with(host: str) -> bytes:
    name = tlv(0x30, tlv(0x82, host.encode()))
    return tlv(0x30, tlv(0x30, bytes.fromhex("0603551d11"), tlv(0x04, name)))


def test_a_request_says_who_somebody_wants_to_be() -> None:
    assert parse_request(GOOD) == Requested(NAMES, frozenset(GROUPS), frozenset({HOST}))


def test_each_name_counts_however_the_subject_is_cut_into_sets() -> None:
    assert parse_request(pkcs10(("a", "b"), ("c",))) == Requested(("a", "b"), frozenset("c"), frozenset({HOST}))
    assert parse_request(pkcs10((), (), ())) == Requested((), frozenset(), frozenset())


def test_a_request_that_is_made_by_hand_is_read_as_one_that_a_library_makes() -> None:
    assert parse_request(with_attributes((EXTENSIONS, extensions_with(HOST)))) == parse_request(GOOD)


def test_a_subject_is_read_as_programs_in_go_write_it() -> None:
    def attribute(kind: str, value: str) -> bytes:
        return tlv(0x30, bytes.fromhex(kind), tlv(0x13, value.encode()))  # PrintableString

    groups = tlv(0x31, *sorted((attribute("060355040a", group) for group in GROUPS), key=lambda each: (len(each), each)))
    subject = tlv(0x30, groups, tlv(0x31, attribute("0603550403", *NAMES)))

    assert parse_request(with_attributes(subject=subject)) == Requested(NAMES, frozenset(GROUPS), frozenset())


@pytest.mark.parametrize(
    ("pem", "reason"),
    {
        "nothing": (b"", "no certificate request that can be read"),
        "no PEM": (DER, "no certificate request that can be read"),
        "a remark before it": (b"for amsterdam\n" + GOOD, "not one PEM block in its plain form"),
        "a second one behind it": (GOOD + OTHERS, "not one PEM block"),
        "one before it that is broken": (OTHERS.replace(b"\n", b"\n!", 1) + GOOD, "Unable to load PEM file"),
        "one within the other": (GOOD.replace(b"-----END", OTHERS + b"-----END"), "Unable to load PEM file"),
        "headers": (GOOD.replace(b"-----\n", b"-----\nProc-Type: 4\n\n", 1), "not one PEM block"),
        "an old label": (GOOD.replace(b"CERTIFICATE", b"NEW CERTIFICATE"), "not one PEM block"),
        "one long line": (GOOD.replace(b"\n", b"").replace(b"REQUEST-----M", b"REQUEST-----\nM"), "not one PEM block"),
        "bytes behind its end": (armoured(DER + b"\0\0"), "no certificate request that can be read"),
        "too long": (GOOD + b"\n" * REQUEST_BYTES_MAX, f"and {REQUEST_BYTES_MAX:,} are read at most"),
        "a changed name": (armoured(DER.replace(b"amsterdam", b"rotterdam")), "not signed by the key that it names"),
        "two lists of extensions": (
            with_attributes((EXTENSIONS, extensions_with(HOST)), (EXTENSIONS, extensions_with("nats.example.org"))),
            "2 lists of extensions",
        ),
        "another attribute": (with_attributes((PASSWORD, tlv(0x0C, b"secret"))), "the attribute 1.2.840.113549.1.9.7"),
        "a right to sign": (pkcs10(NAMES, GROUPS, (), x509.BasicConstraints(ca=True, path_length=None)), "the extension 2.5.29.19"),
        "an address": (pkcs10(NAMES, GROUPS, (x509.RFC822Name("root@example.org"),)), "asks for root@example.org as another name"),
    }.values(),
)
def test_what_could_mean_two_things_is_refused(pem: bytes, reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        parse_request(pem)


@pytest.mark.parametrize("kind", [NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.USER_ID, NameOID.EMAIL_ADDRESS])
def test_a_subject_has_common_names_and_organizations_only(kind: x509.ObjectIdentifier) -> None:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a"), x509.NameAttribute(kind, "x@example.org")])

    with pytest.raises(BadInput, match="should have CN and O only"):
        parse_request(with_attributes(subject=subject.public_bytes()))


@given(st.data())
def test_a_request_with_bytes_changed_is_refused_with_a_reason(data: st.DataObject) -> None:
    changed = bytearray(DER)
    for place in data.draw(st.lists(st.integers(0, len(DER) - 1), min_size=1, max_size=4, unique=True)):
        changed[place] ^= data.draw(st.integers(1, 255))

    with pytest.raises(BadInput):
        parse_request(armoured(bytes(changed)))


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_with_a_reason(noise: bytes) -> None:
    for pem in (noise, armoured(noise), GOOD[:100] + noise + GOOD[100:-40]):
        with pytest.raises(BadInput):
            parse_request(pem)
