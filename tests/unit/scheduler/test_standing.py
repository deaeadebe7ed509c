"""How far a work has got, and when no answer is to be expected."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from sources import ROOT

from fedplane.scheduler.standing import Patience, Stage, Standing, Trouble, standing, trouble

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
PATIENCE = Patience(start_seconds=600, refusal_seconds=30)


def condition(type_, status, message=""):
    return {"type": type_, "status": status, "message": message}


def reported(*conditions, **values):
    """A status as Open Cluster Management's agent writes it."""
    fields = {
        name: {"type": "Integer", "integer": value} if isinstance(value, int) else {"type": "String", "string": value}
        for name, value in values.items()
    }
    manifest = {
        "resourceMeta": {"ordinal": 0, "group": "batch", "kind": "Job"},
        "conditions": list(conditions),
        "statusFeedback": {"values": [{"name": name, "fieldValue": field} for name, field in fields.items()]},
    }
    return {"status": {"conditions": [condition("Applied", "True")], "resourceStatus": {"manifests": [manifest]}}}


APPLIED = condition("Applied", "True")

SEEN = {
    "nothing is reported": ({}, Standing(Stage.SENT)),
    "the agent could not apply anything": (
        {"status": {"conditions": [condition("Applied", "False", "failed to apply")]}},
        Standing(Stage.UNAPPLIED, "failed to apply"),
    ),
    "the agent says why it could not apply the Job": (
        reported(condition("Applied", "False", 'namespaces "fedplane-collaborator" not found')),
        Standing(Stage.UNAPPLIED, 'namespaces "fedplane-collaborator" not found'),
    ),
    "the Job is there and has no numbers yet": (reported(APPLIED), Standing(Stage.PENDING)),
    "its pod is not ready": (reported(APPLIED, active=1, ready=0), Standing(Stage.PENDING)),
    "its pod is ready": (reported(APPLIED, active=1, ready=1), Standing(Stage.WORKING)),
    "its pod is there, on an old Kubernetes": (reported(APPLIED, active=1), Standing(Stage.WORKING)),
    "pods failed as often as they may": (reported(APPLIED, active=1, ready=1, failed=6), Standing(Stage.WORKING)),
    "pods failed more often": (reported(APPLIED, ready=0, failed=7), Standing(Stage.FAILED, "its pods failed 7 times")),
    "the Job has failed": (
        reported(APPLIED, failed=1, failedReason="BackoffLimitExceeded", failedMessage="Job has reached the limit"),
        Standing(Stage.FAILED, "Job has reached the limit"),
    ),
    "the Job has failed and says no more": (
        reported(APPLIED, failedReason="DeadlineExceeded"),
        Standing(Stage.FAILED, "DeadlineExceeded"),
    ),
    "the Job has succeeded": (reported(APPLIED, ready=0, succeeded=1), Standing(Stage.ENDED)),
    "a message without end": (reported(condition("Applied", "False", "x" * 5_000)), Standing(Stage.UNAPPLIED, "x" * 999 + "…")),
    "a status that is none": ({"status": "?"}, Standing(Stage.SENT)),
    "lists of what they should not hold": (
        {"status": {"conditions": [1, None], "resourceStatus": {"manifests": ["?", {"conditions": {}}]}}},
        Standing(Stage.SENT),
    ),
}


@pytest.mark.parametrize(("work", "expected"), SEEN.values(), ids=SEEN)
def test_a_work_stands_as_its_agent_reports(work, expected):
    assert standing(work) == expected


LASTING = [
    (
        Stage.SENT,
        600,
        Trouble("unreachable", "the cluster's agent has not reported for 600 s that it has the work; is the cluster available?"),
    ),
    (
        Stage.PENDING,
        600,
        Trouble(
            "not-started",
            "no pod of the work was ready for 600 s; look there with: "
            "kubectl -n fedplane-collaborator describe pods -l job-name=r-1",
        ),
    ),
    (Stage.UNREACHED, 600, Trouble("not-sent", "the work could not be put on the hub for 600 s")),
    (Stage.REFUSED, 30, Trouble("not-sent", "the hub did not take the work for the cluster for 30 s")),
    (Stage.UNAPPLIED, 30, Trouble("not-applied", "the cluster did not take the work for 30 s")),
    (Stage.LEFT, 0, Trouble("left", "the cluster has left the hub, or the hub accepts it no longer")),
    (Stage.ENDED, 0, Trouble("ended", "the work has ended on the cluster before its run")),
    (Stage.FAILED, 0, Trouble("failed", "the work has failed on the cluster")),
]  # fmt: skip


@pytest.mark.parametrize(("stage", "seconds", "expected"), LASTING)
def test_a_stage_is_a_trouble_when_it_has_lasted(stage, seconds, expected):
    at = NOON + timedelta(seconds=seconds)

    assert trouble("r-1", Standing(stage), NOON, at, PATIENCE) == expected
    assert trouble("r-1", Standing(stage), NOON, at - timedelta(seconds=1), PATIENCE) is None


def test_whoever_works_is_never_in_trouble():
    assert trouble("r-1", Standing(Stage.WORKING), NOON, NOON + timedelta(days=365), PATIENCE) is None


def test_a_trouble_repeats_what_was_said():
    seen = Standing(Stage.FAILED, "Job has reached the specified backoff limit")

    assert trouble("r-1", seen, NOON, NOON, PATIENCE) == Trouble(
        "failed", "the work has failed on the cluster: Job has reached the specified backoff limit"
    )


def test_every_stage_but_work_itself_can_be_a_trouble():
    assert {stage for stage in Stage if trouble("r-1", Standing(stage), NOON, NOON + timedelta(days=1), PATIENCE)} == {*Stage} - {
        Stage.WORKING
    }


def test_every_reason_is_explained_to_users():
    page = (ROOT / "docs/how-to/install-on-kubernetes.md").read_text()
    rows = re.findall(r"^\| ([-a-z, ]+) \| The ", page, re.MULTILINE) + re.findall(r"^\| ([-a-z, ]+) \| No ", page, re.MULTILINE)

    assert {reason for row in rows for reason in row.split(", ")} == {each.reason for _, _, each in LASTING}
