"""What a hub's clusters offer, as the advertisements that collaborators state for clusters without a hub.

So people, and the one scheduler there is, see one fleet. A managed cluster has no collaborator until a run is placed there,
so the scheduler says what the hub knows. What only placements need (taints, sets, scores) is not said but read from the hub.

An advertisement is stated when it would say something new, and again before its lease has run out. Whoever states it next sees that
it was said, so several schedulers seldom say it twice. A cluster with a collaborator of its own that advertises is left to it.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from fedplane.scheduler.ocm.inventory import ManagedCluster
from fedplane.schemas.facts import Advertised
from fedplane.schemas.names import is_name

__all__ = ["AVAILABLE", "LEASE_SECONDS", "PAUSE_SECONDS", "due", "unaccepted", "unavailable"]

LEASE_SECONDS = 1800.0
"""Whether a cluster is there is for the hub to say, and it is said at once. The lease is for the time without any scheduler.
Said again after half of it, ten thousand clusters are eleven statements a second.
"""

PAUSE_SECONDS = 1.0
"""Between two statements about one cluster: what changes more often is told as it is then."""

AVAILABLE = "ManagedClusterConditionAvailable"
"""The condition by which a hub says whether it hears of a cluster."""

GONE = "has left the hub"

Offer = tuple[Mapping[str, str], Mapping[str, str], Mapping[str, str], bool, str]
"""What an advertisement says that may change: claims, what is allocatable, labels, whether it is managed, why it is unavailable."""


def due(clusters: Mapping[str, ManagedCluster], heard: Mapping[str, Advertised], now: datetime) -> Iterator[Advertised]:
    """What has to be stated now, given what was heard last of each cluster."""
    for name in sorted(clusters):
        last = heard.get(name)
        if not is_name(name) or (last is not None and not _is_turn(last, now)):
            continue
        offered = _offered(clusters[name])
        if last is None or _news(last) != offered or now >= last.at + timedelta(seconds=LEASE_SECONDS / 2):
            yield _advertised(name, offered, now)
    for name in sorted(heard.keys() - clusters.keys()):
        if heard[name].managed and heard[name].unavailable != GONE and _is_turn(heard[name], now):
            yield heard[name].model_copy(update={"at": now, "unavailable": GONE})


def unaccepted(cluster: ManagedCluster) -> str:
    """Why the hub does not want the cluster, a sentence that continues its name; empty if it does."""
    if cluster.deleting:
        return "is being removed from the hub"
    return "" if cluster.accepted else "is not accepted by the hub; set spec.hubAcceptsClient of its ManagedCluster"


def unavailable(cluster: ManagedCluster) -> str:
    """Why no run can be placed on the cluster, in the same way."""
    if unwanted := unaccepted(cluster):
        return unwanted
    match cluster.conditions.get(AVAILABLE):
        case "True":
            return ""
        case "False":
            return f"is not healthy, as its ManagedCluster says in the condition {AVAILABLE}"
        case "Unknown":
            return "has stopped reporting to the hub; is its agent running?"
    return "has not joined the hub yet; is its agent running?"


def _is_turn(last: Advertised, now: datetime) -> bool:
    """Whether a statement may follow that one. One of the future says nothing about now."""
    if not last.managed:
        return not timedelta(0) <= now - last.at < timedelta(seconds=last.lease_seconds)
    return not timedelta(0) <= now - last.at < timedelta(seconds=PAUSE_SECONDS)


def _offered(cluster: ManagedCluster) -> Offer:
    return cluster.claims, dict(_allocatable(cluster)), cluster.labels, True, unavailable(cluster)


def _news(said: Advertised) -> Offer:
    return said.claims, said.allocatable, said.labels, said.managed, said.unavailable


def _advertised(name: str, offered: Offer, now: datetime) -> Advertised:
    claims, allocatable, labels, managed, why = offered
    return Advertised(
        at=now, cluster=name, lease_seconds=LEASE_SECONDS, claims=dict(claims), allocatable=dict(allocatable), labels=dict(labels),
        managed=managed, unavailable=why,
    )  # fmt: skip


def _allocatable(cluster: ManagedCluster) -> Iterator[tuple[str, str]]:
    """The amounts as the hub writes them, those that could be read."""
    status = cluster.document.get("status")
    written = status.get("allocatable") if isinstance(status, Mapping) else None
    for name in cluster.allocatable:
        if isinstance(written, Mapping):
            yield name, str(written[name])
