"""What is due for each object: decided from the log and the hub alone."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from log_story import knows, recorded

from fedplane.runtime.objects import Change, ChangeType
from fedplane.runtime.ports import Fence, Recorded
from fedplane.runtime.replica import Perform, State
from fedplane.scheduler.attempts import Tried
from fedplane.scheduler.intake import EDITS_MAX, Hold, Intake, Look, Publish, Release, Runs
from fedplane.scheduler.wishes import FINALIZER, Wish
from fedplane.schemas.facts import Archived, Cancelled, Completed, EditRefused, Failed, Scheduled, Started, Submitted
from fedplane.schemas.models import Chosen, Model, Piece
from fedplane.schemas.resources import API_VERSION, KIND, FederatedLearning

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
RUN, KEY, FENCE = "r-00000001", ("ns", "r"), "fed.v1.run.r-00000001.*"
NOTHING = Piece(subject="bulk.fed.v1.r.1.model.x.0", bytes=0, chunk_bytes=8, digest="blake3:" + "0" * 64)
MODEL = Model(run=RUN, round=1, bytes=0, layout=NOTHING, shards=(), digest="blake3:" + "0" * 64)


def resource(generation=1, namespace="ns", **spec):
    metadata = {"name": "r", "namespace": namespace, "uid": "00000001", "generation": generation}
    return FederatedLearning.model_validate({"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec})


FRESH = Wish(run=RUN, uid="00000001", version="5", resource=resource())
HELD = replace(FRESH, finalizers=(FINALIZER,))
DELETING = replace(HELD, deleting=True)
SUBMITTED = Submitted(at=NOON, run=RUN, resource=resource(), from_hub=True)


def scheduled(*clusters):
    return Scheduled(at=NOON, run=RUN, participants=tuple(Chosen(cluster=each, score=0, terms=()) for each in clusters), refused=())


def decided(*facts, wishes=(), known=True, namespace="", at=NOON, clusters=(), **seen):
    core = Intake(namespace)
    core.hub.known = known
    core.hub.wishes = {(wish.namespace, wish.name): wish for wish in wishes}
    for name, value in seen.items():
        setattr(core.hub, name, value)
    for name in clusters:
        body = {"kind": "ManagedCluster", "metadata": {"name": name}, "spec": {"hubAcceptsClient": True}}
        core.hub.overview.see(Change(ChangeType.ADDED, body))
    return list(core.decide(knows(core, recorded(facts)), at))


def perform(effect, turn=None):
    return Perform((effect.what, turn), effect)


def cancelled(message, sequence):
    return State(Cancelled(at=NOON, run=RUN, message=message), Fence(FENCE, sequence))


def test_nothing_is_decided_before_the_hub_is_known():
    assert decided(SUBMITTED, wishes=[FRESH], known=False) == []


def test_an_object_is_held_before_its_run_is_submitted():
    assert decided(wishes=[FRESH]) == [perform(Hold(FRESH))]
    assert decided(wishes=[HELD]) == [State(SUBMITTED, Fence(FENCE, 0))]


def test_an_object_that_cannot_be_a_run_is_submitted_with_the_reason():
    bad = replace(HELD, invalid="spec.x: is not a field of this resource")

    assert decided(wishes=[bad]) == [State(SUBMITTED.model_copy(update={"invalid": bad.invalid}), Fence(FENCE, 0))]


@pytest.mark.parametrize("wish", [replace(FRESH, ended=True), replace(HELD, ended=True)])
def test_an_object_that_says_of_itself_that_its_run_has_ended_is_left_alone(wish):
    assert decided(wishes=[wish]) == []


def test_an_object_whose_run_is_on_the_log_needs_nothing():
    assert decided(SUBMITTED, wishes=[HELD]) == []


def test_a_deleted_objects_live_run_is_cancelled_at_the_place_of_what_was_said_last_about_it():
    started = Started(at=NOON, run=RUN, strategy="fedavg", training_rounds=3)

    assert decided(SUBMITTED, scheduled("a"), started, wishes=[DELETING]) == [cancelled("the object ns/r was deleted", 3)]


ENDS = [
    Completed(at=NOON, run=RUN, model=MODEL, metrics={}),
    Failed(at=NOON, run=RUN, reason="x", message="y"),
    Cancelled(at=NOON, run=RUN),
    Archived(at=NOON, run=RUN, facts=2, piece=NOTHING),
]


@pytest.mark.parametrize("facts", [(), *((SUBMITTED, end) for end in ENDS)], ids=["never run", *(type(end).__name__ for end in ENDS)])
def test_a_deleted_object_without_a_live_run_is_released(facts):
    assert decided(*facts, wishes=[DELETING]) == [perform(Release(DELETING))]
    assert decided(*facts, wishes=[replace(DELETING, finalizers=("other/x",))]) == []


def test_a_deleted_object_waits_for_the_works_of_its_run_and_for_no_others():
    assert decided(wishes=[DELETING], works={("a", RUN): None}) == []
    assert decided(wishes=[DELETING], works={("a", "another"): None}) == [perform(Release(DELETING))]


def test_a_failed_attempt_is_repeated_after_a_pause_that_doubles():
    hold = Hold(FRESH)
    tried = {hold.what: Tried(NOON, failures=3)}

    assert decided(wishes=[FRESH], tried=tried, at=NOON + timedelta(seconds=7)) == []
    assert decided(wishes=[FRESH], tried=tried, at=NOON + timedelta(seconds=8)) == [perform(hold, NOON)]


def test_a_run_whose_object_was_not_seen_is_looked_for_and_cancelled_when_the_server_has_none():
    assert decided(SUBMITTED) == [perform(Look(RUN, resource()))]
    assert decided(SUBMITTED, missing={RUN}) == [cancelled("the object ns/r is gone", 1)]


def test_a_run_that_no_object_of_ours_asked_for_is_none_of_our_business():
    by_hand = SUBMITTED.model_copy(update={"from_hub": False})

    assert decided(by_hand, missing={RUN}) == []
    assert decided(SUBMITTED, missing={RUN}, namespace="another") == []


def test_an_object_of_the_same_name_and_another_uid_is_another_run():
    anew = replace(FRESH, uid="2", run="r-2")

    assert decided(SUBMITTED, wishes=[anew]) == [perform(Hold(anew)), perform(Look(RUN, resource()))]


def refused(generation, message):
    return EditRefused(at=NOON, run=RUN, generation=generation, message=message)


def edited(generation, invalid="", **spec):
    return replace(HELD, resource=resource(generation, **spec), invalid=invalid)


def test_an_edit_is_refused_with_what_differs_once_a_generation():
    said = (
        "the run goes on as it was asked for: spec.server.rounds is 3 and not 9. To run with the edit, delete the object and make it anew"
    )
    now = edited(2, server={"rounds": 9})

    assert decided(SUBMITTED, wishes=[now]) == [State(refused(2, said))]
    assert decided(SUBMITTED, refused(2, said), wishes=[now]) == []
    assert decided(SUBMITTED, refused(2, said), wishes=[edited(3, server={"rounds": 9})]) == [State(refused(3, said))]


def test_an_edit_that_changes_nothing_is_none():
    assert decided(SUBMITTED, wishes=[edited(2, server={"rounds": 3})]) == []


def test_an_edit_that_cannot_be_a_run_is_refused_with_the_reason():
    (action,) = decided(SUBMITTED, wishes=[edited(2, "spec.x: is wrong")])

    assert action.fact.message.startswith("the run goes on as it was asked for: spec.x: is wrong. ")


def test_only_so_many_edits_are_answered_and_an_answer_does_not_move_the_fence():
    edits = [refused(number, "x") for number in range(2, EDITS_MAX + 2)]

    assert decided(SUBMITTED, *edits, wishes=[edited(500, server={"rounds": 9})]) == []
    assert decided(SUBMITTED, *edits, wishes=[DELETING]) == [cancelled("the object ns/r was deleted", 1)]


def test_of_many_differences_the_first_are_told_and_how_many_there_are():
    (action,) = decided(SUBMITTED, wishes=[edited(2, weights={f"w{number:02}": 1.0 for number in range(30)})])

    assert "spec.weights.w19 is not said and not 1.0; and 10 more." in action.fact.message


def test_the_clusters_of_a_run_that_are_the_hubs_are_shown_unless_they_are():
    shown = {"kind": "PlacementDecision", "metadata": {"name": "r-decision-1", "namespace": "ns", "labels": {
        "app.kubernetes.io/part-of": "fedplane", "app.kubernetes.io/managed-by": "fedplane-scheduler", "fedplane.io/run": RUN,
        "cluster.open-cluster-management.io/placement": "r",
    }}, "status": {"decisions": [{"clusterName": "b"}, {"clusterName": "a"}]}}  # fmt: skip
    core = Intake()
    core.hub.known = True
    core.hub.wishes = {KEY: HELD}
    state = knows(core, recorded((SUBMITTED, scheduled("a", "standalone", "b"))))
    for name in ("a", "b", "idle"):
        core.hub.overview.see(Change(ChangeType.ADDED, {"kind": "ManagedCluster", "metadata": {"name": name}}))

    before = list(core.decide(state, NOON))
    core.hub.overview.see(Change(ChangeType.ADDED, shown))

    assert before == [perform(Publish(HELD, ("a", "b")))]
    assert list(core.decide(state, NOON)) == []


def test_where_a_placement_is_named_it_shows_the_clusters_itself():
    named = resource(client={"placementRef": "p"})
    submitted = SUBMITTED.model_copy(update={"resource": named})

    assert decided(submitted, scheduled("a"), wishes=[replace(HELD, resource=named)], clusters=("a",)) == []


def test_a_record_that_comes_again_changes_nothing():
    core = Intake()
    state = core.evolve(core.evolve(Runs(), Recorded(SUBMITTED, 1)), Recorded(Cancelled(at=NOON, run=RUN), 2))

    assert state == Runs({}, 2)
    assert core.evolve(state, Recorded(SUBMITTED, 1)) == state
