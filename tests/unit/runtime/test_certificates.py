"""Authorities and what they sign: subjects as the authorizer reads them, and chains that a strict verifier takes."""

import warnings
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from fedplane.runtime.certificates import Authority, Subject, of_agent, of_client, of_server, valid_until
from fedplane.runtime.errors import BadInput
from fedplane.schemas.roles import Role

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.new("ours", NOON)


def loaded(certificate: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(certificate.encode())


def names_in(certificate: str) -> tuple[list[str], list[str]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are longer than X.520 allows
        subject = loaded(certificate).subject
    common, groups = (subject.get_attributes_for_oid(kind) for kind in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME))
    return [str(each.value) for each in common], [str(each.value) for each in groups]


def test_a_client_is_named_by_its_role_and_name(authority: Authority) -> None:
    issued = authority.issue(of_client(Role.OPERATOR, "ann"), NOON, DAY)

    assert names_in(issued.certificate) == (["fedplane:cli:ann"], [])
    assert (issued.until, valid_until(issued.key + issued.certificate)) == (NOON + DAY, NOON + DAY)
    assert issued.fingerprint == loaded(issued.certificate).fingerprint(SHA256()).hex()


def test_a_cluster_has_the_subject_of_its_add_ons_agent_however_long_it_is(authority: Authority) -> None:
    cluster, ocm = "c" * 63, "system:open-cluster-management"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        issued = authority.issue(of_agent(cluster, "fedplane-collaborator"), NOON, DAY)

    assert names_in(issued.certificate) == (
        [f"{ocm}:cluster:{cluster}:addon:fedplane-collaborator:agent:fedplane-collaborator-agent"],
        [f"{ocm}:cluster:{cluster}:addon:fedplane-collaborator", f"{ocm}:addon:fedplane-collaborator"],
    )


def test_a_strict_verifier_takes_a_server_by_its_names_and_no_other(authority: Authority) -> None:
    builder = PolicyBuilder().store(Store([loaded(authority.certificate)])).time(NOON)
    server = loaded(authority.issue(of_server(["localhost", "127.0.0.1"]), NOON, DAY).certificate)

    for host in (x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))):
        assert builder.build_server_verifier(host).verify(server, [])
    with pytest.raises(VerificationError):
        builder.build_server_verifier(x509.DNSName("elsewhere")).verify(server, [])


def test_a_client_is_no_server_and_a_server_is_one_to_the_others(authority: Authority) -> None:
    subjects = of_server(["localhost"]), of_client(Role.STATUS, "status")
    uses = [list(loaded(authority.issue(each, NOON, DAY).certificate).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
            for each in subjects]  # fmt: skip

    assert uses == [[ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH], [ExtendedKeyUsageOID.CLIENT_AUTH]]


def test_an_authority_is_kept_as_two_texts_and_knows_what_it_has_signed(authority: Authority) -> None:
    again, other = Authority.read(authority.certificate, authority.key), Authority.new("ours", NOON)
    issued = again.issue(Subject("any"), NOON, DAY)

    assert (authority.has_issued(issued.certificate), other.has_issued(issued.certificate)) == (True, False)
    assert authority.has_issued("nothing") is False
    assert again.until == authority.until


def test_a_key_of_another_authority_or_none_is_told_of(authority: Authority) -> None:
    with pytest.raises(BadInput, match="the key is not that of the authority's certificate"):
        Authority.read(authority.certificate, Authority.new("other", NOON).key)
    with pytest.raises(BadInput, match="that is no key in PEM without a password"):
        Authority.read(authority.certificate, "nothing")
    with pytest.raises(BadInput, match="that is no certificate in PEM"):
        Authority.read("nothing", authority.key)


def test_an_authority_for_a_hub_has_the_only_kind_of_key_that_its_add_on_manager_reads_and_signs_as_any_other() -> None:
    made = Authority.new("clusters", NOON, for_hub=True)

    again = Authority.read(made.certificate, made.key)
    assert made.key.startswith("-----BEGIN RSA PRIVATE KEY-----")
    assert again.has_issued(again.issue(of_agent("amsterdam", "fedplane-collaborator"), NOON, DAY).certificate)
