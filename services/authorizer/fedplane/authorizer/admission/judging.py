"""Whether somebody may ask for a collaborator's certificate: only a cluster's own agent, and only for that cluster.

OCM's approver for custom signers compares nothing: the labels have to name a cluster and an add-on that exist, and it approves.
So one cluster's agent could have a certificate made in another one's name. This is what keeps it from that.
A request is refused unless all of this holds:

1. The agent of one cluster asks: `system:open-cluster-management:CLUSTER:AGENT`, in the group of that cluster.
   The API server says who asks. When a request is created that is the user; later it is whom the stored request names.
2. What it asks for would let it in at the bus as the collaborator of that cluster. The authorizer's own `identify` says whether it would.
3. It asks for nothing besides: no group, no host's name, no extension, no use but a client's.
4. The labels, by which OCM finds cluster and add-on, name the same two.

Labels can be put on later, and a request can be older than this guard.
So updates are judged as well: of the request, of its approval, and of its status, by which a signer hands out the certificate.
To deny a request, or to delete it, needs no judgement. Requests to other signers are none of our business.
Source: OCM, `pkg/registration/register/csr`, `pkg/registration/spoke/addon`, `pkg/addon/templateagent/registration.go`.
"""

import base64
from collections.abc import Iterable
from dataclasses import dataclass

from fedplane.authorizer.admission.requested import REQUEST_BYTES_MAX, Requested, parse_request
from fedplane.authorizer.admission.reviews import Requester, Review, Wanted, wanted_in
from fedplane.authorizer.certificates import Certificate
from fedplane.authorizer.identity import Identity, Refused, Trust, identify
from fedplane.runtime.errors import BadInput
from fedplane.schemas.agents import PREFIX
from fedplane.schemas.roles import Role

__all__ = ["ADDON_LABEL", "CLUSTER_LABEL", "Rules", "Verdict", "judge"]

CLUSTER_LABEL = "open-cluster-management.io/cluster-name"
ADDON_LABEL = "open-cluster-management.io/addon-name"
"""By these labels OCM's approver and its signer find out whose request it is; one without them is never approved by it."""

USAGES = frozenset({"digital signature", "key encipherment", "client auth"})
"""What OCM's agents ask for. Its signer gives every certificate both uses, a client's and a server's, whatever is asked for;
so it is the hosts' names that keep an agent from pretending to be a server."""

DEPRECATED_GROUP = "system:authenticated"
"""Older agents ask for this third group, which everybody is in who is known at all."""

KIND = ("certificates.k8s.io", "v1", "CertificateSigningRequest")

SENTENCE_CHARACTERS_MAX = 1_000
"""How much is said in an answer, which repeats what strangers have written; two names of OCM's are less than half of it."""

SIGNER = "the signer that is judged"
"""Stands for the authority whose signature is asked for, where a certificate would have its fingerprint."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Requests to which signer are judged, and whose agents may make them."""

    signer: str
    addon: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why it is refused, which is nothing if it is allowed; and the cluster whose certificate it is about, if it is ours to judge."""

    refused: str = ""
    cluster: str = ""


def judge(review: Review, rules: Rules) -> Verdict:
    """What to answer an API server. Whatever is not understood is refused."""
    question = review.request
    asked = (question.kind.group, question.kind.version, question.kind.kind)
    if asked != KIND or question.operation not in ("CREATE", "UPDATE"):
        return Verdict(f"the guard was asked about {question.operation} of {'/'.join(asked)}; correct the rules of its webhook")
    try:
        wanted = wanted_in(review)
        if wanted.spec.signer_name != rules.signer:
            return Verdict()
        if question.sub_resource == "approval" and "Approved" not in {each.type for each in wanted.status.conditions}:
            return Verdict()
        stored = Requester(username=wanted.spec.username, groups=wanted.spec.groups)
        cluster = _cluster_of(question.user_info if question.operation == "CREATE" else stored)
        _compare(wanted, _requested(wanted), cluster, rules.addon)
    except BadInput as error:
        return Verdict(_sentence(f"no certificate of {rules.signer} for this request: {error}"))
    return Verdict(cluster=cluster)


def _sentence(text: str) -> str:
    return text if len(text) <= SENTENCE_CHARACTERS_MAX else f"{text[:SENTENCE_CHARACTERS_MAX]}..."


def _cluster_of(requester: Requester) -> str:
    """Whose agent asks. Raises BadInput if it is nobody's."""
    words = requester.username.removeprefix(f"{PREFIX}:").split(":")
    if not requester.username.startswith(f"{PREFIX}:") or len(words) != 2 or not all(words):
        raise BadInput(f"{requester.username!r} is no cluster's agent, and only {PREFIX}:CLUSTER:AGENT may ask for it")
    if f"{PREFIX}:{words[0]}" not in requester.groups:
        raise BadInput(f"{requester.username!r} is not in the group {PREFIX}:{words[0]}")
    return words[0]


def _requested(wanted: Wanted) -> Requested:
    if len(wanted.spec.request) > 2 * REQUEST_BYTES_MAX:
        raise BadInput(f"the request has more than {REQUEST_BYTES_MAX:,} bytes")
    try:
        return parse_request(base64.b64decode(wanted.spec.request, validate=True))
    except ValueError as error:
        raise BadInput("spec.request is not written in base64") from error


def _compare(wanted: Wanted, requested: Requested, cluster: str, addon: str) -> None:
    """Raises BadInput unless everything that is asked for is the add-on's agent's on that cluster."""
    leaf, signer = Certificate(requested.common_names, requested.groups, ""), Certificate((), frozenset(), SIGNER)
    match identify((leaf, signer), Trust(addon, clusters=frozenset({SIGNER}), services=frozenset())):
        case Refused() as refused:
            raise BadInput(refused.reason)
        case Identity(role, name) if (role, name) != (Role.COLLABORATOR, cluster):
            raise BadInput(f"the agent of the cluster {cluster} asks for a certificate of {name}; each cluster asks for its own")
    groups = {f"{PREFIX}:cluster:{cluster}:addon:{addon}", f"{PREFIX}:addon:{addon}", DEPRECATED_GROUP}
    _refuse_others("the group", requested.groups - groups)
    _refuse_others("the host's name", requested.hosts - {f"{addon}.addon.open-cluster-management.io"})
    _refuse_others("the use", set(wanted.spec.usages) - USAGES)
    if missing := sorted(USAGES - set(wanted.spec.usages)):
        raise BadInput(f"the use {missing[0]!r} is not asked for, and a client's certificate has it")
    for label, value in ((CLUSTER_LABEL, cluster), (ADDON_LABEL, addon)):
        if (said := wanted.metadata.labels.get(label)) != value:
            raise BadInput(f"its label {label} should be {value!r}, and is {'not there' if said is None else repr(said)}")


def _refuse_others(what: str, others: Iterable[str]) -> None:
    for other in sorted(others):
        raise BadInput(f"{what} {other!r} is asked for as well, and is not the add-on's")
