"""What the scheduler makes of the log, and what it states."""

from datetime import UTC, datetime, timedelta

import pytest

from fedplane.runtime.objects import Change, ChangeType
from fedplane.runtime.ports import Fence, Recorded
from fedplane.runtime.replica import State
from fedplane.scheduler.overview import Overview
from fedplane.scheduler.runs import OBJECTIONS_CHARACTERS_MAX, RESOURCES_REMEMBERED_MAX, WAITING_MAX, Scheduler
from fedplane.schemas import envelope
from fedplane.schemas.envelope import FACT_BYTES_MAX
from fedplane.schemas.facts import (
    Advertised,
    Archived,
    Cancelled,
    Completed,
    Failed,
    Scheduled,
    Started,
    Submitted,
    Waiting,
    run_level_facts_of,
)
from fedplane.schemas.models import Chosen, Model, Piece, Refused
from fedplane.schemas.resources import API_VERSION, KIND, FederatedLearning

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
CORE = Scheduler()
NOTHING = Piece(subject="bulk.fed.v1.r.1.model.x.0", bytes=0, chunk_bytes=8, digest="blake3:" + "0" * 64)
MODEL = Model(run="r", round=1, bytes=0, layout=NOTHING, shards=(), digest="blake3:" + "0" * 64)


def submitted(run="r-1", name="r", **spec):
    document = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": {"data": {"claim": "data"}} | spec}
    return Submitted(at=NOON, run=run, resource=FederatedLearning.model_validate(document))


def advertised(cluster, at=NOON, **offered):
    return Advertised(**{"at": at, "cluster": cluster, "lease_seconds": 15, "claims": {"data": f"/{cluster}"}} | offered)


def scheduled(run="r-1", *clusters):
    return Scheduled(at=NOON, run=run, participants=tuple(Chosen(cluster=name, score=0, terms=()) for name in clusters), refused=())


def told(*facts, state=None):
    """The state after these facts: each stream numbers its own, from where the state left it."""
    state = CORE.initial() if state is None else state
    for fact in facts:
        last = state.fleet_sequence if isinstance(fact, Advertised) else state.runs_sequence
        state = CORE.evolve(state, Recorded(fact, last + 1))
    return state


def said(state, now=NOON):
    return [action.fact for action in CORE.decide(state, now)]


def chosen(fact):
    return [participant.cluster for participant in fact.participants]


def test_a_run_is_scheduled_on_whoever_can_take_part_and_the_fact_is_fenced_by_the_last_one_of_the_run():
    state = told(advertised("b"), advertised("a"), advertised("c", claims={}), Cancelled(at=NOON, run="other"), submitted())

    (action,) = CORE.decide(state, NOON)

    assert action.fence == Fence(run_level_facts_of("r-1"), 2)
    assert [(chosen.cluster, chosen.data) for chosen in action.fact.participants] == [("a", "/a"), ("b", "/b")]
    assert [(refusal.cluster, refusal.reason) for refusal in action.fact.refused] == [("c", "data")]
    assert (action.fact.run, action.fact.at) == ("r-1", NOON)


def test_a_run_that_has_too_few_clusters_waits_and_says_why_without_a_fence():
    state = told(submitted(server={"minAvailableClients": 2}), advertised("a"), advertised("b", claims={}))

    assert CORE.decide(state, NOON) == [
        State(
            Waiting(
                at=NOON,
                run="r-1",
                number=1,
                wanted=2,
                eligible=1,
                message="1 of the 2 clusters that the run needs can take part; refused: 1 by data",
                refused=(
                    Refused(
                        cluster="b",
                        reason="data",
                        message="does not advertise the claim data; its value says where data is; spec.data.claim may name another",
                    ),
                ),
            )
        )
    ]


def failed(message):
    return [Failed(at=NOON, run="r-1", reason="BadRequest", message=message)]


def test_what_was_submitted_as_invalid_fails_with_that_reason_whatever_its_resource_would_allow():
    bad = submitted().model_copy(update={"invalid": "spec.x: is not a field of this resource"})

    assert said(told(bad, advertised("a"))) == failed("spec.x: is not a field of this resource")


def test_a_placement_cannot_be_named_where_there_is_no_hub():
    state = told(submitted(client={"placementRef": "p"}), advertised("a"))

    assert said(state) == failed("spec.client.placementRef names a Placement, and this scheduler knows no hub: set its FEDPLANE_KUBERNETES")


def test_an_apps_own_server_needs_an_image_on_a_hub_and_nowhere_else():
    overview = Overview()
    overview.known = True
    state = told(submitted(strategy={"name": "app"}), advertised("a"))

    assert [action.fact for action in Scheduler(hub=overview).decide(state, NOON)] == failed(
        "spec.strategy.name is app, and no image has the app's own server; set spec.server.image or spec.client.image"
    )
    assert chosen(CORE.decide(state, NOON)[0].fact) == ["a"]


def test_nothing_is_placed_before_the_hub_is_known_and_then_by_what_it_knows():
    overview = Overview()
    on_a_hub = Scheduler(hub=overview)
    state = told(submitted(client={"placementRef": "p"}), advertised("a"), advertised("b"))
    labels = {"cluster.open-cluster-management.io/placement": "p"}
    decision = {"kind": "PlacementDecision", "metadata": {"name": "p-1", "namespace": "default", "labels": labels}}
    overview.see(Change(ChangeType.ADDED, decision | {"status": {"decisions": [{"clusterName": "b"}]}}))

    before = on_a_hub.decide(state, NOON)
    overview.known = True
    (action,) = on_a_hub.decide(state, NOON)

    assert before == ()
    assert chosen(action.fact) == ["b"]


def test_nothing_is_placed_before_every_cluster_of_the_hub_is_heard_of_that_can_be():
    overview = Overview()
    on_a_hub = Scheduler(hub=overview)
    for name in ("a", "b", "c", "in.no.fleet"):
        overview.see(Change(ChangeType.ADDED, {"kind": "ManagedCluster", "metadata": {"name": name}}))
    overview.known, overview.unsaid = True, {"c"}
    few = told(submitted(), advertised("a"))

    assert on_a_hub.decide(few, NOON) == ()
    assert len(on_a_hub.decide(told(advertised("b"), state=few), NOON)) == 1


def test_a_wait_is_said_again_only_when_it_would_say_something_else():
    state = told(submitted(server={"minAvailableClients": 2}), advertised("a"))
    (first,) = said(state)
    state = told(first, state=state)
    later = NOON + timedelta(seconds=20)

    assert said(state, NOON + timedelta(seconds=14)) == []
    (second,) = said(state, later)
    assert (second.number, second.eligible, second.refused[0].reason) == (2, 0, "availability")
    state = told(second, state=state)
    assert said(state, later + timedelta(hours=1)) == []
    (third,) = said(told(advertised("a", later, claims={}), state=state), later)
    assert (third.number, third.eligible, third.refused[0].reason) == (3, 0, "data")


def test_after_the_last_wait_there_is_silence_but_the_run_is_still_placed():
    state = told(submitted(server={"minAvailableClients": 2}), advertised("a"))
    for number in range(1, WAITING_MAX + 1):
        (wait,) = said(state, NOON if number % 2 else NOON + timedelta(minutes=1))
        assert wait.number == number
        state = told(wait, state=state)

    assert wait.message.endswith("; the run keeps waiting, and further changes are not reported")
    assert said(state, NOON) == []
    assert [chosen(fact) for fact in said(told(advertised("b"), state=state))] == [["a", "b"]]


def test_a_run_is_placed_as_soon_as_the_clusters_it_waited_for_are_there():
    state = told(submitted(server={"minAvailableClients": 2}), advertised("a"))
    state = told(*said(state), advertised("b"), state=state)

    assert [chosen(fact) for fact in said(state)] == [["a", "b"]]


@pytest.mark.parametrize("last", [scheduled("r-1", "a"), Failed(at=NOON, run="r-1", reason="x", message=""), Cancelled(at=NOON, run="r-1")])
def test_nothing_is_said_of_a_run_that_is_placed_or_ended(last):
    assert said(told(advertised("a"), submitted(), last)) == []


@pytest.mark.parametrize(
    "end",
    [
        Completed(at=NOON, run="r-1", model=MODEL, metrics={}),
        Failed(at=NOON, run="r-1", reason="x", message=""),
        Cancelled(at=NOON, run="r-1"),
    ],
)
def test_an_ended_run_is_forgotten_and_facts_that_come_late_change_nothing(end):
    state = told(submitted(), scheduled("r-1", "a"), Started(at=NOON, run="r-1", strategy="fedavg", training_rounds=1), end)
    wait = Waiting(at=NOON, run="r-1", number=1, wanted=1, eligible=0, message="", refused=())
    late = told(wait, scheduled("r-1", "b"), state=state)

    assert (late.unplaced, late.placed, late.last_participants) == ({}, {}, {("default", "r"): frozenset({"a"})})


def test_the_fence_follows_every_run_level_fact_but_no_wait():
    state = told(submitted(), Started(at=NOON, run="r-1", strategy="fedavg", training_rounds=1))
    (wait,) = said(state)
    state = told(wait, advertised("a"), state=state)

    assert [action.fence.sequence for action in CORE.decide(state, NOON)] == [2]


def test_what_no_fleet_could_satisfy_fails_with_everything_that_is_wrong():
    state = told(submitted(framework="jax", weights={"gpu": 1}))

    assert CORE.decide(state, NOON) == [
        State(
            Failed(
                at=NOON,
                run="r-1",
                reason="BadRequest",
                message="spec.framework is 'jax'; known frameworks are flower, openfl, other, torch, sklearn, xgboost; "
                "spec.weights names 'gpu'; known criteria are data_locality, cpu, memory, balance, steady",
            ),
            Fence(run_level_facts_of("r-1"), 1),
        )
    ]


def test_a_resource_that_is_wrong_in_ten_thousand_places_fails_with_the_first_of_them():
    state = told(submitted("r-1", weights={f"criterion-{number:05}": 1 for number in range(12_000)}))
    (action,) = CORE.decide(state, NOON)

    assert action.fact.message.startswith("spec.weights names 'criterion-00000'; known criteria are")
    assert len(envelope.write(action.fact, "/test").body) < 2 * OBJECTIONS_CHARACTERS_MAX


def test_runs_of_one_turn_spread_over_the_fleet_in_the_order_of_submission():
    one = {"client": {"placement": {"numberOfClusters": 1}}}
    state = told(submitted("x-1", **one), submitted("b-1", **one), submitted("a-1", **one), advertised("a"), advertised("b"))

    assert [(fact.run, chosen(fact)) for fact in said(state)] == [("x-1", ["a"]), ("b-1", ["b"]), ("a-1", ["a"])]


def test_a_cluster_is_busy_from_scheduled_to_the_end_of_the_run():
    state = told(advertised("a"), advertised("b"), submitted("x-1"), scheduled("x-1", "a"), submitted("y-1", "other"))

    assert [chosen(fact) for fact in said(state)] == [["b", "a"]]
    assert [chosen(fact) for fact in said(told(Cancelled(at=NOON, run="x-1"), state=state))] == [["a", "b"]]


def test_a_resource_that_runs_again_prefers_the_clusters_of_its_last_run():
    end = Cancelled(at=NOON, run="x-1")
    state = told(advertised("a"), advertised("b"), submitted("x-1"), scheduled("x-1", "b"), end)

    assert [chosen(fact) for fact in said(told(submitted("y-1"), state=state))] == [["b", "a"]]
    assert [chosen(fact) for fact in said(told(submitted("y-1", "other"), state=state))] == [["a", "b"]]


def test_only_the_latest_resources_are_remembered():
    runs = [(submitted(f"x-{number}", f"r{number}"), scheduled(f"x-{number}", "a")) for number in range(RESOURCES_REMEMBERED_MAX + 1)]
    remembered = told(*(fact for pair in runs for fact in pair)).last_participants

    assert list(remembered) == [("default", f"r{number}") for number in range(1, RESOURCES_REMEMBERED_MAX + 1)]


def test_what_is_said_fits_into_a_message_however_large_the_fleet():
    refused = [advertised(f"r{number:05}", labels={}) for number in range(3000)]
    selector = {"labelSelector": {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["n" * 200]}]}}
    run = submitted(client={"placement": {"predicates": [{"requiredClusterSelector": selector}]}})
    (wait,) = said(told(run, *refused))

    assert len(wait.model_dump_json().encode()) <= FACT_BYTES_MAX
    assert [refusal.cluster for refusal in wait.refused] == [f"r{number:05}" for number in range(1500)]
    assert said(told(wait, state=told(run, *refused))) == []


def test_a_run_of_more_clusters_than_a_message_can_name_fails_with_what_to_do():
    state = told(submitted(), *(advertised(f"c{number}", claims={"data": "/" * 1000}) for number in range(1000)))

    (failed,) = said(state)

    assert (failed.reason, failed.message) == (
        "TooManyClusters",
        "1000 clusters can take part, and what is to be said of them exceeds a fact's 900000 bytes; "
        "limit them by spec.client.placement.numberOfClusters",
    )


def test_a_run_whose_facts_are_being_purged_while_they_are_read_is_not_placed():
    left = told(advertised("a"), submitted(), Archived(at=NOON, run="r-1", facts=9, piece=NOTHING))
    placed = told(advertised("a"), submitted(), scheduled("r-1", "a"), Archived(at=NOON, run="r-1", facts=9, piece=NOTHING))

    assert (CORE.decide(left, NOON), placed.placed) == ((), {})
