"""Filters: may this cluster take part in this run at all?

Each filter is one question about one cluster. It answers None, or a sentence that continues the cluster's name and has the numbers in it.
`FILTERS` asks them in order, and the first one that is violated is the reason that people see; so what they can mend comes first.

A message must not change while the cluster says nothing new: the scheduler states a wait anew whenever its messages differ.
Hence a time in a message is a time of the past ("lapsed at"), never a span until now.

A part of a selector that this module does not know refuses the cluster: letting it in could bring a run where its user forbade it.
Parts of a placement that only prefer or group clusters (prioritizers, spread, decision groups) do not refuse, and are not read here.
The operators are those of Kubernetes' label selectors. Source: Open Cluster Management's Placement, scheduling by predicates.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from fedplane.scheduler.fleet import Cluster, available
from fedplane.schemas.models import Refused
from fedplane.schemas.quantities import parse
from fedplane.schemas.resources import FederatedLearning, Predicate

__all__ = ["FILTERS", "Filter", "MESSAGE_CHARACTERS_MAX", "refusal"]

Filter = Callable[[FederatedLearning, Cluster, datetime], str | None]
"""What is wrong with the cluster for this run at that time; None if nothing is."""

MESSAGE_CHARACTERS_MAX = 500
"""Enough for several predicates, short enough for a line in a table. The values that a message repeats may be 1024 characters each."""

CLUSTER_SET_LABEL = "cluster.open-cluster-management.io/clusterset"
"""The label by which Open Cluster Management puts a cluster into exactly one set."""

SET_OF_ALL = "global"
SET_OF_UNLABELLED = "default"
"""Open Cluster Management's two built-in sets: every cluster, and those that no label puts elsewhere."""


def refusal(resource: FederatedLearning, cluster: Cluster, now: datetime) -> Refused | None:
    """The first filter that refuses the cluster, with its message; None if the cluster passes all of them."""
    for reason, violated in FILTERS:
        message = violated(resource, cluster, now)
        if message is not None:
            return Refused(cluster=cluster.name, reason=reason, message=_short(message))
    return None


def _availability(resource: FederatedLearning, cluster: Cluster, now: datetime) -> str | None:
    if available(cluster, now):
        return None
    if cluster.at > now:
        return "advertises at times that are a day or more ahead, so nobody can tell how long it has been silent; set its clock"
    lapsed = (cluster.at + timedelta(seconds=cluster.lease_seconds)).astimezone(UTC)
    return f"has not been heard of since its lease lapsed at {lapsed:%Y-%m-%dT%H:%M:%SZ}; is its collaborator running?"


def _framework(resource: FederatedLearning, cluster: Cluster, now: datetime) -> str | None:
    framework = resource.spec.framework
    if not cluster.frameworks or framework in cluster.frameworks:  # a cluster that names none runs whatever image it is given
        return None
    return f"runs {', '.join(cluster.frameworks)}, the run asks for {framework}"


def _data(resource: FederatedLearning, cluster: Cluster, now: datetime) -> str | None:
    claim = resource.data_claim
    if cluster.claims.get(claim):
        return None
    has = "advertises the claim {} without a value" if claim in cluster.claims else "does not advertise the claim {}"
    return f"{has.format(claim)}; its value has to say where the data is"


def _claims(resource: FederatedLearning, cluster: Cluster, now: datetime) -> str | None:
    missing = [claim for claim in resource.spec.data.required_claims if claim not in cluster.claims]
    return f"does not advertise {', '.join(missing)}; the run requires these claims" if missing else None


def _sets(resource: FederatedLearning, cluster: Cluster, now: datetime) -> str | None:
    wanted = resource.spec.client.placement.cluster_sets
    own = cluster.labels.get(CLUSTER_SET_LABEL) or SET_OF_UNLABELLED
    if not wanted or SET_OF_ALL in wanted or own in wanted:
        return None
    return f"is in the cluster set {own}, the placement allows {', '.join(wanted)}"


def _predicates(resource: FederatedLearning, cluster: Cluster, now: datetime) -> str | None:
    failures = [next(_failures(predicate, cluster), None) for predicate in resource.spec.client.placement.predicates]
    if not failures or None in failures:
        return None
    numbered = (f"predicate {number} {failure}" for number, failure in enumerate(failures, start=1))
    return f"satisfies no predicate of the placement: {'; '.join(numbered)}"


def _cpu(resource: FederatedLearning, cluster: Cluster, now: datetime) -> str | None:
    return _too_little(cluster, "cpu", "CPU", cluster.cpu, resource.spec.resources.requests.cpu)


def _memory(resource: FederatedLearning, cluster: Cluster, now: datetime) -> str | None:
    return _too_little(cluster, "memory", "memory", cluster.memory, resource.spec.resources.requests.memory)


FILTERS: tuple[tuple[str, Filter], ...] = (
    ("availability", _availability),
    ("framework", _framework),
    ("data", _data),
    ("claims", _claims),
    ("sets", _sets),
    ("predicates", _predicates),
    ("cpu", _cpu),
    ("memory", _memory),
)
"""Every filter by the word that a refusal gives as its reason, in the order in which they are asked."""


def _too_little(cluster: Cluster, resource: str, spoken: str, advertised: Decimal, asked: str) -> str | None:
    if advertised >= parse(asked):
        return None
    return f"advertises {cluster.allocatable.get(resource, 'no')} {spoken}, the run asks for {asked}"


_HOLDS: Mapping[str, Callable[[str | None, tuple[str, ...]], bool]] = {
    "In": lambda held, values: held in values,
    "NotIn": lambda held, values: held not in values,  # also holds for a key that is absent, as in Kubernetes
    "Exists": lambda held, values: held is not None,
    "DoesNotExist": lambda held, values: held is None,
}
"""What each operator demands of the value that is held, None if the key is absent."""


def _failures(predicate: Predicate, cluster: Cluster) -> Iterator[str]:
    """Everything in the predicate that the cluster does not satisfy, unknown parts first."""
    selector = predicate.required_cluster_selector
    labels, claims = selector.label_selector, selector.claim_selector
    unknown = [name for part in (predicate, selector, labels, claims) for name in part.model_extra or ()]
    if unknown:
        yield f"uses {', '.join(unknown)}, which this scheduler cannot evaluate (it knows labelSelector and claimSelector)"
    for key, value in labels.match_labels.items():
        yield from _unmet("label", cluster.labels, key, "In", (value,))
    for line in labels.match_expressions:
        yield from _unmet("label", cluster.labels, line.key, line.operator, line.values)
    for line in claims.match_expressions:
        yield from _unmet("claim", cluster.claims, line.key, line.operator, line.values)


def _unmet(kind: str, held: Mapping[str, str], key: str, operator: str, values: tuple[str, ...]) -> Iterator[str]:
    value = held.get(key)
    if not _HOLDS[operator](value, values):
        wanted = f" ({', '.join(values)})" if values else ""
        yield f"asks for {kind} {key} {operator}{wanted}, and it is {'absent' if value is None else repr(value)}"


def _short(message: str) -> str:
    return message if len(message) <= MESSAGE_CHARACTERS_MAX else message[: MESSAGE_CHARACTERS_MAX - 1] + "…"
