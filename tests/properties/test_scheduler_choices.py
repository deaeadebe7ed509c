"""Whatever the fleet and the run: criteria are bounded and monotone, and a placement explains every cluster once, in any order."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from fedplane.scheduler import fleet
from fedplane.scheduler.placement import place
from fedplane.scheduler.scoring import CRITERIA, WEIGHT_MAX
from fedplane.schemas.facts import Advertised
from fedplane.schemas.quantities import parse
from fedplane.schemas.resources import API_VERSION, KIND, FederatedLearning

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)

quantities = st.one_of(
    st.builds("{}{}".format, st.integers(0, 10**30), st.sampled_from(["", "n", "m", "k", "Ki", "Gi", "E", "Ei"])),
    st.builds("{}e{}".format, st.integers(-99, 99), st.integers(-999, 999)),
    st.decimals(0, 10**6, places=3).map(str),
)

advertisements = st.builds(
    Advertised,
    at=st.integers(0, 30).map(lambda seconds: NOON - timedelta(seconds=seconds)),
    cluster=st.sampled_from("abcdefgh"),
    lease_seconds=st.sampled_from([0.5, 15, 1e308]),
    claims=st.dictionaries(
        st.sampled_from(["r.client-data", "r.client-data.samples", "consent"]),
        quantities | st.sampled_from(["", "many", "-1", "\u0661\u0662"]),
    ),
    allocatable=st.dictionaries(st.sampled_from(["cpu", "memory"]), quantities),
    labels=st.dictionaries(st.just("zone"), st.sampled_from(["north", "south"])),
    frameworks=st.sampled_from([(), ("flower",), ("openfl", "other")]),
)


def resource(**spec):
    return FederatedLearning.model_validate({"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "r"}, "spec": spec})


def in_zone(zone):
    return {"requiredClusterSelector": {"labelSelector": {"matchLabels": {"zone": zone}}}}


resources = st.builds(
    lambda framework, required, zones, most, cpu, weights: resource(
        framework=framework,
        data={"requiredClaims": required},
        client={"placement": {"predicates": [in_zone(zone) for zone in zones], "numberOfClusters": most}},
        resources={"requests": {"cpu": cpu}},
        weights=weights,
    ),
    st.sampled_from(["flower", "other"]),
    st.sampled_from([[], ["consent"]]),
    st.sampled_from([[], ["north"], ["north", "south"]]),
    st.none() | st.integers(1, 5),
    st.sampled_from(["0", "500m", "8"]),
    st.dictionaries(st.sampled_from(list(CRITERIA)), st.floats(-WEIGHT_MAX, WEIGHT_MAX)),
)


@st.composite
def fleets(draw):
    held = {}
    for fact in draw(st.lists(advertisements, max_size=8)):
        held = fleet.fold(held, fact)
    return [replace(cluster, live_runs=draw(st.integers(0, 9)), took_part=draw(st.booleans())) for cluster in held.values()]


@given(resources, fleets())
def test_every_criterion_is_between_0_and_1(run, clusters):
    scores = [score(run, cluster) for score, _ in CRITERIA.values() for cluster in clusters]

    assert all(0 <= score <= 1 for score in scores)


def _better(criterion, less, more):
    """Two clusters that differ in one amount alone, the better one last."""
    offered = {
        "cpu": lambda amount: {"allocatable": {"cpu": amount}},
        "memory": lambda amount: {"allocatable": {"memory": amount}},
        "data_locality": lambda amount: {"claims": {"r.client-data.samples": amount}},
    }[criterion]
    return [fleet.fold({}, Advertised(at=NOON, cluster="a", lease_seconds=15, **offered(amount)))["a"] for amount in (less, more)]


@given(st.sampled_from(["cpu", "memory", "data_locality"]), st.lists(quantities, min_size=2, max_size=2))
def test_more_capacity_or_data_never_scores_less(criterion, amounts):
    score, _ = CRITERIA[criterion]
    worse, better = _better(criterion, *sorted(amounts, key=parse))

    assert score(resource(), worse) <= score(resource(), better)


@given(advertisements, st.integers(0, 10**6), st.integers(0, 10**6))
def test_more_live_runs_never_score_more(fact, fewer, more):
    (cluster,) = fleet.fold({}, fact).values()
    fewer, more = sorted((fewer, more))
    score, _ = CRITERIA["balance"]

    assert score(resource(), replace(cluster, live_runs=fewer)) >= score(resource(), replace(cluster, live_runs=more))


@given(resources, fleets(), st.randoms(use_true_random=False))
def test_the_order_of_the_fleet_does_not_matter(run, clusters, random):
    shuffled = random.sample(clusters, len(clusters))

    assert place(run, shuffled, NOON) == place(run, clusters, NOON)


@given(resources, fleets())
def test_every_cluster_is_explained_exactly_once(run, clusters):
    plan = place(run, clusters, NOON)
    explained = [chosen.cluster for chosen in plan.participants] + [refusal.cluster for refusal in plan.refused]

    assert sorted(explained) == sorted(cluster.name for cluster in clusters)
    assert plan.eligible == len(plan.participants) + sum(refusal.reason == "outscored" for refusal in plan.refused)


@given(resources, fleets())
def test_nobody_refused_scores_more_than_anybody_chosen(run, clusters):
    plan = place(run, clusters, NOON)
    chosen = [(-taken.score, taken.cluster) for taken in plan.participants]
    outscored = [(-refusal.score, refusal.cluster) for refusal in plan.refused if refusal.score is not None]

    assert chosen == sorted(chosen)
    assert not outscored or (len(chosen) == run.spec.client.placement.number_of_clusters and chosen[-1] < min(outscored))


@given(resources, fleets())
def test_a_clusters_score_does_not_depend_on_who_else_is_there(run, clusters):
    def scores(*among):
        plan = place(run, among, NOON)
        return {said.cluster: said.score for said in (*plan.participants, *plan.refused)}

    alone = {name: score for cluster in clusters for name, score in scores(cluster).items()}

    assert scores(*clusters) == alone
