"""Filters: may this cluster take part in this run at all?

Each filter is one question about one cluster. It answers None, or a sentence that continues the cluster's name and has the numbers in it.
`FILTERS` asks them in order, and the first one that is violated is the reason that people see; so what they can mend comes first.

A message must not change while the cluster says nothing new: the scheduler states a wait anew whenever its messages differ.
Hence a time in a message is a time of the past ("lapsed at"), never a span until now.

A part of a selector that this module does not know refuses the cluster: letting it in could bring a run where its user forbade it.
Parts of a placement that only prefer or group clusters (prioritizers, spread, decision groups) do not refuse, and are not read here.
What predicates and tolerations mean is Open Cluster Management's, computed in `ocm`; what a cluster must have to learn is ours.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from fedplane.scheduler.excerpts import excerpt
from fedplane.scheduler.fleet import Cluster, available
from fedplane.scheduler.ocm import predicates, scheduling, taints
from fedplane.scheduler.ocm.cel.expressions import COST_MAX
from fedplane.scheduler.ocm.cel.values import Meter
from fedplane.scheduler.ocm.inventory import EXCLUSIVE_LABEL, NO_HUB, Inventory
from fedplane.scheduler.offers import unaccepted
from fedplane.scheduler.view import managed
from fedplane.schemas.models import Refused
from fedplane.schemas.placements import Predicate
from fedplane.schemas.quantities import parse
from fedplane.schemas.resources import FederatedLearning

__all__ = ["FILTERS", "Filter", "MESSAGE_CHARACTERS_MAX", "Question", "refusal"]

MESSAGE_CHARACTERS_MAX = 500
"""Enough for several predicates, short enough for a line in a table. The values that a message repeats may be 1024 characters each."""

SET_OF_ALL = "global"
SET_OF_UNLABELLED = "default"
"""Open Cluster Management's two built-in sets: every cluster, and those that no label puts elsewhere."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked about every cluster: may it take part in this run at that time, on a fleet of which `hub` may know more?

    The placement's predicates are compiled once; `unreadable` says why they could not be.
    `own` are the clusters that the hub has decided on for this placement.
    """

    resource: FederatedLearning
    now: datetime
    hub: Inventory
    own: frozenset[str] = frozenset()
    alternatives: tuple[predicates.Alternative, ...] = ()
    unreadable: str = ""

    @classmethod
    def of(cls, resource: FederatedLearning, now: datetime, hub: Inventory = NO_HUB) -> "Question":
        """The question for a resource."""
        own = hub.decided(resource.metadata.namespace, resource.metadata.name)
        try:
            return cls(resource, now, hub, own, predicates.alternatives(resource.spec.client.placement.predicates))
        except ValueError as error:
            return cls(resource, now, hub, own, unreadable=str(error))

    def has(self, cluster: Cluster) -> bool:
        """Whether the resource has the cluster already: from its last run, or by a decision of the hub about its placement."""
        return cluster.took_part or cluster.name in self.own


Filter = Callable[[Question, Cluster], str | None]
"""What is wrong with the cluster; None if nothing is."""


def refusal(question: Question, cluster: Cluster) -> Refused | None:
    """The first filter that refuses the cluster, with its message; None if the cluster passes all of them."""
    for reason, violated in FILTERS:
        message = violated(question, cluster)
        if message is not None:
            return Refused(cluster=cluster.name, reason=reason, message=excerpt(message, MESSAGE_CHARACTERS_MAX))
    return None


def _availability(question: Question, cluster: Cluster) -> str | None:
    if available(cluster, question.now):
        return cluster.unavailable or None
    if cluster.at > question.now:
        return "advertises at times that are a day or more ahead, so nobody can tell how long it has been silent; set its clock"
    lapsed = (cluster.at + timedelta(seconds=cluster.lease_seconds)).astimezone(UTC)
    return f"has not been heard of since its lease lapsed at {lapsed:%Y-%m-%dT%H:%M:%SZ}; is its collaborator running?"


def _framework(question: Question, cluster: Cluster) -> str | None:
    framework = question.resource.spec.framework
    if not cluster.frameworks or framework in cluster.frameworks:  # a cluster that names none runs whatever image it is given
        return None
    return f"runs {', '.join(cluster.frameworks)}, the run asks for {framework}"


def _data(question: Question, cluster: Cluster) -> str | None:
    claim = question.resource.data_claim
    if cluster.claims.get(claim):
        return None
    has = "advertises the claim {} without a value" if claim in cluster.claims else "does not advertise the claim {}"
    return f"{has.format(claim)}; its value says where data is; spec.data.claim may name another"


def _claims(question: Question, cluster: Cluster) -> str | None:
    missing = [claim for claim in question.resource.spec.data.required_claims if claim not in cluster.claims]
    return f"does not advertise {', '.join(missing)}; the run requires these claims" if missing else None


def _accepted(question: Question, cluster: Cluster) -> str | None:
    known = question.hub.clusters.get(cluster.name)
    if known is None and cluster.managed:  # its sets and taints are unknown here, so it must not pass as a cluster without any
        return "was a hub's cluster, and this scheduler's hub has none of that name"
    return unaccepted(known) or None if known else None


def _placement(question: Question, cluster: Cluster) -> str | None:
    named, namespace = question.resource.spec.client.placement_ref, question.resource.metadata.namespace
    if not named or cluster.name in question.hub.decided(namespace, named):
        return None
    return f"is in no decision of the Placement {namespace}/{named}"


def _sets(question: Question, cluster: Cluster) -> str | None:
    if question.resource.spec.client.placement_ref:  # which sets and taints are right was decided where that Placement was
        return None
    wanted = question.resource.spec.client.placement.cluster_sets
    if cluster.name in question.hub.clusters:
        return _bound_sets(question, cluster, wanted)
    own = cluster.labels.get(EXCLUSIVE_LABEL) or SET_OF_UNLABELLED
    if not wanted or SET_OF_ALL in wanted or own in wanted:
        return None
    return f"is in the cluster set {own}, the placement allows {', '.join(wanted)}"


def _bound_sets(question: Question, cluster: Cluster, wanted: tuple[str, ...]) -> str | None:
    namespace, hub = question.resource.metadata.namespace, question.hub
    sets = scheduling.eligible_sets(hub, namespace, wanted)
    if any(scheduling.in_set(hub.clusters[cluster.name], hub.sets[name]) for name in sets):
        return None
    allowed = ", ".join(sets) or "none"
    return f"is in no cluster set that the namespace {namespace} is bound to and the placement allows; these are {allowed}"


def _predicates(question: Question, cluster: Cluster) -> str | None:
    if question.unreadable:
        return f"cannot be judged by the placement's predicates: {question.unreadable}"
    if not question.alternatives:
        return None
    known, meter = managed(cluster, question.hub), Meter(COST_MAX)
    failures = []
    for predicate, wanted in zip(question.resource.spec.client.placement.predicates, question.alternatives, strict=True):
        failure = next(_unknown(predicate), None) or next(predicates.unmet(wanted, known, question.hub.scores, meter), None)
        if failure is None:
            return None
        failures.append(failure)
    numbered = (f"predicate {number} {failure}" for number, failure in enumerate(failures, start=1))
    return f"satisfies no predicate of the placement: {'; '.join(numbered)}"


def _taints(question: Question, cluster: Cluster) -> str | None:
    known = cluster.name in question.hub.clusters and not question.resource.spec.client.placement_ref
    held = question.hub.clusters[cluster.name].taints if known else ()
    if not held:
        return None
    tolerations = question.resource.spec.client.placement.tolerations
    taint = taints.tolerance(held, tolerations, question.has(cluster), question.now).intolerable
    if taint is None:
        return None
    return f"has the taint {taint.key}{f'={taint.value}' if taint.value else ''}:{taint.effect}, which the placement does not tolerate"


def _cpu(question: Question, cluster: Cluster) -> str | None:
    return _too_little(cluster, "cpu", "CPU", cluster.cpu, question.resource.spec.resources.requests.cpu)


def _memory(question: Question, cluster: Cluster) -> str | None:
    return _too_little(cluster, "memory", "memory", cluster.memory, question.resource.spec.resources.requests.memory)


FILTERS: tuple[tuple[str, Filter], ...] = (
    ("availability", _availability),
    ("framework", _framework),
    ("data", _data),
    ("claims", _claims),
    ("accepted", _accepted),
    ("placement", _placement),
    ("sets", _sets),
    ("predicates", _predicates),
    ("taints", _taints),
    ("cpu", _cpu),
    ("memory", _memory),
)
"""Every filter by the word that a refusal gives as its reason, in the order in which they are asked."""


def _too_little(cluster: Cluster, resource: str, spoken: str, advertised: Decimal, asked: str) -> str | None:
    if advertised >= parse(asked):
        return None
    return f"advertises {cluster.allocatable.get(resource, 'no')} {spoken}, the run asks for {asked}"


def _unknown(predicate: Predicate) -> Iterator[str]:
    """What the predicate asks for that nobody here knows."""
    selector = predicate.required_cluster_selector
    parts = (predicate, selector, selector.label_selector, selector.claim_selector, selector.cel_selector)
    names = [name for part in parts for name in part.model_extra or ()]
    if names:
        yield f"uses {', '.join(names)}, which this scheduler cannot evaluate (it knows labelSelector, claimSelector and celSelector)"
