"""What a hub's clusters offer, and when it has to be said again."""

from datetime import UTC, datetime, timedelta

import pytest

from fedplane.scheduler.ocm.reading import read
from fedplane.scheduler.offers import LEASE_SECONDS, due, unavailable
from fedplane.schemas.facts import Advertised

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def known(name="a", available="True", accepted=True, deleting=False, **status):
    conditions = [] if available is None else [{"type": "ManagedClusterConditionAvailable", "status": available}]
    metadata = {"name": name, "labels": {"zone": "north"}, **({"deletionTimestamp": "2026-01-02T12:00:00Z"} if deleting else {})}
    allocatable = {"cpu": "3500m", "memory": "16Gi", "nvidia.com/gpu": 2, "broken": "much"}
    said = {"conditions": conditions, "clusterClaims": [{"name": "data", "value": "/d"}], "allocatable": allocatable, **status}
    body = {"kind": "ManagedCluster", "metadata": metadata, "spec": {"hubAcceptsClient": accepted}, "status": said}
    return read([body])[0].clusters


def offered(at=NOON, **other):
    said = {
        "claims": {"data": "/d"},
        "allocatable": {"cpu": "3500m", "memory": "16Gi", "nvidia.com/gpu": "2"},
        "labels": {"zone": "north"},
        "managed": True,
    }
    return Advertised(at=at, cluster="a", lease_seconds=LEASE_SECONDS, **{**said, **other})


def later(seconds):
    return NOON + timedelta(seconds=seconds)


def test_what_nobody_has_heard_is_said_with_what_the_hub_knows():
    assert list(due(known(), {}, NOON)) == [offered()]


def test_it_is_said_again_when_it_is_new_and_at_half_of_its_lease_and_not_in_between():
    heard = {"a": offered()}

    assert list(due(known(), heard, later(899))) == []
    assert list(due(known(), heard, later(900))) == [offered(later(900))]
    assert list(due(known(clusterClaims=[]), heard, later(2))) == [offered(later(2), claims={})]


def test_what_changes_at_every_moment_is_said_once_a_second():
    assert list(due(known(clusterClaims=[]), {"a": offered()}, later(0.5))) == []


def test_a_cluster_that_advertises_itself_is_left_to_it_until_its_lease_lapses():
    own = Advertised(at=NOON, cluster="a", lease_seconds=15, frameworks=("flower",))

    assert list(due(known(), {"a": own}, later(14))) == []
    assert list(due(known(), {"a": own}, later(15))) == [offered(later(15))]


def test_a_cluster_that_has_left_is_said_to_have_once():
    gone = offered(later(60), unavailable="has left the hub")

    assert list(due({}, {"a": offered()}, later(60))) == [gone]
    assert list(due({}, {"a": gone}, later(120))) == []
    assert list(due({}, {"b": Advertised(at=NOON, cluster="b", lease_seconds=15)}, later(120))) == []


def test_a_statement_of_the_future_does_not_silence_a_cluster():
    assert list(due(known(clusterClaims=[]), {"a": offered(later(3600))}, NOON)) == [offered(claims={})]


def test_a_cluster_whose_name_cannot_be_one_of_ours_is_left_out():
    assert list(due(known("not.a.label"), {}, NOON)) == []


@pytest.mark.parametrize(
    ("cluster", "why"),
    [
        ({}, ""),
        ({"available": "False"}, "is not healthy, as its ManagedCluster says in the condition ManagedClusterConditionAvailable"),
        ({"available": "Unknown"}, "has stopped reporting to the hub; is its agent running?"),
        ({"available": None}, "has not joined the hub yet; is its agent running?"),
        ({"accepted": False}, "is not accepted by the hub; set spec.hubAcceptsClient of its ManagedCluster"),
        ({"accepted": False, "deleting": True}, "is being removed from the hub"),
    ],
)
def test_why_a_cluster_is_not_available(cluster, why):
    assert unavailable(known(**cluster)["a"]) == why
