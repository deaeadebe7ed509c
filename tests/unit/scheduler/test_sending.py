"""Which works should be there, which should not, and who declines: decided from the log and the hub alone."""

from datetime import UTC, datetime, timedelta

import pytest
from log_story import knows, recorded

from fedplane.runtime.ports import Recorded
from fedplane.runtime.replica import Perform, State
from fedplane.scheduler.attempts import Tried
from fedplane.scheduler.sending import Hub, Live, Remove, Send, Sending, Sight
from fedplane.scheduler.standing import Stage, Standing
from fedplane.schemas.facts import (
    Archived,
    Cancelled,
    Closed,
    Completed,
    Contributed,
    Declined,
    Evaluated,
    Exposed,
    Failed,
    Invited,
    Scheduled,
    Started,
    Submitted,
)
from fedplane.schemas.models import Chosen, Exposure, Model, Piece
from fedplane.schemas.resources import API_VERSION, KIND, FederatedLearning, Listener, Server

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
NOTHING = Piece(subject="bulk.fed.v1.r.1.model.x.0", bytes=0, chunk_bytes=8, digest="blake3:" + "0" * 64)
MODEL = Model(run="r", round=1, bytes=0, layout=NOTHING, shards=(), digest="blake3:" + "0" * 64)
RESOURCE = FederatedLearning.model_validate({"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "r"}})
WORKING = Standing(Stage.WORKING)
FAILED = Standing(Stage.FAILED, "Job has reached the limit")


def chosen(cluster):
    return Chosen(cluster=cluster, score=0, terms=(), data=f"/{cluster}")


def begun(*clusters, run="r-1"):
    placed = Scheduled(at=NOON, run=run, participants=tuple(map(chosen, clusters)), refused=())
    return Submitted(at=NOON, run=run, resource=RESOURCE), placed


def invited(cluster, number=0, run="r-1"):
    return Invited(
        at=NOON, run=run, round=number, cluster=cluster, task="train", training_round=1, framework="flower", app="", data="",
        configuration={}, run_configuration={}, deadline=NOON + timedelta(minutes=10), shard_bytes=8, chunk_bytes=8,
    )  # fmt: skip


def told(*facts):
    return knows(Sending(), recorded(facts))


def decided(state, *, at=NOON, known=True, **hub):
    core = Sending()
    core.hub = Hub(known, **hub)
    return list(core.decide(state, at))


def sight(standing=WORKING, since=NOON, uid="u", leaving=False):
    return Sight(uid, standing, since, leaving)


def send(cluster, turn=None, run="r-1"):
    return Perform(("send", cluster, run, turn), Send(run, RESOURCE, chosen(cluster)))


def declined(cluster, reason, message, number=0, at=NOON):
    return State(Declined(run="r-1", round=number, cluster=cluster, at=at, reason=reason, message=message))


def test_every_participant_of_the_hub_is_sent_its_work_and_others_are_not():
    state = told(*begun("a", "b", "standalone"))

    assert decided(state, clusters={"a", "b", "idle"}) == [send("a"), send("b")]


def test_what_is_there_is_neither_sent_again_nor_removed():
    state = told(*begun("a"))

    assert decided(state, clusters={"a"}, works={("a", "r-1"): sight()}) == []


def test_nothing_is_decided_before_the_hub_is_known():
    assert decided(told(*begun("a")), known=False, clusters={"a"}, works={("b", "old"): sight()}) == []


def test_a_run_that_was_submitted_has_no_work_before_it_is_scheduled():
    assert decided(told(begun("a")[0]), clusters={"a"}) == []


LISTENING = RESOURCE.model_copy(
    update={"spec": RESOURCE.spec.model_copy(update={"server": Server(listeners=(Listener(type="NodePort", port=31531),))})}
)
EXPOSURE = Exposure(name="listener-nodeport-31531", type="NodePort", address="10.0.0.1:31531", port=31531)


def exposed(number=1, *listeners, **pending):
    return Exposed(at=NOON, run="r-1", number=number, listeners=listeners, pending=pending)


def test_a_run_with_listeners_is_sent_when_the_last_one_has_an_address_and_told_it():
    placed = (Submitted(at=NOON, run="r-1", resource=LISTENING), begun("a")[1])
    waits = exposed(1, **{"listener-nodeport-31531": "it is taken"})

    assert decided(told(*placed), clusters={"a"}) == []
    assert decided(told(*placed, waits), clusters={"a"}) == []
    assert decided(told(*placed, waits, exposed(2, EXPOSURE)), clusters={"a"}) == [
        Perform(("send", "a", "r-1", None), Send("r-1", LISTENING, chosen("a"), EXPOSURE))
    ]


def test_a_cluster_that_waits_too_long_for_an_address_declines_and_one_that_has_its_work_does_not():
    placed = (Submitted(at=NOON, run="r-1", resource=LISTENING), begun("a")[1], invited("a"))
    waits = exposed(1, **{"listener-nodeport-31531": "it is taken"})
    said = "the bus had no address for the cluster for 300 s: listener listener-nodeport-31531 has no address yet"
    late = NOON + timedelta(seconds=300)

    assert decided(told(*placed, waits), at=late - timedelta(seconds=1), clusters={"a"}) == []
    assert decided(told(*placed), at=late, clusters={"a"}) == [declined("a", "not-sent", said, at=late)]
    assert decided(told(*placed, waits), at=late, clusters={"a"}) == [declined("a", "not-sent", f"{said}: it is taken", at=late)]
    assert decided(told(*placed, waits), at=late, clusters={"a"}, works={("a", "r-1"): sight()}) == []


ENDS = [
    Completed(at=NOON, run="r-1", model=MODEL, metrics={}),
    Failed(at=NOON, run="r-1", reason="x", message="y"),
    Cancelled(at=NOON, run="r-1"),
    Archived(at=NOON, run="r-1", facts=3, piece=NOTHING),
]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: type(end).__name__)
def test_the_works_of_a_run_that_has_ended_are_removed_and_the_run_is_forgotten(end):
    state = told(*begun("a", "b"), invited("a"), end)
    works = {("b", "r-1"): sight(uid="2"), ("a", "r-1"): sight(FAILED, uid="1")}

    assert state == Live({}, 4)
    assert decided(state, clusters={"a", "b"}, works=works) == [
        Perform(("remove", "1", None), Remove("r-1", "a", "1", wanted=False)),
        Perform(("remove", "2", None), Remove("r-1", "b", "2", wanted=False)),
    ]


def test_works_of_unknown_runs_and_of_clusters_that_were_not_chosen_are_removed():
    state = told(*begun("a"))
    works = {("a", "r-1"): sight(), ("b", "r-1"): sight(uid="b"), ("a", "old"): sight(uid="old")}

    assert [action.effect for action in decided(state, clusters={"a", "b"}, works=works)] == [
        Remove("old", "a", "old", wanted=False),
        Remove("r-1", "b", "b", wanted=False),
    ]


def test_a_work_that_is_being_deleted_is_let_go():
    assert decided(told(), works={("a", "old"): sight(leaving=True)}) == []


def test_the_work_of_a_cluster_that_left_is_removed_and_its_invitations_are_declined():
    state = told(*begun("a"), invited("a", 0), invited("a", 1))
    message = "the cluster has left the hub, or the hub accepts it no longer"

    assert decided(state, departed={"a"}, works={("a", "r-1"): sight()}) == [
        Perform(("remove", "u", None), Remove("r-1", "a", "u", wanted=True)),
        declined("a", "left", message, 0),
        declined("a", "left", message, 1),
    ]
    assert decided(state, departed={"a"}) == [declined("a", "left", message, 0), declined("a", "left", message, 1)]
    assert decided(state) == []


def test_a_failed_job_declines_what_its_cluster_is_asked_now_or_later():
    works = {("a", "r-1"): sight(FAILED), ("b", "r-1"): sight()}
    message = "the work has failed on the cluster: Job has reached the limit"
    before = told(*begun("a", "b"), invited("b"))
    after = told(*begun("a", "b"), invited("b"), invited("a", 4))

    assert decided(before, clusters={"a", "b"}, works=works) == []
    assert decided(after, clusters={"a", "b"}, works=works) == [declined("a", "failed", message, 4)]


CONTRIBUTED = Contributed(at=NOON, run="r-1", round=0, cluster="a", attempt="x", weight=1, metrics={}, layout=NOTHING, shards=())
ANSWERS = [
    CONTRIBUTED,
    Evaluated(at=NOON, run="r-1", round=0, cluster="a", weight=1, metrics={}),
    Declined(at=NOON, run="r-1", round=0, cluster="a", reason="x", message="y"),
    Closed(at=NOON, run="r-1", round=0, reason="z"),
]


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: type(answer).__name__)
def test_what_is_answered_or_closed_is_not_declined(answer):
    state = told(*begun("a"), invited("a"), answer)

    assert decided(state, clusters={"a"}, works={("a", "r-1"): sight(FAILED)}) == []


def test_another_clusters_answer_and_another_rounds_end_leave_an_invitation_open():
    elsewhere = [CONTRIBUTED.model_copy(update={"cluster": "b"}), Closed(at=NOON, run="r-1", round=1, reason="z")]
    state = told(*begun("a", "b"), invited("a"), invited("b"), *elsewhere, Started(at=NOON, run="r-1", strategy="s", training_rounds=1))

    assert state.runs["r-1"].invited == {"a": frozenset({0})}


def test_a_cluster_may_be_silent_for_a_while():
    state, works = told(*begun("a"), invited("a")), {("a", "r-1"): sight(Standing(Stage.SENT))}
    late = NOON + timedelta(seconds=300)
    message = "the cluster's agent has not reported for 300 s that it has the work; is the cluster available?"

    assert decided(state, at=late - timedelta(seconds=1), clusters={"a"}, works=works) == []
    assert decided(state, at=late, clusters={"a"}, works=works) == [declined("a", "unreachable", message, at=late)]


def test_what_could_not_be_sent_is_tried_again_later_and_declined_when_that_does_not_help():
    state = told(*begun("a"), invited("a"))
    tried = {("a", "r-1"): Tried(NOON + timedelta(seconds=26), 3, NOON, Standing(Stage.REFUSED, "forbidden"))}
    early, due = NOON + timedelta(seconds=29), NOON + timedelta(seconds=34)
    message = "the hub did not take the work for the cluster for 30 s: forbidden"

    assert decided(state, at=early, clusters={"a"}, tried=tried) == []
    assert decided(state, at=due, clusters={"a"}, tried=tried) == [
        send("a", NOON + timedelta(seconds=26)),
        declined("a", "not-sent", message, at=due),
    ]


def test_a_work_that_vanished_is_sent_again_under_another_key():
    tried = {("a", "r-1"): Tried(NOON - timedelta(hours=1))}

    assert decided(told(*begun("a")), clusters={"a"}, tried=tried) == [send("a", NOON - timedelta(hours=1))]


def test_a_record_that_comes_again_is_ignored():
    core, state = Sending(), told(*begun("a"), Cancelled(at=NOON, run="r-1"))

    assert core.evolve(state, Recorded(begun("a")[0], 1)) is state
