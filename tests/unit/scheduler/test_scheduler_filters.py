"""What refuses a cluster, and the sentence that says so."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from fedplane.scheduler import filters, fleet
from fedplane.scheduler.filters import FILTERS, MESSAGE_CHARACTERS_MAX, Question
from fedplane.scheduler.ocm.inventory import EXCLUSIVE_LABEL, NO_HUB, Binding, ClusterSet, Decision, Inventory, ManagedCluster, Taint
from fedplane.schemas.facts import Advertised
from fedplane.schemas.models import Refused
from fedplane.schemas.resources import API_VERSION, KIND, FederatedLearning

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def resource(**spec):
    return FederatedLearning.model_validate({"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "r"}, "spec": spec})


def refusal(run, offered, now, hub=NO_HUB):
    return filters.refusal(Question.of(run, now, hub), offered)


def hub(**known):
    """A hub that knows the cluster, and on which every namespace's runs may use the set "eu"."""
    return Inventory(clusters={"a": ManagedCluster(name="a", **known)}, sets={"eu": ClusterSet("eu")}, bindings=(Binding("default", "eu"),))


def placed_by(*predicates, **placement):
    selectors = [{"requiredClusterSelector": predicate} for predicate in predicates]
    return resource(data={"claim": "data"}, client={"placement": {"predicates": selectors, **placement}})


def cluster(**advertised):
    said = {"at": NOON, "cluster": "a", "lease_seconds": 15, "claims": {"r.client-data": "/data", "data": "/data"}} | advertised
    return fleet.fold({}, Advertised(**said))["a"]


def expression(kind, key, operator, *values):
    return {f"{kind}Selector": {"matchExpressions": [{"key": key, "operator": operator, "values": values}]}}


def test_a_cluster_that_has_the_data_passes_a_run_that_asks_for_nothing_else():
    assert refusal(resource(), cluster(), NOON) is None


@pytest.mark.parametrize(
    ("run", "offered", "reason", "message"),
    [
        (
            resource(),
            cluster(at=(NOON - timedelta(seconds=20)).astimezone(timezone(timedelta(hours=2)))),
            "availability",
            "has not been heard of since its lease lapsed at 2026-01-02T11:59:55Z; is its collaborator running?",
        ),
        (
            resource(),
            cluster(at=NOON + timedelta(days=1)),
            "availability",
            "advertises at times that are a day or more ahead, so nobody can tell how long it has been silent; set its clock",
        ),
        (
            resource(framework="openfl"),
            cluster(frameworks=("flower", "other")),
            "framework",
            "runs flower, other, the run asks for openfl",
        ),
        (
            resource(),
            cluster(claims={}),
            "data",
            "does not advertise the claim r.client-data; its value says where data is; spec.data.claim may name another",
        ),
        (
            resource(),
            cluster(claims={"r.client-data": ""}),
            "data",
            "advertises the claim r.client-data without a value; its value says where data is; spec.data.claim may name another",
        ),
        (
            resource(data={"claim": "data", "requiredClaims": ["consent", "data", "ethics"]}),
            cluster(),
            "claims",
            "does not advertise consent, ethics; the run requires these claims",
        ),
        (
            placed_by(clusterSets=["eu", "us"]),
            cluster(labels={EXCLUSIVE_LABEL: "asia"}),
            "sets",
            "is in the cluster set asia, the placement allows eu, us",
        ),
        (
            resource(resources={"requests": {"cpu": "4"}}),
            cluster(allocatable={"cpu": "2"}),
            "cpu",
            "advertises 2 CPU, the run asks for 4",
        ),
        (
            resource(resources={"requests": {"memory": "8Gi"}}),
            cluster(allocatable={"cpu": "2"}),
            "memory",
            "advertises no memory, the run asks for 8Gi",
        ),
    ],
)
def test_a_refusal_says_which_filter_was_violated_and_what_to_mend(run, offered, reason, message):
    assert refusal(run, offered, NOON) == Refused(cluster="a", reason=reason, message=message)


def test_the_first_violated_filter_is_the_reason():
    hopeless = resource(
        framework="openfl",
        data={"requiredClaims": ["consent"]},
        client={"placement": {"clusterSets": ["eu"], "predicates": [{"requiredClusterSelector": expression("label", "gpu", "Exists")}]}},
        resources={"requests": {"cpu": "4", "memory": "1Gi"}},
    )
    offered = {"at": NOON - timedelta(minutes=1), "frameworks": ("flower",), "claims": {}}
    known = {"accepted": False, "taints": (Taint("busy"),)}
    mended = [
        ({"at": NOON}, {}),
        ({"frameworks": ("openfl",)}, {}),
        ({"claims": {"r.client-data": "/data"}}, {}),
        ({"claims": {"r.client-data": "/data", "consent": "yes"}}, {}),
        ({}, {"accepted": True}),
        ({}, {"labels": {EXCLUSIVE_LABEL: "eu"}}),
        ({}, {"labels": {EXCLUSIVE_LABEL: "eu", "gpu": "a"}}),
        ({}, {"taints": ()}),
        ({"allocatable": {"cpu": "4"}}, {}),
    ]
    reasons = [refusal(hopeless, cluster(**offered), NOON, hub(**known)).reason]
    for better, better_known in mended:
        offered |= better
        known |= better_known
        reasons.append(refusal(hopeless, cluster(**offered), NOON, hub(**known)).reason)

    assert reasons == [reason for reason, _ in FILTERS if reason != "placement"]  # of a named Placement, sets and taints are not asked


NAMED = resource(client={"placementRef": "gpus"})
NOT_IN_IT = Refused(cluster="a", reason="placement", message="is in no decision of the Placement default/gpus")


@pytest.mark.parametrize(
    ("decision", "expected"),
    [
        (Decision("default", "gpus", ("b", "a")), None),
        (Decision("default", "gpus", ("b",)), NOT_IN_IT),
        (Decision("default", "others", ("a",)), NOT_IN_IT),
        (Decision("elsewhere", "gpus", ("a",)), NOT_IN_IT),
    ],
)
def test_a_named_placement_decides_who_may_take_part_whatever_sets_and_taints_say(decision, expected):
    known = Inventory(clusters={"a": ManagedCluster(name="a", taints=(Taint("busy"),))}, decisions=(decision,))

    assert refusal(NAMED, cluster(), NOON, known) == expected


def test_a_cluster_that_was_a_hubs_and_is_not_known_to_this_one_is_refused_and_one_of_its_own_is_not():
    message = "was a hub's cluster, and this scheduler's hub has none of that name"

    assert refusal(resource(), cluster(managed=True), NOON) == Refused(cluster="a", reason="accepted", message=message)
    assert refusal(resource(), cluster(), NOON) is None


def test_a_cluster_that_says_why_it_is_unavailable_is_refused_with_that_until_its_lease_lapses():
    away = cluster(unavailable="has stopped reporting")

    assert refusal(resource(), away, NOON) == Refused(cluster="a", reason="availability", message="has stopped reporting")
    assert refusal(resource(), away, NOON + timedelta(minutes=1)).message.startswith("has not been heard of")


@pytest.mark.parametrize(
    ("run", "offered"),
    [
        (resource(framework="flower"), cluster(frameworks=())),
        (resource(framework="flower"), cluster(frameworks=("openfl", "flower"))),
        (resource(resources={"requests": {"cpu": "1500m", "memory": "1Gi"}}), cluster(allocatable={"cpu": "1.5", "memory": "1073741824"})),
        (placed_by(clusterSets=["global"]), cluster(labels={EXCLUSIVE_LABEL: "asia"})),
        (placed_by(clusterSets=["eu", "default"]), cluster()),
        (placed_by(clusterSets=["eu"]), cluster(labels={EXCLUSIVE_LABEL: "eu"})),
    ],
)
def test_a_cluster_passes_with_exactly_what_is_asked_for(run, offered):
    assert refusal(run, offered, NOON) is None


@pytest.mark.parametrize("kind", ["label", "claim"])
@pytest.mark.parametrize(
    ("operator", "values", "passing"),
    [
        ("In", ["x", "y"], ["x", "y"]),
        ("NotIn", ["x", "y"], ["z", None]),
        ("Exists", [], ["x", "y", "z"]),
        ("DoesNotExist", [], [None]),
    ],
)
def test_operators_mean_what_they_mean_in_kubernetes(kind, operator, values, passing):
    run = placed_by(expression(kind, "key", operator, *values))

    def holding(value):
        held = {} if value is None else {"key": value}
        return cluster(labels=held) if kind == "label" else cluster(claims={"data": "/data", **held})

    assert [value for value in ("x", "y", "z", None) if refusal(run, holding(value), NOON) is None] == passing


def test_within_a_predicate_everything_must_hold():
    run = placed_by({"labelSelector": {"matchLabels": {"zone": "north", "gpu": "a"}}, **expression("claim", "consent", "In", "yes")})
    claims = {"data": "/data", "consent": "yes"}

    assert refusal(run, cluster(labels={"zone": "north", "gpu": "a"}, claims=claims), NOON) is None
    assert [
        refusal(run, offered, NOON).message
        for offered in (cluster(labels={"zone": "north", "gpu": "b"}, claims=claims), cluster(labels={"zone": "north", "gpu": "a"}))
    ] == [
        "satisfies no predicate of the placement: predicate 1 asks for label gpu In (a), and it is 'b'",
        "satisfies no predicate of the placement: predicate 1 asks for claim consent In (yes), and it is absent",
    ]


def test_one_satisfied_predicate_is_enough_and_a_refusal_tells_why_each_one_is_not():
    run = placed_by(expression("label", "gpu", "Exists"), {"labelSelector": {"matchLabels": {"zone": "north"}}})

    assert refusal(run, cluster(labels={"zone": "north"}), NOON) is None
    assert refusal(run, cluster(labels={"zone": "south"}), NOON).message == (
        "satisfies no predicate of the placement: "
        "predicate 1 asks for label gpu Exists, and it is absent; predicate 2 asks for label zone In (north), and it is 'south'"
    )


@pytest.mark.parametrize(
    ("selector", "name"),
    [
        ({"fieldSelector": {"fields": []}}, "fieldSelector"),
        ({"labelSelector": {"matchFields": []}}, "matchFields"),
        ({"claimSelector": {"matchLabels": {}}}, "matchLabels"),
    ],
)
def test_a_part_of_a_selector_that_is_not_known_refuses_instead_of_being_ignored(selector, name):
    assert refusal(placed_by(selector), cluster(), NOON).message == (
        f"satisfies no predicate of the placement: predicate 1 uses {name}, "
        "which this scheduler cannot evaluate (it knows labelSelector, claimSelector and celSelector)"
    )


def test_a_message_is_cut_where_it_becomes_unreadable():
    message = refusal(placed_by(expression("label", "zone", "In", "n" * 1000)), cluster(), NOON).message

    assert (len(message), message[-1]) == (MESSAGE_CHARACTERS_MAX, "…")


@pytest.mark.parametrize(
    ("placement", "known", "reason", "message"),
    [
        ({}, {"accepted": False}, "accepted", "is not accepted by the hub; set spec.hubAcceptsClient of its ManagedCluster"),
        ({}, {"deleting": True}, "accepted", "is being removed from the hub"),
        (
            {"clusterSets": ["eu"]},
            {},
            "sets",
            "is in no cluster set that the namespace default is bound to and the placement allows; these are eu",
        ),
        (
            {"clusterSets": ["us"]},
            {"labels": {EXCLUSIVE_LABEL: "us"}},
            "sets",
            "is in no cluster set that the namespace default is bound to and the placement allows; these are none",
        ),
        (
            {"tolerations": [{"key": "gpu", "operator": "Exists"}]},
            {"labels": {EXCLUSIVE_LABEL: "eu"}, "taints": (Taint("gpu"), Taint("busy", "yes", "NoSelectIfNew"))},
            "taints",
            "has the taint busy=yes:NoSelectIfNew, which the placement does not tolerate",
        ),
    ],
)
def test_a_hub_may_know_why_a_cluster_that_advertises_itself_is_not_to_be_used(placement, known, reason, message):
    assert refusal(placed_by(**placement), cluster(), NOON, hub(**known)) == Refused(cluster="a", reason=reason, message=message)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("managedCluster.metadata.name == 'a'", None),
        ("managedCluster.status.clusterClaims.exists(c, c.name == 'data')", None),
        (
            "int(managedCluster.status.allocatable.cpu) > 8",
            "satisfies no predicate of the placement: predicate 1 asks for int(managedCluster.status.allocatable.cpu) > 8, and it is false",
        ),
        (
            "managedCluster.status.nothing",
            "satisfies no predicate of the placement: predicate 1 asks for managedCluster.status.nothing, and there is no nothing",
        ),
        (
            "managedCluster.metadata.name",
            "satisfies no predicate of the placement: predicate 1 asks for managedCluster.metadata.name, and it is no truth value",
        ),
        (
            "managedCluster['\"\\\\ud800\"'.parseJSON()]",
            "satisfies no predicate of the placement: predicate 1 asks for managedCluster['\"\\\\ud800\"'.parseJSON()], and there is no ?",
        ),
        (
            "hostname() == 'a'",
            "cannot be judged by the placement's predicates: hostname() is not supported; "
            "supported are bool, double, dyn, int, isQuantity, isSemver, matches, quantity, semver, size, string",
        ),
    ],
)
def test_an_expression_sees_what_a_cluster_advertises(expression, message):
    found = refusal(placed_by({"celSelector": {"celExpressions": [expression]}}), cluster(allocatable={"cpu": "8"}), NOON)

    assert (found and found.message) == message
