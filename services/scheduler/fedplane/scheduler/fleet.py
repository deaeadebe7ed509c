"""The fleet: what every cluster has last said about itself.

Scheduling needs all clusters at once, comparable and parsed; the fleet stream gives advertisements one by one, as text.
This module is the fold from one to the other. It is pure, and it judges nobody: that is the business of `filters`.

A cluster is never forgotten, only found unavailable, so that a run's explanation can still say since when it has been away.
The fleet stream bounds this: it keeps one advertisement per cluster.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from fedplane.schemas.facts import Advertised
from fedplane.schemas.quantities import parse

__all__ = ["Cluster", "Fleet", "LEASE_SECONDS_MAX", "available", "fold"]

LEASE_SECONDS_MAX = 24 * 3600.0
"""A cluster is believed for a day at most, whatever it promises: collaborators promise 15 seconds, and a slip must not last for ever."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """One cluster, as filters and criteria see it.

    `cpu` is in cores and `memory` in bytes; what is not advertised is none. `allocatable` has both as they were written, for messages.
    The last two fields are not advertised: they come from the log of the runs and are filled in when a run is to be placed.
    `managed` is whether a hub says all this of it.
    `unavailable` is why no run can be placed there although it is heard of, if it says so itself or its hub does.
    `live_runs` is the number of runs that the cluster takes part in now.
    `took_part` is whether it took part in the last run that the same resource, by namespace and name, asked for.
    """

    name: str
    at: datetime
    lease_seconds: float
    claims: Mapping[str, str]
    labels: Mapping[str, str]
    frameworks: tuple[str, ...]
    allocatable: Mapping[str, str]
    cpu: Decimal
    memory: Decimal
    managed: bool = False
    unavailable: str = ""
    live_runs: int = 0
    took_part: bool = False


Fleet = Mapping[str, Cluster]
"""Clusters by name."""


def fold(fleet: Fleet, fact: Advertised) -> Fleet:
    """The fleet after one more advertisement; a cluster's last one counts, in the order of the stream."""
    cluster = Cluster(
        name=fact.cluster,
        at=fact.at,
        lease_seconds=min(fact.lease_seconds, LEASE_SECONDS_MAX),
        claims=fact.claims,
        labels=fact.labels,
        frameworks=fact.frameworks,
        allocatable=fact.allocatable,
        cpu=_allocatable(fact, "cpu"),
        memory=_allocatable(fact, "memory"),
        managed=fact.managed,
        unavailable=fact.unavailable,
    )
    return {**fleet, cluster.name: cluster}


def available(cluster: Cluster, now: datetime) -> bool:
    """Whether the lease of the last advertisement still holds. One of tomorrow would hold for ever, and is no clock's small error."""
    return -timedelta(seconds=LEASE_SECONDS_MAX) < now - cluster.at < timedelta(seconds=cluster.lease_seconds)


def _allocatable(fact: Advertised, resource: str) -> Decimal:
    # Quantities may be negative, but nobody has less than nothing, and criteria rely on that.
    return max(parse(fact.allocatable.get(resource, "0")), Decimal(0))
