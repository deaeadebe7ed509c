"""What has become of a work, read from what Open Cluster Management's agent reports, and when that means that no answer will come.

Nobody on the hub sees a cluster's pods: all there is to see is the work's conditions and the numbers of its Job.
So what keeps a pod from starting, an image that cannot be pulled or a node that is full, is told by the time that it takes.
A stage says what is seen, and the table `TROUBLES` how long it may last. Everything here is computed; `sending` asks and acts.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from fedplane.scheduler.excerpts import excerpt
from fedplane.scheduler.works import BACKOFF_LIMIT, NAMESPACE

__all__ = [
    "PATIENCE", "Bound", "Patience", "Stage", "Standing", "Trouble", "at_once", "job_standing", "standing", "to_accept", "to_start",
    "trouble",
]  # fmt: skip

SAID_CHARACTERS_MAX = 1_000
"""Of what an agent or a server says; it is repeated in a fact that people read."""


class Stage(StrEnum):
    """How far a cluster's part of a run has got. The first four have no work on the hub."""

    LEFT = "left"
    UNEXPOSED = "unexposed"
    REFUSED = "refused"
    UNREACHED = "unreached"
    SENT = "sent"
    UNAPPLIED = "unapplied"
    PENDING = "pending"
    WORKING = "working"
    ENDED = "ended"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Standing:
    """A stage, and what was said about it."""

    stage: Stage
    said: str = ""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait before a cluster's silence is a refusal, in seconds.

    start: for an agent to report, and for a pod to be ready. Images of frameworks have gigabytes, which take minutes;
    but it is half of what a round takes at most by default, so that a round hears why there is no answer.
    refusal: for what was refused to be accepted after all; namespaces and permissions of a new cluster take some seconds.
    """

    start_seconds: float = 300.0
    refusal_seconds: float = 30.0


PATIENCE = Patience()


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a cluster will not answer: a word, and a sentence for a person."""

    reason: str
    message: str


def at_once(patience: Patience) -> float:
    """A stage that is trouble itself."""
    return 0.0


def to_start(patience: Patience) -> float:
    """A stage that takes as long as images take."""
    return patience.start_seconds


def to_accept(patience: Patience) -> float:
    """A stage that passes soon if it passes at all."""
    return patience.refusal_seconds


@dataclass(frozen=True, slots=True)
class Bound:
    """How long a stage may last, and what it is then called. `message` has the run's id and the seconds filled in."""

    reason: str
    seconds: Callable[[Patience], float]
    message: str


TROUBLES: Mapping[Stage, Bound] = {
    Stage.LEFT: Bound("left", at_once, "the cluster has left the hub, or the hub accepts it no longer"),
    Stage.UNEXPOSED: Bound("not-sent", to_start, "the bus had no address for the cluster for {seconds:g} s"),
    Stage.REFUSED: Bound("not-sent", to_accept, "the hub did not take the work for the cluster for {seconds:g} s"),
    Stage.UNREACHED: Bound("not-sent", to_start, "the work could not be put on the hub for {seconds:g} s"),
    Stage.SENT: Bound(
        "unreachable", to_start,
        "the cluster's agent has not reported for {seconds:g} s that it has the work; is the cluster available?",
    ),
    Stage.UNAPPLIED: Bound("not-applied", to_accept, "the cluster did not take the work for {seconds:g} s"),
    Stage.PENDING: Bound(
        "not-started", to_start,
        f"no pod of the work was ready for {{seconds:g}} s; look there with: kubectl -n {NAMESPACE} describe pods -l job-name={{run}}",
    ),
    Stage.ENDED: Bound("ended", at_once, "the work has ended on the cluster before its run"),
    Stage.FAILED: Bound("failed", at_once, "the work has failed on the cluster"),
}  # fmt: skip
"""What each stage means when it lasts. WORKING is not here: whoever works answers, or the round's deadline passes."""


def trouble(
    run: str, seen: Standing, since: datetime, now: datetime, patience: Patience, troubles: Mapping[Stage, Bound] = TROUBLES
) -> Trouble | None:
    """Why no answer is to be expected of the cluster, or by another table of somebody else; None if there is hope."""
    bound = troubles.get(seen.stage)
    if bound is None:
        return None
    seconds = bound.seconds(patience)
    if now < since + timedelta(seconds=seconds):
        return None
    message = bound.message.format(run=run, seconds=seconds)
    return Trouble(bound.reason, f"{message}: {seen.said}" if seen.said else message)


def standing(work: Mapping[str, Any]) -> Standing:
    """How far a work has got. What the agent reports is another program's; what is not as documented is not seen."""
    status = _object(work.get("status"))
    manifest = next(iter(_objects(_object(status.get("resourceStatus")).get("manifests"))), {})
    applied = _condition(manifest, "Applied") or _condition(status, "Applied")
    if applied.get("status") == "False":
        return Standing(Stage.UNAPPLIED, _said(applied.get("message")))
    if applied.get("status") != "True":
        return Standing(Stage.SENT)
    return _progress(_feedback(manifest))


def job_standing(job: Mapping[str, Any]) -> Standing:
    """How far a Job of the hub itself has got, by the same numbers."""
    status = _object(job.get("status"))
    failed = _condition(status, "Failed")
    if failed.get("status") != "True":
        return _progress(status)
    return _progress({**status, "failedReason": failed.get("reason") or "Failed", "failedMessage": failed.get("message")})


def _progress(said: Mapping[str, Any]) -> Standing:
    """How far a Job has got, by what its status says under the names of `works.FEEDBACK`."""
    failed, ready = said.get("failed"), said.get("ready")
    if said.get("failedReason") or (isinstance(failed, int) and failed > BACKOFF_LIMIT):
        return Standing(Stage.FAILED, _said(said.get("failedMessage") or said.get("failedReason") or f"its pods failed {failed} times"))
    if said.get("succeeded"):
        return Standing(Stage.ENDED)
    # Kubernetes before 1.24 does not count pods that are ready; one that is there is then believed to work.
    started = ready if isinstance(ready, int) else said.get("active")
    return Standing(Stage.WORKING if started else Stage.PENDING)


def _feedback(manifest: Mapping[str, Any]) -> dict[str, Any]:
    values = _objects(_object(manifest.get("statusFeedback")).get("values"))
    found = {}
    for value in values:
        field = _object(value.get("fieldValue"))
        found[str(value.get("name"))] = field.get("integer", field.get("string"))
    return found


def _condition(status: Mapping[str, Any], type_: str) -> Mapping[str, Any]:
    return next((condition for condition in _objects(status.get("conditions")) if condition.get("type") == type_), {})


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _said(by_another: Any) -> str:
    return excerpt(str(by_another or ""), SAID_CHARACTERS_MAX)
