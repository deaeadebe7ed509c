"""What `kubectl` shows of a run, fact by fact."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from status_story import CLUSTERS, NO_DATA, RUN, UID, Story, viewed

from fedplane.schemas import facts
from fedplane.schemas.models import Chosen, Refused, Task, Term
from fedplane.schemas.object_status import CLUSTERS_SHOWN_MAX, ROUNDS_SHOWN_MAX, ObjectStatus
from fedplane.schemas.views import RunView
from fedplane.status.outward import STATUS_BYTES_MAX, Standing, standing, status_of

S = Story()


def time(second: int) -> str:
    return f"2026-03-01T12:00:{second:02}Z"


def condition(type_: str, status: str, reason: str, message: str, second: int) -> dict[str, Any]:
    return {
        "type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": time(second), "observedGeneration": 3,
    }  # fmt: skip


def head(phase: str, message: str, sequence: int, *conditions: dict[str, Any]) -> dict[str, Any]:
    return {
        "phase": phase, "message": message, "observedGeneration": 3, "conditions": list(conditions), "run": RUN, "submittedAt": time(0),
        "sequence": sequence,
    }  # fmt: skip


def with_round(**fields: Any) -> dict[str, Any]:
    return {"invited": 2, "answered": 0, "declined": 0, "rejected": 0, **fields}


SUBMITTED = condition("Scheduled", "Unknown", "Submitted", "Waiting for the scheduler.", 0)
REFUSALS = {
    "notParticipating": 1,
    "refused": [{"cluster": "hospital-c", "reason": "data", "message": "does not advertise the claim mnist.client-data"}],
}
WAITING = condition(
    "Scheduled", "False", "NotEnoughClusters", "1 of 2 clusters fit. hospital-c does not advertise the claim mnist.client-data", 1
)
SCHEDULED = condition("Scheduled", "True", "ClustersChosen", "2 clusters chosen: hospital-a, hospital-b.", 2)
TERMS = [{"criterion": "cpu", "score": 0.5, "weight": 2.0}]
CHOSEN = {"participating": 2, "participants": [{"cluster": cluster, "score": 1.0, "terms": TERMS} for cluster in CLUSTERS], **REFUSALS}
RUNNING = condition("Running", "True", "Started", "2 training rounds with fedavg.", 3)
RUNNING_BEFORE = condition("Running", "False", "Completed", "2 training rounds done.", 20)
UPSTREAM_S_LISTENER = {
    "address": "172.18.0.2:31166", "name": "listener(service):listener-nodeport-31166", "port": 31166, "type": "NodePort",
}  # fmt: skip
"""As its README shows it of a run that has completed, but for the name of the Service."""
PLACED = (S.submitted(), S.scheduled(), S.started())
FIRST = with_round(round=1, task="train", trainingRound=1, state="Open", openedAt=time(4), answered=1)
MODEL = {"location": "bulk.layout", "digest": "blake3:" + "1" * 64, "bytes": 8}

TABLE: dict[str, tuple[list[facts.Fact], dict[str, Any]]] = {
    "a run that was asked for": (
        [S.submitted()],
        {**head("Waiting", "Awaiting server and client readiness", 1, SUBMITTED), "notParticipating": 0},
    ),
    "one that too few clusters fit": (
        [S.submitted(), S.waiting()],
        {**head("Waiting", "Expected 2 clusters, but only 1 meet the criteria", 2, WAITING), **REFUSALS},
    ),
    "one that clusters are chosen for": (
        [S.submitted(), S.scheduled()],
        {**head("Waiting", "Assigned 2 clusters for client execution in model training", 2, SCHEDULED), **CHOSEN},
    ),
    "one that runs": (
        [*PLACED],
        {**head("Running", "Assigned 2 clusters for client execution in model training", 3, SCHEDULED, RUNNING), **CHOSEN},
    ),
    "one that is in a round": (
        [*PLACED, S.opened(4, 1, 1), S.contributed(5, 1, "hospital-a")],
        {
            **head("Running", "Training round 1 of 2: 2 clusters invited.", 5, SCHEDULED, RUNNING),
            "round": 1, "rounds": [FIRST], **CHOSEN,
        },
    ),
    "one whose round has a result": (
        [*PLACED, S.opened(4, 1, 1), S.contributed(5, 1, "hospital-a"), S.closed(6, 1), S.aggregated(7, 1, 1, loss=0.5)],
        {
            **head("Running", "Training round 1 of 2: done by 1 cluster.", 7, SCHEDULED, RUNNING),
            "round": 1,
            "rounds": [{**FIRST, "state": "Aggregated", "message": "everyone answered", "endedAt": time(7), "metrics": {"loss": 0.5}}],
            **CHOSEN, "metrics": {"loss": 0.5}, "model": {"round": 1, **MODEL},
        },
    ),
    "one that has its model": (
        [*PLACED, S.completed()],
        {
            **head(
                "Completed", "Model training successful. Check storage for details", 4, SCHEDULED,
                condition("Running", "False", "Completed", "2 training rounds done.", 20),
                condition("Completed", "True", "Completed", "2 training rounds done.", 20),
            ),
            **CHOSEN, "metrics": {"accuracy": 0.9}, "model": {"round": 2, **MODEL},
        },
    ),
    "one whose model somebody keeps": (
        [*PLACED, S.completed(), facts.Kept(at=S.at(21), run=RUN, round=2, location="pvc://models/m.safetensors")],
        {
            **head(
                "Completed", "Model training successful. Check storage for details", 5, SCHEDULED,
                condition("Running", "False", "Completed", "2 training rounds done.", 20),
                condition("Completed", "True", "Completed", "2 training rounds done.", 20),
                condition("Kept", "True", "Kept", "The model is pvc://models/m.safetensors.", 21),
            ),
            **CHOSEN, "metrics": {"accuracy": 0.9}, "model": {"round": 2, **MODEL, "location": "pvc://models/m.safetensors"},
        },
    ),
    "one whose listener has no address yet": (
        [S.submitted(), S.exposed(1, 1, balancer="none yet")],
        {
            **head(
                "Waiting", "Awaiting server and client readiness", 2, SUBMITTED,
                condition("Exposed", "False", "Pending", "balancer: none yet", 1),
            ),
            "notParticipating": 0,
        },
    ),
    "one that was exposed and has its model": (
        [*PLACED, S.exposed(4, 1, "172.18.0.2:31166"), S.completed()],
        {
            **head(
                "Completed", "Model training successful. Check storage for details", 5, SCHEDULED, RUNNING_BEFORE,
                condition("Exposed", "True", "Reachable", "The bus is reached at 172.18.0.2:31166.", 4),
                condition("Completed", "True", "Completed", "2 training rounds done.", 20),
            ),
            "listeners": [UPSTREAM_S_LISTENER],
            **CHOSEN, "metrics": {"accuracy": 0.9}, "model": {"round": 2, **MODEL},
        },
    ),
    "one that failed before it ran": (
        [S.submitted(), S.failed()],
        {
            **head(
                "Failed", "training round 1 failed 3 times", 2, SUBMITTED,
                condition("Failed", "True", "RoundFailed", "training round 1 failed 3 times", 20),
            ),
            "notParticipating": 0,
        },
    ),
    "one that somebody cancelled": (
        [*PLACED, S.cancelled()],
        {
            **head(
                "Failed", "cancelled at the command line", 4, SCHEDULED,
                condition("Running", "False", "Cancelled", "cancelled at the command line", 20),
                condition("Failed", "True", "Cancelled", "cancelled at the command line", 20),
            ),
            **CHOSEN,
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize(("said", "status"), TABLE.values(), ids=TABLE)
def test_the_status_of(said: list[facts.Fact], status: dict[str, Any]) -> None:
    assert status_of(viewed(*said)) == status


@pytest.mark.parametrize("said", [said for said, _ in TABLE.values()], ids=TABLE)
def test_what_is_written_is_what_the_schema_knows(said: list[facts.Fact]) -> None:
    written = status_of(viewed(*said))

    read = ObjectStatus.model_validate(written)
    assert read.model_dump(mode="json", by_alias=True, exclude_unset=True) == written


def test_of_an_older_metric_the_last_value_stays_until_it_is_measured_again() -> None:
    said = [
        *PLACED,
        S.opened(4, 1, 1), S.aggregated(5, 1, 1, loss=0.5),
        S.opened(6, 2, 1, Task.EVALUATE), S.aggregated(7, 2, 1, Task.EVALUATE, accuracy=0.8),
        S.opened(8, 3, 2), S.aggregated(9, 3, 2, loss=0.25),
    ]  # fmt: skip

    assert status_of(viewed(*said))["metrics"] == {"accuracy": 0.8, "loss": 0.25}


@pytest.mark.parametrize("task", Task)
def test_a_round_of_every_task_can_be_told(task: Task) -> None:
    (told,) = status_of(viewed(*PLACED, S.opened(4, 0, 1, task)))["rounds"]

    assert told["task"] == task.value


def test_times_are_whole_seconds() -> None:
    at = datetime(2026, 3, 1, 12, 0, 0, 999_999, tzinfo=UTC)

    written = status_of(viewed(Story(begin=at).submitted()))

    assert (written["submittedAt"], written["conditions"][0]["lastTransitionTime"]) == (time(0), time(0))


def test_only_the_last_rounds_and_the_first_clusters_are_listed_and_the_others_counted() -> None:
    names = [f"cluster-{number:04}" for number in range(3000)]
    chosen = tuple(Chosen(cluster=name, score=1, terms=()) for name in names)
    refused = tuple(Refused(cluster=name, reason="data", message="has none") for name in reversed(names))
    rounds = viewed(*PLACED, *(S.opened(4, number, number) for number in range(30))).rounds
    view = viewed(*PLACED).model_copy(update={"participants": chosen, "refused": refused, "rounds": rounds})

    written = status_of(view)

    assert [of["round"] for of in written["rounds"]] == list(range(30 - ROUNDS_SHOWN_MAX, 30))
    assert [each["cluster"] for each in written["participants"]] == names[:CLUSTERS_SHOWN_MAX]
    assert [each["cluster"] for each in written["refused"]] == names[:CLUSTERS_SHOWN_MAX]
    assert (written["participating"], written["notParticipating"]) == (3000, 3000)


def test_a_status_fits_whatever_is_said_of_clusters_and_rounds() -> None:
    terms = tuple(Term(criterion="x" * 300, score=0.5, weight=1) for _ in range(20))
    refused = tuple(Refused(cluster=f"c-{number}", reason="data", message="x" * 9000, terms=terms) for number in range(2000))
    metrics = {f"{number}{'m' * 90}": 0.1 for number in range(100)}
    (of,) = viewed(*PLACED, S.opened(4, 1, 1)).rounds
    long = of.model_copy(update={"message": "x" * 1000, "metrics": metrics})
    view = viewed(*PLACED).model_copy(update={"refused": refused, "rounds": (long,) * 200, "metrics": metrics})

    written = status_of(view)

    assert len(json.dumps(written).encode()) <= STATUS_BYTES_MAX
    assert 0 < len(written["refused"]) < CLUSTERS_SHOWN_MAX
    assert {len(each["message"]) for each in written["refused"]} == {300}
    assert len(written["rounds"]) == ROUNDS_SHOWN_MAX


VIEW = viewed(*PLACED)
TOLD = status_of(VIEW)
LIVE: dict[str, tuple[dict[str, Any] | None, Standing]] = {
    "there is none": (None, Standing.MISSING),
    "another one": ({"metadata": {"uid": "b"}, "status": TOLD}, Standing.ANOTHER),
    "nothing is told yet": ({"metadata": {"uid": UID}}, Standing.BEHIND),
    "somebody else has told something": ({"metadata": {"uid": UID}, "status": {"phase": "Start"}}, Standing.BEHIND),
    "less is told": ({"metadata": {"uid": UID}, "status": {**TOLD, "sequence": 2}}, Standing.BEHIND),
    "the same is told": ({"metadata": {"uid": UID}, "status": TOLD}, Standing.CURRENT),
    "more is told": ({"metadata": {"uid": UID}, "status": {**TOLD, "sequence": 9}}, Standing.CURRENT),
    "more was told of a log that was lost": (
        {"metadata": {"uid": UID}, "status": {**TOLD, "sequence": 9, "submittedAt": "2025-01-01T00:00:00Z"}}, Standing.BEHIND,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("live", "expected"), LIVE.values(), ids=LIVE)
def test_what_an_object_is_to_a_view_when(live: dict[str, Any] | None, expected: Standing) -> None:
    assert standing(VIEW, live) is expected


def test_a_view_that_an_older_service_made_is_told_as_it_is() -> None:
    old = viewed(S.submitted(), S.waiting()).model_dump(exclude={"uid", "generation", "wanted", "eligible"})

    written = status_of(RunView.model_validate(old))

    assert (written["message"], written["observedGeneration"]) == (f"1 of 2 clusters fit. hospital-c {NO_DATA.message}", 1)
