"""A server's question and its answer, with the log in between: participants may, until their run has ended."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from authority_story import ADDON, Authority
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedplane.authorizer import grants
from fedplane.authorizer.answering import Answering
from fedplane.authorizer.callout import Asked, asked, decide, user
from fedplane.authorizer.grants import Role
from fedplane.authorizer.identity import Refused, Trust
from fedplane.authorizer.participants import Participants, changed, evolve, runs_of
from fedplane.authorizer.tokens import Signer, read
from fedplane.runtime.errors import BadInput
from fedplane.runtime.ports import Recorded
from fedplane.schemas.facts import Archived, Completed, Fact, Scheduled
from fedplane.schemas.models import Chosen

NOW = datetime(2026, 1, 2, tzinfo=UTC)
SEED = "SAAAAAICAMCAKBQHBAEQUCYMBUHA6EARCIJRIFIWC4MBSGQ3DQOR4HYMHI"
"""Of the 32 bytes 0, 1, 2 ... 31."""


def scheduled(run: str, *clusters: str) -> Scheduled:
    return Scheduled(at=NOW, run=run, participants=tuple(Chosen(cluster=each, score=1, terms=()) for each in clusters), refused=())


def folded(*facts: Fact) -> Participants:
    participants: Participants = {}
    for sequence, fact in enumerate(facts, 1):
        participants = evolve(participants, Recorded(fact, sequence))
    return participants


def completed(run: str) -> Fact:
    return Completed.model_construct(at=NOW, run=run)


def test_a_cluster_takes_part_from_scheduled_until_the_runs_end() -> None:
    begun = folded(scheduled("r1", "a", "b"), scheduled("r2", "b"))
    ended = evolve(begun, Recorded(completed("r1"), 3))

    assert (runs_of(begun, "a"), runs_of(begun, "b"), runs_of(begun, "c")) == (("r1",), ("r1", "r2"), ())
    assert (runs_of(ended, "a"), runs_of(ended, "b")) == ((), ("r2",))


def test_a_change_concerns_those_who_gain_or_lose_a_run() -> None:
    before = folded(scheduled("r1", "a", "b"))
    after = evolve(evolve(before, Recorded(scheduled("r2", "b", "c"), 2)), Recorded(completed("r1"), 3))

    assert (changed({}, before), changed(before, after), changed(after, after)) == ({"a", "b"}, {"a", "b", "c"}, frozenset())


def test_a_run_that_has_ended_is_not_begun_again_and_one_that_was_archived_is_not_remembered() -> None:
    assert runs_of(folded(completed("r"), scheduled("r", "a")), "a") == ()
    assert folded(scheduled("r", "a"), completed("r"), Archived.model_construct(at=NOW, run="r")) == {}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "ocm")


def question(authority: Authority, cluster: str) -> Asked:
    return Asked("UUSER", "NSERVER", (authority.agent(cluster).pem, authority.file.read_text()))


def trust(authority: Authority) -> Trust:
    return Trust(ADDON, frozenset({authority.fingerprint}), frozenset())


def test_the_log_decides_what_a_cluster_may_do(authority: Authority) -> None:
    log = folded(scheduled("r", "amsterdam"))

    assert decide(question(authority, "amsterdam"), log, trust(authority)) == grants.collaborator("amsterdam", ["r"])
    assert decide(question(authority, "berlin"), log, trust(authority)) == grants.collaborator("berlin", [])


@pytest.mark.parametrize("chain", [(), ("no certificate",), ("x",) * 9])
def test_what_is_no_chain_is_refused(authority: Authority, chain: tuple[str, ...]) -> None:
    assert isinstance(decide(replace(question(authority, "a"), chain=chain), {}, trust(authority)), Refused)


def test_a_grant_is_a_user_of_one_account_for_an_hour() -> None:
    claims = user(Asked("UUSER", "NSERVER", ()), grants.of_role(Role.SUBSCRIBER, "grafana"), NOW)

    assert claims == {
        "sub": "UUSER", "aud": "SUBSCRIBERS", "name": "subscriber:grafana", "iat": 1767312000, "exp": 1767315600,
        "nats": {
            "type": "user", "version": 2, "pub": {"deny": [">"]}, "sub": {"allow": ["fed.v1.>"]}, "subs": 10, "payload": 1048576,
            "data": -1, "allowed_connection_types": ["STANDARD"],
        },
    }  # fmt: skip


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
    answering = Answering(Signer(SEED), trust(authority), dict, lambda: NOW)

    assert [answering(said) for said in (b"", b"\xff", Signer(SEED).sign({"nats": {}}).encode())] == [None, None, None]
