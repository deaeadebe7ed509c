"""What a run looks like from outside, fact by fact. The facts of whole runs come from `story`."""

from datetime import UTC, datetime, timedelta

from log_story import knows, recorded

from fedplane.runtime.ports import Recorded
from fedplane.runtime.replica import Perform
from fedplane.schemas import facts
from fedplane.schemas.models import Chosen, Exposure, Model, Piece, Refused, Task
from fedplane.schemas.resources import FederatedLearning
from fedplane.schemas.views import MESSAGE_CHARACTERS_MAX, ROUNDS_KEPT_MAX, Condition, Decline, Phase, RoundState, RoundView, RunView
from fedplane.status.phases import Phases, Runs, ShowRun

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
RUN = "mnist-0a1b2c3d"
PIECE = Piece(subject="bulk.layout", bytes=8, chunk_bytes=8, digest="blake3:" + "0" * 64)


def at(second: int) -> datetime:
    return NOON + timedelta(seconds=second)


def model(round_: int) -> Model:
    return Model(run=RUN, round=round_, bytes=8, layout=PIECE, shards=(PIECE,), digest="blake3:" + "1" * 64)


def submitted(second: int = 0, run: str = RUN, rounds: int = 2, storage: str = "", from_hub: bool = False) -> facts.Submitted:
    resource = FederatedLearning.model_validate(
        {
            "apiVersion": "federation-ai.open-cluster-management.io/v1alpha1",
            "kind": "FederatedLearning",
            "metadata": {"name": "mnist", "namespace": "research"},
            "spec": {"server": {"rounds": rounds, "storage": {"type": storage} if storage else None}},
        }
    )
    return facts.Submitted(at=at(second), run=run, resource=resource, from_hub=from_hub)


def waiting(second: int, *refused: Refused, number: int = 1) -> facts.Waiting:
    return facts.Waiting(at=at(second), run=RUN, number=number, wanted=2, eligible=1, message="1 of 2 clusters fit", refused=refused)


def scheduled(second: int) -> facts.Scheduled:
    chosen = (Chosen(cluster="a", score=1, terms=()), Chosen(cluster="b", score=0.5, terms=()))
    return facts.Scheduled(at=at(second), run=RUN, participants=chosen, refused=(Refused(cluster="c", reason="NoData", message="none"),))


def started(second: int) -> facts.Started:
    return facts.Started(at=at(second), run=RUN, strategy="fedavg", training_rounds=2)


def opened(second: int, round_: int, task: Task = Task.TRAIN, training_round: int = 1) -> facts.Opened:
    return facts.Opened(
        at=at(second), run=RUN, round=round_, task=task, training_round=training_round, clusters=("a", "b"), minimum=1,
        deadline=at(second + 60), shard_bytes=8, chunk_bytes=8,
    )  # fmt: skip


def contributed(second: int, round_: int, cluster: str) -> facts.Contributed:
    return facts.Contributed(
        at=at(second), run=RUN, round=round_, cluster=cluster, attempt="x", weight=1, metrics={}, layout=PIECE, shards=(PIECE,)
    )


def declined(second: int, round_: int, cluster: str, message: str = "out of memory") -> facts.Declined:
    return facts.Declined(at=at(second), run=RUN, round=round_, cluster=cluster, reason="AppCrashed", message=message)


def closed(second: int, round_: int) -> facts.Closed:
    return facts.Closed(at=at(second), run=RUN, round=round_, reason="everyone answered")


def aggregated(second: int, round_: int, task: Task = Task.TRAIN, training_round: int = 1) -> facts.Aggregated:
    return facts.Aggregated(
        at=at(second), run=RUN, round=round_, task=task, training_round=training_round, members=("a",), weight=1, metrics={"loss": 0.5},
        model=model(round_) if task is not Task.EVALUATE else None,
    )  # fmt: skip


def completed(second: int, reason: str = facts.ALL_ROUNDS_DONE) -> facts.Completed:
    return facts.Completed(at=at(second), run=RUN, model=model(1), metrics={"accuracy": 0.9}, reason=reason)


def failed(second: int) -> facts.Failed:
    return facts.Failed(at=at(second), run=RUN, reason="round-failed", message="training round 1 failed 3 times")


def told(*said: facts.Fact, first: int = 1) -> Runs:
    return knows(Phases(runs_kept_max=100), recorded(said, first))


def condition(type_: str, status: str, reason: str, message: str, second: int) -> Condition:
    return Condition.model_validate(
        {"type": type_, "status": status, "reason": reason, "message": message, "last_transition_at": at(second)}
    )


def test_a_submitted_run_waits_for_the_scheduler() -> None:
    expected = RunView(
        run=RUN,
        name="mnist",
        namespace="research",
        phase=Phase.WAITING,
        message="Waiting for the scheduler.",
        conditions=(condition("Scheduled", "Unknown", "Submitted", "Waiting for the scheduler.", 0),),
        sequence=1,
        submitted_at=at(0),
        phases={Phase.WAITING: at(0)},
        training_rounds=2,
    )

    assert told(submitted()) == {RUN: expected}


def test_a_waiting_run_says_who_is_missing_and_why() -> None:
    refused = (Refused(cluster="c", reason="NoCpu", message="has 1 core"), Refused(cluster="b", reason="data", message="has no claim"))

    view = told(submitted(), waiting(5, *refused))[RUN]

    message = "1 of 2 clusters fit. b has no claim. c has 1 core"
    assert (view.phase, view.message, view.refused) == (Phase.WAITING, message, refused)
    assert view.conditions == (condition("Scheduled", "False", "NotEnoughClusters", message, 5),)


def test_a_long_list_of_refusals_is_counted_instead_of_named() -> None:
    refused = [Refused(cluster=f"c{number}", reason="data", message="has none") for number in range(9)]

    assert told(submitted(), waiting(5, *refused))[RUN].message.endswith("c3 has none. c4 has none and 4 more")


def test_a_condition_keeps_its_time_while_its_answer_is_the_same() -> None:
    view = told(submitted(), waiting(5), waiting(9, number=2), scheduled(12))[RUN]
    waited = told(submitted(), waiting(5), waiting(9, number=2))[RUN]

    assert waited.conditions == (condition("Scheduled", "False", "NotEnoughClusters", "1 of 2 clusters fit", 5),)
    assert view.conditions == (condition("Scheduled", "True", "ClustersChosen", "2 clusters chosen: a, b.", 12),)


def test_a_scheduled_run_runs_when_the_aggregator_has_taken_it_up() -> None:
    before = told(submitted(), scheduled(1))[RUN]
    after = told(submitted(), scheduled(1), started(2))[RUN]

    assert before.phase is Phase.WAITING
    assert (before.participants, before.refused) == (scheduled(1).participants, scheduled(1).refused)
    assert (after.phase, after.phases) == (Phase.RUNNING, {Phase.WAITING: at(0), Phase.RUNNING: at(2)})
    assert after.conditions[1:] == (condition("Running", "True", "Started", "2 training rounds with fedavg.", 2),)


def test_a_round_shows_who_was_asked_who_answered_who_declined_and_what_came_out() -> None:
    view = told(
        submitted(), scheduled(1), started(2), opened(3, 0), contributed(4, 0, "a"), declined(5, 0, "b"), closed(6, 0), aggregated(7, 0)
    )[RUN]

    assert view.rounds == (
        RoundView(
            round=0,
            task=Task.TRAIN,
            training_round=1,
            state=RoundState.AGGREGATED,
            message="everyone answered",
            opened_at=at(3),
            deadline=at(63),
            closed_at=at(6),
            ended_at=at(7),
            invited=("a", "b"),
            answered=("a",),
            answered_seconds=(1.0,),
            declined=(Decline(cluster="b", reason="AppCrashed", message="out of memory", seconds=2.0),),
            metrics={"loss": 0.5},
        ),
    )
    assert (view.round, view.task, view.training_rounds_done, view.model) == (0, Task.TRAIN, 1, model(0))
    assert view.message == "Training round 1 of 2: done by 1 cluster."


def test_a_round_shows_who_was_not_asked_and_whose_answer_to_an_earlier_question_it_takes() -> None:
    more = {"left_out": {"c": "refused in 3 rounds"}, "carried": {"b": 0}}
    behind = contributed(2, 1, "a")  # its clock is

    view = told(submitted(), opened(3, 1).model_copy(update=more), behind)[RUN]

    assert (view.rounds[0].left_out, view.rounds[0].carried) == (more["left_out"], more["carried"])
    assert view.rounds[0].answered_seconds == (0.0,)


def test_an_evaluation_answers_without_a_new_model_or_another_training_round() -> None:
    measured = facts.Evaluated(at=at(9), run=RUN, round=1, cluster="b", weight=10, metrics={"loss": 0.5})
    view = told(
        submitted(), opened(3, 0), aggregated(7, 0), opened(8, 1, Task.EVALUATE), measured, closed(10, 1), aggregated(11, 1, Task.EVALUATE)
    )[RUN]

    assert view.rounds[1].answered == ("b",)
    assert (view.model, view.training_rounds_done) == (model(0), 1)
    assert view.message == "Evaluation of training round 1 of 2: done by 1 cluster."


def test_replies_to_the_apps_own_server_count_as_its_training_rounds_and_their_mean_is_no_model() -> None:
    replies = [
        fact
        for number in range(3)
        for fact in (
            opened(3 + 4 * number, number, Task.REPLY, number + 1),
            closed(5 + 4 * number, number),
            aggregated(6 + 4 * number, number, Task.REPLY, number + 1),
        )
    ]

    view = told(submitted(), *replies)[RUN]

    assert (view.training_rounds_done, view.training_rounds, view.model) == (3, 3, None)
    assert view.message == "Replies in training round 3 of 3: done by 1 cluster."


def test_an_answer_that_was_rejected_says_why() -> None:
    rejected = facts.Rejected(at=at(7), run=RUN, round=0, cluster="a", reason="unacceptable", message="another layout")

    view = told(submitted(), opened(3, 0), contributed(4, 0, "a"), closed(6, 0), rejected)[RUN]

    assert view.rounds[0].answered == ("a",)
    assert view.rounds[0].rejected == (Decline(cluster="a", reason="unacceptable", message="another layout"),)


def test_a_failed_round_says_why_and_the_run_goes_on() -> None:
    lost = facts.RoundFailed(at=at(7), run=RUN, round=0, reason="TooFew", message="0 of 1 answered")

    view = told(submitted(), started(2), opened(3, 0, Task.INITIALIZE, 0), closed(6, 0), lost)[RUN]

    assert (view.rounds[0].state, view.rounds[0].message) == (RoundState.FAILED, "TooFew: 0 of 1 answered")
    assert (view.phase, view.message) == (Phase.RUNNING, "Initialization failed: TooFew: 0 of 1 answered")


def test_answers_that_do_not_count_are_not_shown() -> None:
    stranger, late, again = contributed(4, 0, "z"), contributed(8, 0, "b"), contributed(5, 0, "a")
    lines = (
        submitted(),
        opened(3, 0),
        contributed(4, 0, "a"),
        again,
        stranger,
        declined(5, 7, "a"),
        closed(6, 0),
        late,
        declined(9, 0, "b"),
    )

    view = told(*lines)[RUN]

    assert (view.rounds[0].answered, view.rounds[0].declined, view.sequence) == (("a",), (), 7)


def test_a_completed_run_has_its_model_and_final_metrics() -> None:
    view = told(submitted(), scheduled(1), started(2), opened(3, 0), aggregated(4, 0), completed(5))[RUN]

    assert (view.phase, view.ended, view.model, view.metrics) == (Phase.COMPLETED, True, model(1), {"accuracy": 0.9})
    assert view.phases == {Phase.WAITING: at(0), Phase.RUNNING: at(2), Phase.COMPLETED: at(5)}
    assert view.conditions[1:] == (
        condition("Running", "False", "Completed", "2 training rounds done.", 5),
        condition("Completed", "True", "Completed", "2 training rounds done.", 5),
    )


def test_a_run_that_was_ended_early_says_why() -> None:
    view = told(submitted(), started(2), opened(3, 0), aggregated(4, 0), completed(5, "accuracy reached 0.9"))[RUN]

    assert (view.phase, view.message) == (Phase.COMPLETED, "1 of 2 training rounds done: accuracy reached 0.9.")
    last = told(submitted(), started(2), opened(3, 0), aggregated(4, 0, training_round=2), completed(5, "accuracy reached 0.9"))[RUN]
    assert last.message == "2 training rounds done: accuracy reached 0.9."


def test_a_run_that_fails_before_it_ran_was_never_running() -> None:
    view = told(submitted(), failed(3))[RUN]

    assert (view.phase, view.failure_reason, view.message) == (Phase.FAILED, "round-failed", "training round 1 failed 3 times")
    assert view.conditions[1:] == (condition("Failed", "True", "RoundFailed", "training round 1 failed 3 times", 3),)


def test_a_cancelled_run_has_failed_and_abandons_its_round() -> None:
    view = told(submitted(), started(2), opened(3, 0), facts.Cancelled(at=at(4), run=RUN))[RUN]

    assert (view.phase, view.failure_reason, view.message) == (Phase.FAILED, "Cancelled", "Somebody cancelled the run.")
    assert (view.rounds[0].state, view.rounds[0].ended_at) == (RoundState.ABANDONED, at(4))


def test_a_refused_edit_is_a_condition_and_leaves_the_run_as_it_was() -> None:
    refused = facts.EditRefused(at=at(9), run=RUN, generation=4, message="spec.server.rounds cannot change")

    before = told(submitted(), scheduled(1), started(2))[RUN]
    after = told(submitted(), scheduled(1), started(2), refused)[RUN]

    synced = condition("Synced", "False", "EditRefused", "spec.server.rounds cannot change", 9)
    changed = {"generation": 4, "conditions": (*before.conditions, synced), "sequence": 4}
    assert after == before.model_copy(update=changed)


def exposed(second: int, number: int, *listeners: Exposure, **pending: str) -> facts.Exposed:
    return facts.Exposed(at=at(second), run=RUN, number=number, listeners=listeners, pending=pending)


def test_the_listeners_that_were_told_last_count_and_a_condition_says_why_others_are_not_there() -> None:
    port = Exposure(name="listener-nodeport-31531", type="NodePort", address="10.0.0.1:31531", port=31531)
    balancer = Exposure(name="listener-loadbalancer-80", type="LoadBalancer", address="lb:80")
    before = told(submitted())[RUN]

    waits = told(submitted(), exposed(2, 1, port, b="none yet", a="taken"))[RUN]
    there = told(submitted(), exposed(2, 1, port, b="none yet", a="taken"), exposed(3, 2, port, balancer))[RUN]

    def changed(sequence: int, answer: Condition, *listeners: Exposure) -> RunView:
        told_besides = {"listeners": listeners, "conditions": (*before.conditions, answer), "sequence": sequence}
        return before.model_copy(update=told_besides)

    reachable = condition("Exposed", "True", "Reachable", "The bus is reached at 10.0.0.1:31531, lb:80.", 3)
    assert waits == changed(2, condition("Exposed", "False", "Pending", "a: taken. b: none yet", 2), port)
    assert there == changed(3, reachable, port, balancer)


def test_a_run_that_ended_never_changes_again() -> None:
    cancelled = facts.Cancelled(at=at(6), run=RUN)
    ended = told(submitted(), started(2), opened(3, 0), completed(5))
    core = Phases(runs_kept_max=100)

    for late in (cancelled, failed(7), contributed(8, 0, "a"), closed(8, 0), opened(9, 1), started(9), exposed(9, 1), submitted(10)):
        assert core.evolve(ended, Recorded(late, 50)) is ended


def kept(second: int, round_: int = 1) -> facts.Kept:
    return facts.Kept(at=at(second), run=RUN, round=round_, location="s3://models/m.safetensors")


def test_a_model_that_its_object_wants_kept_is_kept_not_yet_and_then_it_says_where() -> None:
    asked = submitted(storage="S3Bucket", from_hub=True)
    not_yet = f"The Job {RUN} keeps the model in the S3Bucket; until then it is on the bus, and the Job's log says what is wrong."

    completed_ = told(asked, started(1), completed(5))[RUN]
    at_last = told(asked, started(1), completed(5), kept(7))[RUN]

    assert completed_.conditions[-1] == condition("Kept", "False", "NotYet", not_yet, 5)
    said = condition("Kept", "True", "Kept", "The model is s3://models/m.safetensors.", 7)
    changed = {"location": "s3://models/m.safetensors", "conditions": (*completed_.conditions[:-1], said), "sequence": 4}
    assert at_last == completed_.model_copy(update=changed)


def test_nothing_is_said_of_keeping_where_nobody_asked_for_it_or_of_an_earlier_rounds_model() -> None:
    for asked in (submitted(), submitted(storage="S3Bucket"), submitted(from_hub=True)):
        view = told(asked, started(1), completed(5))[RUN]
        assert [of.type for of in view.conditions] == ["Scheduled", "Running", "Completed"]

    before = told(submitted(), started(1), completed(5))
    assert Phases(runs_kept_max=100).evolve(before, Recorded(kept(7, round_=0), 50)) is before


def test_facts_of_a_run_that_nobody_submitted_and_of_clusters_are_not_shown() -> None:
    advertised = facts.Advertised(at=at(0), cluster="a", lease_seconds=15)

    assert told(started(1), opened(2, 0), advertised) == {}


def test_only_the_last_rounds_and_the_beginning_of_a_message_are_kept() -> None:
    view = told(
        submitted(), *(opened(number, number) for number in range(ROUNDS_KEPT_MAX + 5)), declined(1, ROUNDS_KEPT_MAX, "a", "x" * 5000)
    )[RUN]

    assert [of.round for of in view.rounds] == list(range(5, ROUNDS_KEPT_MAX + 5))
    assert len(view.rounds[ROUNDS_KEPT_MAX - 5].declined[0].message) == MESSAGE_CHARACTERS_MAX


def test_the_oldest_ended_runs_are_forgotten_first_and_only_when_there_is_no_room() -> None:
    core, kept_after = Phases(runs_kept_max=3), []
    begun = (submitted(), failed(1), submitted(run="r-1"), facts.Cancelled(at=at(1), run="r-1"))
    state = core.initial()
    for sequence, fact in enumerate((*begun, *(submitted(run=f"r-{number}") for number in range(2, 6))), 1):
        state = core.evolve(state, Recorded(fact, sequence))
        kept_after.append(list(state))

    assert kept_after[-4:] == [[RUN, "r-1", "r-2"], ["r-1", "r-2", "r-3"], ["r-2", "r-3", "r-4"], ["r-2", "r-3", "r-4", "r-5"]]


def test_every_version_of_a_view_is_to_be_shown_under_a_key_of_its_own() -> None:
    state = told(submitted(), scheduled(1), facts.Expired(at=at(2), run=RUN, round=0))

    assert Phases(100).decide(state, NOON) == [Perform((RUN, 2), ShowRun(state[RUN]))]


def test_an_archived_run_is_forgotten_here_since_its_view_stays_where_it_was_shown() -> None:
    archived = facts.Archived(at=at(9), run=RUN, facts=3, piece=PIECE)

    assert told(submitted(), scheduled(1), failed(2), submitted(run="other-1"), archived).keys() == {"other-1"}
    assert told(archived) == {}
