"""Which Events a run has, and that there are few of them however long it is."""

from datetime import timedelta

from status_story import Story, viewed

from fedplane.schemas import facts
from fedplane.schemas.models import Task
from fedplane.status.milestones import REASONS, Milestone, event_of, milestones

S = Story()
NOW = S.at(30)


def told(*said: facts.Fact) -> dict[str, Milestone]:
    found = milestones(viewed(*said), NOW)
    assert len({milestone.reason for milestone in found}) == len(found)
    return {milestone.reason: milestone for milestone in found}


def test_a_whole_run_is_told_by_one_event_of_each_reason() -> None:
    rejected = "Training round 1 of 2: hospital-b: unacceptable, has 8 bytes."
    declined = "Training round 2 of 2: hospital-b: app-failed, no memory."

    assert list(told(*S.whole()).values()) == [
        Milestone("Scheduled", "Normal", "2 clusters chosen: hospital-a, hospital-b.", S.at(2), S.at(2)),
        Milestone("Started", "Normal", "2 training rounds with 2 clusters.", S.at(3), S.at(3)),
        Milestone("RoundAggregated", "Normal", "Training round 2 of 2: 1 of 2 clusters contributed.", S.at(3), S.at(11), 2),
        Milestone("ClusterDeclined", "Warning", declined, S.at(11), S.at(11), 1),
        Milestone("ContributionRefused", "Warning", rejected, S.at(7), S.at(7), 1),
        Milestone("Completed", "Normal", "2 training rounds done.", S.at(20), S.at(20)),
    ]


def test_an_answer_that_was_refused_is_no_contribution() -> None:
    first = S.whole()[: S.whole().index(S.aggregated(7, 1, 1, loss=0.5)) + 1]

    assert told(*first)["RoundAggregated"].message == "Training round 1 of 2: 1 of 2 clusters contributed."


def test_a_run_that_waits_says_for_whom() -> None:
    message = "1 of 2 clusters fit. hospital-c does not advertise the claim mnist.client-data"

    assert told(S.submitted(), S.waiting()) == {"NotEnoughClusters": Milestone("NotEnoughClusters", "Warning", message, S.at(1), S.at(1))}


def test_rounds_that_failed_are_counted() -> None:
    found = told(S.submitted(), S.started(), S.opened(4, 1, 1), S.round_failed(5, 1), S.opened(6, 2, 1), S.round_failed(7, 2), S.failed())

    assert (found["RoundFailed"], found["Failed"]) == (
        Milestone("RoundFailed", "Warning", "Training round 1 of 2: too-few: 1 of 2 answered.", S.at(5), S.at(7), 2),
        Milestone("Failed", "Warning", "training round 1 failed 3 times", S.at(20), S.at(20)),
    )


def test_a_cancelled_run_has_failed() -> None:
    assert told(S.submitted(), S.cancelled())["Failed"].message == "cancelled at the command line"


def test_answers_of_a_round_are_told_when_it_has_ended() -> None:
    begun = [S.submitted(), S.started(), S.opened(4, 1, 1), S.declined(5, 1, "hospital-a"), S.contributed(5, 1, "hospital-b")]

    assert "ClusterDeclined" not in told(*begun)
    assert "ClusterDeclined" in told(*begun, S.aggregated(6, 1, 1))


def test_initializing_and_evaluating_are_no_training() -> None:
    rounds = [S.opened(4, 0, 0, Task.INITIALIZE), S.aggregated(5, 0, 0, Task.INITIALIZE), S.opened(6, 1, 1, Task.EVALUATE)]

    assert "RoundAggregated" not in told(S.submitted(), S.started(), *rounds, S.aggregated(7, 1, 1, Task.EVALUATE))


def test_a_thousand_rounds_have_one_event_that_counts_them() -> None:
    rounds = [fact for number in range(1, 1001) for fact in (S.opened(4, number, number), S.aggregated(5, number, number))]
    found = told(S.submitted(), S.started(), *rounds)

    assert found["RoundAggregated"].times == 1000
    assert len(found) <= len(REASONS)


def test_what_the_server_would_have_forgotten_is_not_told_again() -> None:
    view = viewed(*S.whole())
    hour = timedelta(hours=1)

    assert [each.reason for each in milestones(view, S.at(3) + hour)] == [
        "RoundAggregated", "ClusterDeclined", "ContributionRefused", "Completed",
    ]  # fmt: skip
    assert milestones(view, S.at(20) + hour) == ()


def test_an_event_is_about_the_object_and_named_by_run_and_reason() -> None:
    view = viewed(*S.whole())

    assert event_of(view, told(*S.whole())["RoundAggregated"]) == {
        "metadata": {"name": "mnist-0a1b2c3d.roundaggregated", "namespace": "research"},
        "involvedObject": {
            "apiVersion": "federation-ai.open-cluster-management.io/v1alpha1", "kind": "FederatedLearning", "name": "mnist",
            "namespace": "research", "uid": "0a1b2c3d-20d4-4c3e-9d35-0c5d7c1b7a11",
        },
        "reason": "RoundAggregated", "type": "Normal", "message": "Training round 2 of 2: 1 of 2 clusters contributed.", "count": 2,
        "firstTimestamp": "2026-03-01T12:00:03Z", "lastTimestamp": "2026-03-01T12:00:11Z",
        "source": {"component": "fedplane-status"}, "reportingComponent": "fedplane-status",
    }  # fmt: skip
