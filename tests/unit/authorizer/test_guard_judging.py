"""Who may ask for a collaborator's certificate: a cluster's own agent, for that cluster, and for nothing else."""

import base64
import copy
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from authority_story import groups_of, user_of
from cryptography import x509
from guard_story import ADDON, HOST, OCM, SIGNER, USAGES, Asker, Asking, agent, pkcs10, review
from hypothesis import given
from hypothesis import strategies as st

from fedplane.authorizer.admission.judging import ADDON_LABEL, CLUSTER_LABEL, SENTENCE_CHARACTERS_MAX, Rules, Verdict, judge
from fedplane.authorizer.admission.reviews import answer_to, parse_review
from fedplane.runtime.errors import BadInput

pytestmark = pytest.mark.filterwarnings("ignore:Attribute's length must be")  # OCM's names are longer than X.520 allows

RULES = Rules(SIGNER, ADDON)
AMSTERDAM, BERLIN = agent("amsterdam"), agent("berlin")
WANTED = Asking("amsterdam")
ALLOWED, NOT_OURS = Verdict(cluster="amsterdam"), Verdict()

MINE = groups_of("amsterdam", ADDON)
THEIRS = groups_of("berlin", ADDON)


def judged(question: Mapping[str, Any]) -> Verdict:
    return judge(parse_review(json.dumps(question).encode()), RULES)


def requesting(*names: str, groups: tuple[str, ...] = MINE, others: tuple[x509.GeneralName, ...] = ()) -> Asking:
    return replace(WANTED, request=pkcs10(names or (user_of("amsterdam", ADDON),), groups, others))


def test_a_clusters_agent_may_ask_for_its_own_certificate() -> None:
    assert judged(review(WANTED.manifest(), AMSTERDAM)) == ALLOWED


@pytest.mark.parametrize(
    "wanted",
    [
        requesting(groups=(*MINE, "system:authenticated")),
        requesting(),
        requesting(f"{OCM}:cluster:amsterdam:addon:{ADDON}:agent:{ADDON}"),
        replace(WANTED, usages=tuple(reversed(USAGES))),
        replace(WANTED, labels={CLUSTER_LABEL: "amsterdam", ADDON_LABEL: ADDON, "team": "a"}),
    ],
)
def test_what_agents_of_other_versions_ask_for_is_allowed(wanted: Asking) -> None:
    assert judged(review(wanted.manifest(), AMSTERDAM)) == ALLOWED


@pytest.mark.parametrize(
    ("wanted", "reason"),
    {
        "another cluster's certificate": (Asking("berlin"), "the agent of the cluster amsterdam asks for a certificate of berlin"),
        "another cluster's, under its own labels": (
            requesting(user_of("berlin", ADDON), groups=THEIRS),
            "asks for a certificate of berlin; each cluster asks for its own",
        ),
        "its own name and another one's": (requesting(user_of("amsterdam", ADDON), user_of("berlin", ADDON)), "has 2 common names"),
        "the same name twice": (requesting(*2 * (user_of("amsterdam", ADDON),)), "has 2 common names"),
        "no name": (replace(WANTED, request=pkcs10((), MINE)), "has 0 common names"),
        "a service's name": (requesting("fedplane:aggregator:one"), "'fedplane:aggregator:one' is no agent of the add-on"),
        "an administrator's": (requesting("admin", groups=("system:masters",)), "'admin' is no agent of the add-on"),
        "a wildcard": (requesting(user_of("*", ADDON), groups=groups_of("*", ADDON)), "what is no DNS label"),
        "a name with a dot": (requesting(user_of("a.b", ADDON), groups=groups_of("a.b", ADDON)), "what is no DNS label"),
        "another add-on's agent": (requesting(user_of("amsterdam", "work")), f"is no agent of the add-on {ADDON}"),
        "another cluster's group": (requesting(groups=THEIRS), f"not in the group {MINE[0]}"),
        "another cluster's group as well": (requesting(groups=(*MINE, THEIRS[0])), f"in the group {THEIRS[0]}"),
        "a group of administrators": (requesting(groups=(*MINE, "system:masters")), "the group 'system:masters' is asked for as well"),
        "one group of two": (requesting(groups=MINE[:1]), f"not in the group {MINE[1]}"),
        "the bus's name": (requesting(others=(x509.DNSName(HOST), x509.DNSName("nats.example"))), "the host's name 'nats.example'"),
        "a server's use": (replace(WANTED, usages=(*USAGES, "server auth")), "the use 'server auth' is asked for as well"),
        "no client's use": (replace(WANTED, usages=USAGES[:2]), "the use 'client auth' is not asked for"),
        "another cluster's label": (replace(WANTED, labels={CLUSTER_LABEL: "berlin", ADDON_LABEL: ADDON}), "and is 'berlin'"),
        "another add-on's label": (replace(WANTED, labels={CLUSTER_LABEL: "amsterdam", ADDON_LABEL: "work"}), "and is 'work'"),
        "no labels": (replace(WANTED, labels={}), "and is not there"),
        "what is no request": (replace(WANTED, request=b"amsterdam"), "no certificate request that can be read"),
        "a very long one": (replace(WANTED, request=b"A" * 100_000), "the request has more than 8,192 bytes"),
    }.values(),
)  # fmt: skip
def test_an_agent_that_asks_for_anything_else_is_refused_with_the_reason(wanted: Asking, reason: str) -> None:
    verdict = judged(review(wanted.manifest(), AMSTERDAM))

    assert verdict.refused.startswith(f"no certificate of {SIGNER} for this request: ")
    assert reason in verdict.refused


@pytest.mark.parametrize(
    "asker",
    [
        BERLIN,
        agent("amsterdam2"),
        Asker(AMSTERDAM.username, BERLIN.groups),
        Asker(AMSTERDAM.username),
        Asker(BERLIN.username, AMSTERDAM.groups),
        Asker("", AMSTERDAM.groups),
        Asker("admin", ("system:masters",)),
        Asker(f"{OCM}:amsterdam", AMSTERDAM.groups),
        Asker(f"{OCM}:amsterdam:", AMSTERDAM.groups),
        Asker(f"{OCM}:amsterdam:x:y", AMSTERDAM.groups),
        Asker(f"x{AMSTERDAM.username}", AMSTERDAM.groups),
        Asker("amsterdam:x7vq2", AMSTERDAM.groups),
        Asker(user_of("amsterdam", ADDON), (*AMSTERDAM.groups, *MINE)),
        Asker(f"system:serviceaccount:amsterdam:{ADDON}-agent", ("system:serviceaccounts:amsterdam",)),
    ],
    ids=lambda asker: asker.username or "nobody",
)
def test_whoever_is_not_that_clusters_agent_is_refused(asker: Asker) -> None:
    assert judged(review(WANTED.manifest(), asker)).refused


def test_requests_to_other_signers_are_let_through_whoever_asks() -> None:
    kubelet = replace(Asking("berlin"), signer="kubernetes.io/kube-apiserver-client-kubelet", usages=("server auth",), labels={})

    assert judged(review(kubelet.manifest(), Asker("system:node:a", ("system:nodes",)))) == NOT_OURS


def test_a_stored_request_is_judged_by_who_has_made_it_and_not_by_who_changes_it() -> None:
    assert judged(review(WANTED.manifest(), AMSTERDAM, "UPDATE", by="admin")) == ALLOWED
    assert judged(review(WANTED.manifest(), BERLIN, "UPDATE", by=AMSTERDAM.username)).refused


def with_condition(condition: str) -> dict[str, Any]:
    manifest = WANTED.manifest()
    return manifest | {"status": {"conditions": [{"type": condition, "status": "True", "reason": "x", "message": "y"}]}}


@pytest.mark.parametrize(
    ("condition", "asks", "allowed"),
    [("Approved", AMSTERDAM, True), ("Approved", BERLIN, False), ("Denied", BERLIN, True), ("Failed", BERLIN, True)],
)
def test_a_request_that_was_there_before_the_guard_can_be_denied_and_not_approved(condition: str, asks: Asker, allowed: bool) -> None:
    """The same of its status is judged whatever it says: a certificate may come with it."""
    verdict = judged(review(with_condition(condition), asks, "UPDATE", "approval", by="system:serviceaccount:ocm:addon-manager"))

    handed_out = judged(review(with_condition(condition), asks, "UPDATE", "status", by="system:serviceaccount:ocm:addon-manager"))

    assert (not verdict.refused) == allowed
    assert (not handed_out.refused) == (asks == AMSTERDAM)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kind": {"group": "", "version": "v1", "kind": "Pod"}}, "asked about CREATE of /v1/Pod; correct the rules of its webhook"),
        ({"kind": {"group": "certificates.k8s.io", "version": "v1beta1", "kind": "CertificateSigningRequest"}}, "v1beta1"),
        ({"operation": "DELETE", "object": None}, "asked about DELETE"),
        ({"object": None}, "no CertificateSigningRequest: the whole"),
        ({"object": {"metadata": {}, "spec": {}}}, "no CertificateSigningRequest: spec.request: Field required"),
        ({"object": {"metadata": {"labels": ["a"]}, "spec": {"request": "", "signerName": SIGNER}}}, "metadata.labels"),
        ({"object": {"metadata": {}, "spec": {"request": 7, "signerName": SIGNER}}}, "spec.request: Input should be a valid string"),
        ({"object": {"metadata": {}, "spec": {"request": "%%%", "signerName": SIGNER}}}, "not written in base64"),
    ],
)
def test_what_is_not_understood_is_refused(change: dict[str, Any], reason: str) -> None:
    question = review(WANTED.manifest(), AMSTERDAM)

    assert reason in judged(question | {"request": question["request"] | change}).refused


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000,
        b'{"apiVersion": "admission.k8s.io/v1beta1", "request": {}}',
        json.dumps(review(WANTED.manifest(), AMSTERDAM)).replace('"uid": "', '"uid": 7, "di": "').encode(),
        json.dumps(review(WANTED.manifest(), AMSTERDAM)).replace('"username"', '"name"').replace('"userInfo"', '"user"').encode(),
    ],
)  # fmt: skip
def test_what_no_api_server_asks_is_no_question(body: bytes) -> None:
    with pytest.raises(BadInput, match=r"no AdmissionReview of admission\.k8s\.io/v1: "):
        parse_review(body)


def test_an_answer_names_the_question_and_says_why() -> None:
    asked = parse_review(json.dumps(review(WANTED.manifest(), AMSTERDAM)).encode())
    uid = "705ab4f5-6393-11e8-b7cc-42010a800002"

    said = {"code": 403, "reason": "Forbidden", "message": "no"}

    assert answer_to(asked, "") == {
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": {"uid": uid, "allowed": True},
    }  # fmt: skip
    assert answer_to(asked, "no")["response"] == {"uid": uid, "allowed": False, "status": said}


def test_a_reason_does_not_repeat_everything_that_a_stranger_has_written() -> None:
    verdict = judged(review(WANTED.manifest(), Asker("x" * 100_000)))

    assert len(verdict.refused) == SENTENCE_CHARACTERS_MAX + len("...")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=5,
)
PLACES = [
    ("metadata",), ("metadata", "labels"), ("metadata", "labels", CLUSTER_LABEL), ("metadata", "labels", ADDON_LABEL),
    ("spec",), ("spec", "request"), ("spec", "usages"),
]  # fmt: skip


@given(st.sampled_from(PLACES), ANYTHING)
def test_with_anything_else_in_a_place_that_counts_nothing_is_allowed(place: tuple[str, ...], value: object) -> None:
    question = copy.deepcopy(review(WANTED.manifest(), AMSTERDAM))
    *within, last = place
    target = question["request"]["object"]
    for name in within:
        target = target[name]
    target[last] = value

    assert judged(question).refused


NAMES = st.text("ab*>.:-", min_size=1, max_size=3)


@given(NAMES, NAMES)
def test_only_the_cluster_of_the_same_name_is_ever_allowed(asks: str, named: str) -> None:
    wanted = replace(
        WANTED, request=pkcs10((user_of(named, ADDON),), groups_of(named, ADDON)), labels={CLUSTER_LABEL: named, ADDON_LABEL: ADDON}
    )

    verdict = judged(review(wanted.manifest(), agent(asks)))

    assert verdict.refused or (verdict.cluster == asks == named)


def test_the_request_is_what_counts_and_not_what_is_said_of_it_in_base64() -> None:
    manifest = WANTED.manifest()
    manifest["spec"]["request"] += base64.b64encode(pkcs10((user_of("berlin", ADDON),), THEIRS)).decode()

    assert judged(review(manifest, AMSTERDAM)).refused
