"""Which runs are to have a Job for their app's own server: decided from the log, and from what this process sees of the hub."""

from datetime import UTC, datetime, timedelta

import pytest
from log_story import knows, recorded
from work_story import learning

from fedplane.runtime.ports import Fence, Recorded
from fedplane.runtime.replica import Perform, State
from fedplane.scheduler.attempts import Tried
from fedplane.scheduler.driving import Dismiss, Driving, DrivingState, JobSight, Launch
from fedplane.scheduler.sending import Sight
from fedplane.scheduler.standing import Stage, Standing
from fedplane.schemas.facts import Archived, Cancelled, Completed, Failed, RunFact, Scheduled, Started, Submitted, run_level_facts_of
from fedplane.schemas.models import Model, Piece

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
RESOURCE = learning(strategy={"name": "app"})
SUBMITTED = Submitted(run="r", at=NOON, resource=RESOURCE)
SCHEDULED = Scheduled(run="r", at=NOON, participants=(), refused=())
STARTED = Started(run="r", at=NOON, strategy="app", training_rounds=0)
NOTHING = Piece(subject="bulk.x", bytes=0, chunk_bytes=8, digest="blake3:" + "0" * 64)
MODEL = Model(run="r", round=1, bytes=0, layout=NOTHING, shards=(), digest="blake3:" + "0" * 64)
COMPLETED = Completed(run="r", at=NOON, model=MODEL, metrics={})


def seen(stage: Stage, since: datetime = NOON, leaving: bool = False) -> JobSight:
    return JobSight("default", "driver-r", Sight("u-1", Standing(stage), since, leaving))


def decided(
    *facts: RunFact, job: JobSight | None = None, tried: Tried | None = None, at: datetime = NOON, known: bool = True
) -> list[object]:
    core = Driving()
    core.hub.known = known
    core.hub.jobs |= {"r": job} if job else {}
    core.hub.tried |= {"r": tried} if tried else {}
    return list(core.decide(knows(core, recorded(facts)), at))


def failed(at: datetime, message: str, sequence: int) -> State:
    fact = Failed(run="r", at=at, reason="ServerNotRun", message=f"the app's server cannot be run: {message}")
    return State(fact, Fence(run_level_facts_of("r"), sequence))


def test_a_run_has_a_job_as_soon_as_it_has_clusters() -> None:
    launch = Perform(("launch", "r", None), Launch("r", RESOURCE))

    assert decided(SUBMITTED) == []
    assert decided(SUBMITTED, SCHEDULED) == [launch]
    assert decided(SUBMITTED, SCHEDULED, known=False) == []
    assert decided(SUBMITTED, SCHEDULED, STARTED, job=seen(Stage.WORKING)) == []
    assert decided(SUBMITTED.model_copy(update={"resource": learning()}), SCHEDULED) == []


@pytest.mark.parametrize(
    "end",
    [
        COMPLETED,
        Failed(run="r", at=NOON, reason="x", message="y"),
        Cancelled(run="r", at=NOON),
        Archived(run="r", at=NOON, facts=2, piece=NOTHING),
    ],
    ids=lambda end: type(end).__name__,
)
def test_a_run_that_has_ended_has_none_any_more(end: RunFact) -> None:
    job = seen(Stage.WORKING)

    assert decided(SUBMITTED, SCHEDULED, end) == []
    assert decided(SUBMITTED, SCHEDULED, end, job=job) == [Perform(("dismiss", "u-1", None), Dismiss("r", job))]
    assert decided(SUBMITTED, SCHEDULED, end, job=seen(Stage.WORKING, leaving=True)) == []


def test_a_job_of_a_run_that_the_log_does_not_have_is_left_over() -> None:
    job = seen(Stage.FAILED)

    assert decided(job=job) == [Perform(("dismiss", "u-1", None), Dismiss("r", job))]


def test_an_attempt_is_repeated_after_a_pause() -> None:
    tried, later = Tried(NOON, failures=1), NOON + timedelta(seconds=2)

    assert decided(SUBMITTED, SCHEDULED, tried=tried, at=later - timedelta(milliseconds=1)) == []
    assert decided(SUBMITTED, SCHEDULED, tried=tried, at=later) == [Perform(("launch", "r", NOON), Launch("r", RESOURCE))]


def test_a_run_whose_job_does_not_start_fails_and_no_other_end_can_follow() -> None:
    later = NOON + timedelta(seconds=300)
    said = "no pod of the driver's Job was ready for 300 s; see kubectl get events -A, and describe pods -A -l fedplane.io/run=r"

    assert decided(SUBMITTED, SCHEDULED, job=seen(Stage.PENDING), at=later - timedelta(seconds=1)) == []
    assert decided(SUBMITTED, SCHEDULED, job=seen(Stage.PENDING), at=later) == [failed(later, said, 2)]
    assert decided(SUBMITTED, SCHEDULED, STARTED, job=seen(Stage.FAILED)) == [failed(NOON, "the driver's Job has failed", 3)]


def test_a_run_whose_job_cannot_be_made_fails_with_the_reason() -> None:
    tried, later = Tried(NOON, 1, NOON, Standing(Stage.REFUSED, "set it")), NOON + timedelta(seconds=30)

    assert decided(SUBMITTED, SCHEDULED, tried=tried) == []
    assert decided(SUBMITTED, SCHEDULED, tried=tried, at=later) == [
        Perform(("launch", "r", NOON), Launch("r", RESOURCE)),
        failed(later, "the hub did not take the driver's Job for 30 s: set it", 2),
    ]


def test_a_record_that_comes_again_changes_nothing() -> None:
    core = Driving()
    state = core.evolve(core.evolve(DrivingState(), Recorded(SUBMITTED, 1)), Recorded(COMPLETED, 2))

    assert core.evolve(state, Recorded(SUBMITTED, 1)) is state
