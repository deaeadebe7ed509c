"""What the fleet view keeps of advertisements."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from fedplane.scheduler.fleet import LEASE_SECONDS_MAX, Cluster, available, fold
from fedplane.schemas.facts import Advertised

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def test_a_cluster_is_what_it_advertises_with_quantities_as_exact_numbers():
    fact = Advertised(
        at=NOON,
        cluster="a",
        lease_seconds=15,
        claims={"x.client-data": "/data"},
        allocatable={"cpu": "1500m", "memory": "8Gi"},
        labels={"zone": "north"},
        frameworks=("flower",),
    )

    assert fold({}, fact) == {
        "a": Cluster(
            name="a",
            at=NOON,
            lease_seconds=15,
            claims={"x.client-data": "/data"},
            labels={"zone": "north"},
            frameworks=("flower",),
            allocatable={"cpu": "1500m", "memory": "8Gi"},
            cpu=Decimal("1.5"),
            memory=Decimal(8 * 1024**3),
        )
    }


def test_the_last_advertisement_of_a_cluster_replaces_all_of_the_one_before():
    first = Advertised(at=NOON, cluster="a", lease_seconds=15, claims={"old": "1"})
    other = Advertised(at=NOON, cluster="b", lease_seconds=15)
    last = Advertised(at=NOON, cluster="a", lease_seconds=15, claims={"new": "1"})

    assert fold(fold(fold({}, first), other), last) == fold(fold({}, other), last)


@pytest.mark.parametrize("allocatable", [{}, {"cpu": "0", "memory": "0"}, {"cpu": "-4", "memory": "-1Gi"}])
def test_a_cluster_never_has_less_than_nothing(allocatable):
    cluster = fold({}, Advertised(at=NOON, cluster="a", lease_seconds=15, allocatable=allocatable))["a"]

    assert (cluster.cpu, cluster.memory) == (0, 0)


@pytest.mark.parametrize(
    ("lease_seconds", "after_seconds", "is_available"),
    [
        (15, 0, True), (15, 14.999, True), (15, 15, False), (15, -3600, True), (15, -LEASE_SECONDS_MAX, False),
        (1e300, LEASE_SECONDS_MAX - 1, True), (1e300, LEASE_SECONDS_MAX, False), (1e300, -LEASE_SECONDS_MAX, False),
    ],
)  # fmt: skip
def test_a_cluster_is_available_until_its_lease_lapses_and_for_a_day_at_most_whatever_its_clock_says(
    lease_seconds, after_seconds, is_available
):
    cluster = fold({}, Advertised(at=NOON, cluster="a", lease_seconds=lease_seconds))["a"]

    assert available(cluster, NOON + timedelta(seconds=after_seconds)) is is_available
