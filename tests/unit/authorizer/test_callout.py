"""A server's question and its answer, with what is known of the log in between."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from accounts_story import SEED
from authority_story import ADDON, Authority, Known
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedplane.authorizer import grants, standing
from fedplane.authorizer.answering import Answering
from fedplane.authorizer.callout import Asked, asked, decide, user
from fedplane.authorizer.certificates import parse
from fedplane.authorizer.crowds import Crowd
from fedplane.authorizer.grants import Grant
from fedplane.authorizer.identity import Because, Refused, Trust
from fedplane.authorizer.tokens import Signer, read
from fedplane.runtime.errors import BadInput
from fedplane.schemas.facts import Fact, Granted, Revoked, Scheduled
from fedplane.schemas.models import Chosen
from fedplane.schemas.roles import Role

NOW = datetime(2026, 1, 2, tzinfo=UTC)
NOTHING = standing.Known()


def scheduled(run: str, *clusters: str) -> Scheduled:
    return Scheduled(at=NOW, run=run, participants=tuple(Chosen(cluster=each, score=1, terms=()) for each in clusters), refused=())


def known(*facts: Fact) -> standing.Known:
    folded = NOTHING
    for fact in facts:
        folded = standing.evolve(folded, fact)
    return folded


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "ocm")


def question(authority: Authority, client: Known) -> Asked:
    return Asked("UUSER", "NSERVER", (client.pem, authority.file.read_text()))


def trust(authority: Authority) -> Trust:
    """One authority for all, as far as it signs the names of both kinds."""
    return Trust(ADDON, frozenset({authority.fingerprint}), frozenset({authority.fingerprint}))


def of(decided: Grant | Refused | None) -> tuple[Any, ...]:
    """What a grant says, without the mark and the certificate's end."""
    assert isinstance(decided, Grant)
    return decided.role, decided.name, decided.publish, decided.subscribe


def test_the_log_decides_what_a_cluster_may_do(authority: Authority) -> None:
    log = known(scheduled("r", "amsterdam"))

    for cluster, runs in (("amsterdam", ["r"]), ("berlin", [])):
        decided = decide(question(authority, authority.agent(cluster)), log, trust(authority), NOW)
        assert of(decided) == of(grants.collaborator(cluster, runs))


def test_services_are_answered_before_the_log_is_known_and_others_are_not(authority: Authority) -> None:
    clients = authority.sign("fedplane:scheduler:one"), authority.agent("amsterdam"), authority.sign("fedplane:subscriber:grafana")

    decided = [decide(question(authority, client), None, trust(authority), NOW) for client in clients]

    assert [of(decided[0]), *decided[1:]] == [of(grants.of_role(Role.SCHEDULER, "one")), None, None]


def test_a_subscriber_has_to_have_the_certificate_that_was_granted(authority: Authority) -> None:
    client, other = authority.sign("fedplane:subscriber:grafana"), authority.sign("fedplane:subscriber:grafana")
    log = known(Granted(at=NOW, role="subscriber", name="grafana", fingerprint=parse(client.pem).fingerprint))

    decided = decide(question(authority, client), log, trust(authority), NOW)
    refused = decide(question(authority, other), log, trust(authority), NOW)

    assert of(decided) == of(grants.subscriber("grafana", ["fed.v1.>"]))
    assert isinstance(refused, Refused)
    assert refused.because is Because.NOT_GRANTED


def test_who_was_thrown_out_is_refused_with_the_reason(authority: Authority) -> None:
    log = known(Revoked(at=NOW, role="cli", name="ann", message="left the company"))

    refused = decide(question(authority, authority.sign("fedplane:cli:ann")), log, trust(authority), NOW)

    assert refused == Refused("cli ann was thrown out at 2026-01-02 00:00:00 UTC: left the company", Because.REVOKED)


@pytest.mark.parametrize("chain", [(), ("no certificate",), ("x",) * 9])
def test_what_is_no_chain_is_refused(authority: Authority, chain: tuple[str, ...]) -> None:
    refused = decide(Asked("UUSER", "NSERVER", chain), NOTHING, trust(authority), NOW)

    assert isinstance(refused, Refused)
    assert refused.because is Because.CERTIFICATE


def test_a_grant_is_a_user_of_one_account_for_an_hour() -> None:
    claims = user(Asked("UUSER", "NSERVER", ()), replace(grants.subscriber("grafana", ["fed.v1.>"]), mark="0123"), NOW)

    assert claims == {
        "sub": "UUSER", "aud": "SUBSCRIBERS", "name": "subscriber:grafana:0123", "iat": 1767312000, "exp": 1767315600,
        "nats": {
            "type": "user", "version": 2, "pub": {"deny": [">"]}, "sub": {"allow": ["fed.v1.>"]}, "subs": 10, "payload": 1048576,
            "data": -1, "allowed_connection_types": ["STANDARD"],
        },
    }  # fmt: skip


@pytest.mark.parametrize(("seconds", "lasts"), [(60, 60), (7200, 3600)])
def test_a_grant_ends_with_what_it_is_based_on(seconds: int, lasts: int) -> None:
    grant = replace(grants.of_role(Role.OPERATOR, "ann"), until=NOW + timedelta(seconds=seconds))

    claims = user(Asked("UUSER", "NSERVER", ()), grant, NOW)

    assert claims["exp"] - claims["iat"] == lasts


def test_who_answers_others_may_do_so_once_and_nobody_else() -> None:
    answers = {
        role: user(Asked("U", "N", ()), grants.of_role(role, "one"), NOW)["nats"].get("resp") for role in (Role.OPERATOR, Role.STATUS)
    }

    assert answers == {Role.OPERATOR: {"max": 1, "ttl": 5_000_000_000}, Role.STATUS: None}


def asking(server: Any) -> dict[str, Any]:
    return {"iss": server, "nats": {"type": "authorization_request", "user_nkey": "U", "server_id": {"id": server}}}


@pytest.mark.parametrize(
    "claims",
    [
        {}, {"nats": 1}, {"nats": {"user_nkey": "U"}}, asking("N1") | {"iss": "N2"}, asking("A"), asking(7),
        {"iss": "N", "nats": asking("N")["nats"] | {"type": "user"}},
    ],
)  # fmt: skip
def test_what_is_no_question_of_a_server_is_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        asked(claims)


def test_an_unverified_certificate_is_not_looked_at(authority: Authority) -> None:
    claims = asking("N")
    claims["nats"]["client_tls"] = {"certs": [authority.agent("amsterdam").pem]}

    assert asked(claims) == Asked("U", "N", ())


def test_an_account_signs_what_everybody_can_check() -> None:
    signer = Signer(SEED)
    token = signer.sign({"sub": "x"})
    claims = read(token)

    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    signed, _, signature = token.rpartition(".")
    key.public_key().verify(base64.urlsafe_b64decode(signature + "=="), signed.encode())
    assert (claims["sub"], claims["iss"], claims["iss"][0], len(claims["iss"])) == ("x", signer.public, "A", 56)


def test_a_changed_token_is_refused() -> None:
    header, body, signature = Signer(SEED).sign({"sub": "x"}).split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "==")) | {"sub": "y"}
    forged = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")

    for token in (f"{header}.{forged}.{signature}", f"{header}.{body}.", f"{header}.{body}", "", "a.b.c", "\N{SNOWMAN}.e30.e30"):
        with pytest.raises(BadInput):
            read(token)


@pytest.mark.parametrize("seed", ["", "SA", SEED[:-1], SEED.replace("Q", "R", 1), "SUAAAA", "no seed!"])
def test_what_is_no_accounts_seed_is_refused_without_being_repeated(seed: str) -> None:
    with pytest.raises(BadInput) as refused:
        Signer(seed)

    assert not seed or seed not in str(refused.value)


def test_a_question_that_no_server_has_signed_gets_no_answer(authority: Authority) -> None:
    answering = Answering(Signer(SEED), lambda: trust(authority), lambda: NOTHING, Crowd(), lambda: NOW)

    assert [answering(said) for said in (b"", b"\xff", Signer(SEED).sign({"nats": {}}).encode())] == [None, None, None]
