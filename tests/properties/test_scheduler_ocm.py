"""Whatever a hub has: scores are bounded, the order of objects does not matter, and strangers change nothing."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from inventory_story import cluster
from inventory_story import hub as inventory_of

from fedplane.scheduler import fleet
from fedplane.scheduler.ocm.cel.expressions import COST_MAX, compiled
from fedplane.scheduler.ocm.cel.values import Failure, Meter, Quantity, Version
from fedplane.scheduler.ocm.groups import CLUSTERS_PER_DECISION_MAX, decisions
from fedplane.scheduler.ocm.inventory import EXCLUSIVE_LABEL, AddOnPlacementScore, Decision, Inventory, Taint
from fedplane.scheduler.ocm.reading import KINDS, read
from fedplane.scheduler.ocm.scheduling import schedule
from fedplane.scheduler.placement import place
from fedplane.schemas.facts import Advertised
from fedplane.schemas.placements import Placement
from fedplane.schemas.resources import API_VERSION, KIND, FederatedLearning

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
NAMES = "abcdefgh"
BUILT_IN = ["Balance", "Steady", "ResourceAllocatableCPU", "ResourceAllocatableMemory"]
SECONDS = [0, 60, 10**20]

names = st.sampled_from(NAMES)
amounts = st.dictionaries(st.sampled_from(["cpu", "memory"]), st.floats(0, 2**63))
times = st.none() | st.integers(-200, 200).map(lambda seconds: NOON + timedelta(seconds=seconds))
taints = st.builds(
    Taint, st.sampled_from(["gpu", "away"]), effect=st.sampled_from(["NoSelect", "PreferNoSelect", "NoSelectIfNew"]), added=times
)
clusters = st.lists(
    st.builds(
        cluster,
        names,
        zone=st.sampled_from(["north", "south"]),
        of=st.sampled_from(["prod", "test"]),
        allocatable=amounts,
        capacity=amounts,
        taints=st.lists(taints, max_size=2).map(tuple),
        deleting=st.booleans(),
    ),
    unique_by=lambda found: found.name,
)
scores = st.dictionaries(
    st.tuples(names, st.just("usage")), st.builds(AddOnPlacementScore, names, st.just("usage"), st.just((("gpu", 42),)), times)
)
chosen = st.lists(st.builds(Decision, st.sampled_from(["ml", "other"]), st.sampled_from("pq"), st.lists(names).map(tuple)), max_size=4)
hubs = st.builds(
    lambda found, held, decided: inventory_of(*found, decisions=tuple(decided), scores=held),
    clusters,
    scores,
    chosen,
)
coordinates = st.sampled_from(
    [{"builtIn": name} for name in BUILT_IN] + [{"type": "AddOn", "addOn": {"resourceName": "usage", "scoreName": "gpu"}}]
)
placements = st.builds(
    lambda most, zones, mode, configured, seconds, per_group: Placement.model_validate(
        {
            "numberOfClusters": most,
            "predicates": [{"requiredClusterSelector": {"labelSelector": {"matchLabels": {"zone": zone}}}} for zone in zones],
            "prioritizerPolicy": {
                "mode": mode,
                "configurations": [{"scoreCoordinate": each, "weight": weight} for each, weight in configured],
            },
            "tolerations": [{"operator": "Exists", "tolerationSeconds": each} for each in seconds],
            "decisionStrategy": {"groupStrategy": {"clustersPerDecisionGroup": per_group}},
        }
    ),
    st.none() | st.integers(0, 9),
    st.lists(st.sampled_from(["north", "south"]), max_size=2),
    st.sampled_from(["", "Additive", "Exact"]),
    st.lists(st.tuples(coordinates, st.integers(-10, 10)), max_size=4),
    st.lists(st.sampled_from(SECONDS), max_size=2),
    st.sampled_from(["100%", "30%", 1, 3]),
)


def placed(placement, hub):
    return schedule(placement, "ml", "p", hub, NOON)


@given(placements, hubs)
def test_every_score_is_within_its_range(placement, hub):
    found = placed(placement, hub)

    assert all(-100 <= score <= 100 for each in found.prioritized for score in each.scores.values())
    assert all(abs(total) <= 100 * sum(abs(each.weight) for each in found.prioritized) for total in found.totals.values())


@given(placements, hubs, st.randoms(use_true_random=False))
def test_the_order_of_a_hubs_objects_does_not_matter(placement, hub, random):
    def shuffled(items):
        return random.sample(list(items), len(items))

    other = Inventory(
        clusters=dict(shuffled(hub.clusters.items())),
        sets=hub.sets,
        bindings=hub.bindings,
        decisions=tuple(shuffled(hub.decisions)),
        scores=dict(shuffled(hub.scores.items())),
    )

    assert placed(placement, other) == placed(placement, hub)


@given(placements, hubs)
def test_a_cluster_of_another_set_changes_nothing(placement, hub):
    stranger = cluster("z", of="elsewhere", allocatable={"cpu": 1e9}, capacity={"cpu": 1e9})

    assert placed(placement, replace(hub, clusters={**hub.clusters, "z": stranger})) == placed(placement, hub)


@given(placements, hubs)
def test_nobody_is_left_out_who_is_better_and_equals_go_by_name(placement, hub):
    found = placed(placement, hub)
    ranked = sorted(found.totals, key=lambda name: (-found.totals[name], name))

    assert list(found.chosen) == ranked[: len(found.chosen)]
    assert len(found.chosen) + found.unscheduled == (
        placement.number_of_clusters if placement.number_of_clusters is not None else len(ranked)
    )


@given(placements, hubs)
def test_every_chosen_cluster_is_in_exactly_one_decision(placement, hub):
    found = placed(placement, hub)
    written = decisions(found.groups)

    assert sorted(name for decision in written for name in decision.clusters) == sorted(found.chosen)
    assert [decision.name for decision in written] == [f"p-decision-{number}" for number in range(1, len(written) + 1)]
    assert all(len(decision.clusters) <= CLUSTERS_PER_DECISION_MAX for decision in written)


@given(placements, hubs)
def test_until_a_decision_has_to_be_made_again_time_alone_changes_no_tolerance(placement, hub):
    found = placed(placement, hub)
    held = [name for name in hub.decided("ml", "p") if name in dict(found.filtered)["Predicate,TaintToleration"]]

    assert found.again_at is None or found.again_at > NOON
    just_before = (found.again_at or NOON + timedelta(days=1)) - timedelta(microseconds=1)
    later = schedule(placement, "ml", "p", hub, just_before)
    assert set(held) <= set(dict(later.filtered)["Predicate,TaintToleration"])


@given(placements, hubs, st.lists(names, unique=True), st.randoms(use_true_random=False))
def test_a_run_is_placed_alike_whatever_the_order_of_the_fleet(placement, hub, known, random):
    asked = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "p", "namespace": "ml"}, "spec": {"weights": {"cpu": 0.5}}}
    run = FederatedLearning.model_validate(asked)
    run = run.model_copy(
        update={"spec": run.spec.model_copy(update={"client": run.spec.client.model_copy(update={"placement": placement})})}
    )
    said = [
        Advertised(at=NOON, cluster=name, lease_seconds=15, claims={"p.client-data": "/data"}, labels={"zone": "north"}) for name in known
    ]
    fleet_ = [replace(fleet.fold({}, fact)[fact.cluster], live_runs=random.randint(0, 3)) for fact in said]

    plan = place(run, fleet_, NOON, hub)

    assert place(run, random.sample(fleet_, len(fleet_)), NOON, hub) == plan
    assert sorted(known) == sorted(each.cluster for each in (*plan.participants, *plan.refused))
    assert all(sum(term.score * term.weight for term in chosen.terms) == chosen.score for chosen in plan.participants)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | st.just("2026-01-02T12:00:00Z"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
PARTS = {
    "spec": ["hubAcceptsClient", "taints", "clusterSelector"],
    "status": ["allocatable", "capacity", "clusterClaims", "conditions", "decisions", "scores", "validUntil"],
    "metadata": ["labels", "namespace", "deletionTimestamp"],
}
hostile = st.fixed_dictionaries(
    {"kind": st.sampled_from(sorted(KINDS))},
    optional={
        part: json_values | st.dictionaries(st.sampled_from(fields), json_values | st.lists(st.dictionaries(st.sampled_from(
            ["key", "value", "effect", "timeAdded", "name", "type", "status", "clusterName"]), json_values)))
        for part, fields in PARTS.items()
    },
)  # fmt: skip


@given(st.lists(hostile | json_values, max_size=4), st.booleans())
def test_no_object_stops_the_others_from_being_read(objects, named):
    for given_ in objects:
        if named and isinstance(given_, dict) and isinstance(given_.get("metadata"), dict):
            given_["metadata"]["name"] = "odd"
    good = {"kind": "ManagedCluster", "metadata": {"name": "good", "labels": {EXCLUSIVE_LABEL: "prod"}}}

    inventory, problems = read([*objects, good])

    assert inventory.clusters["good"].labels == {EXCLUSIVE_LABEL: "prod"}
    assert all(isinstance(problem, str) for problem in problems)


PIECES = """managedCluster . metadata name labels [ ] ( ) { } , : ? && || ! - + * / % == != < <= in 0 1 2.5 'a' 'version' true null x has
size map filter all exists matches split quantity semver scores \\ § ' .? replace"""
pieces = st.sampled_from(PIECES.split())


@given(st.lists(pieces, max_size=15))
def test_no_text_breaks_the_reader_of_expressions(parts):
    try:
        expression = compiled(" ".join(parts))
    except ValueError:
        expression = None
    document = {"metadata": {"name": "a", "labels": {"version": "1.0.0"}}}
    try:
        found = expression and expression.value(document, {}, Meter(COST_MAX))
    except Failure:
        found = None

    assert isinstance(found, bool | int | float | str | list | dict | Quantity | Version | None)
