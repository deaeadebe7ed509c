"""Which runs are to have a Job that keeps their model: decided from the log and what this process has tried."""

from datetime import UTC, datetime, timedelta

import pytest
from log_story import knows, recorded

from fedplane.runtime.ports import Recorded
from fedplane.runtime.replica import Perform
from fedplane.scheduler.attempts import Tried
from fedplane.scheduler.storing import Runs, Store, Storing
from fedplane.schemas.facts import Archived, Cancelled, Completed, Failed, RunFact, Started, Submitted
from fedplane.schemas.models import Model, Piece
from fedplane.schemas.resources import API_VERSION, KIND, FederatedLearning

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
NOTHING = Piece(subject="bulk.fed.v1.r.1.model.x.0", bytes=0, chunk_bytes=8, digest="blake3:" + "0" * 64)
MODEL = Model(run="r", round=1, bytes=0, layout=NOTHING, shards=(), digest="blake3:" + "0" * 64)
STORAGE = {"type": "PersistentVolumeClaim", "name": "models", "size": "1Gi"}


def resource(**server: object) -> FederatedLearning:
    return FederatedLearning.model_validate(
        {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "r"}, "spec": {"server": server}}
    )


STORED = resource(storage=STORAGE)
SUBMITTED = Submitted(run="r", at=NOON, resource=STORED)
STARTED = Started(run="r", at=NOON, strategy="fedavg", training_rounds=3)
COMPLETED = Completed(run="r", at=NOON, model=MODEL, metrics={})
OTHER = SUBMITTED.model_copy(update={"run": "other"})


def decided(*facts: RunFact, tried: Tried | None = None, at: datetime = NOON) -> list[object]:
    core = Storing()
    core.tried = {"r": tried} if tried else {}
    return list(core.decide(knows(core, recorded(facts)), at))


def test_a_run_with_storage_has_a_job_as_soon_as_it_is_completed() -> None:
    assert decided(OTHER, SUBMITTED, STARTED) == []
    assert decided(OTHER, SUBMITTED, STARTED, COMPLETED) == [Perform(("store", "r", None), Store("r", STORED))]
    assert decided(SUBMITTED.model_copy(update={"resource": resource()}), COMPLETED) == []


@pytest.mark.parametrize(
    "end",
    [
        Failed(run="r", at=NOON, reason="x", message="y"),
        Cancelled(run="r", at=NOON),
        Archived(run="r", at=NOON, facts=2, piece=NOTHING),
    ],
    ids=lambda end: type(end).__name__,
)
def test_a_run_that_has_no_model_or_is_no_longer_on_the_log_is_forgotten(end: RunFact) -> None:
    state = knows(Storing(), recorded([OTHER, SUBMITTED, *([COMPLETED] if isinstance(end, Archived) else []), end]))

    assert (state.resources, state.completed) == ({"other": STORED}, frozenset())


def test_a_job_that_could_not_be_made_is_tried_again_after_a_pause_and_one_that_was_made_is_not() -> None:
    failed, later = Tried(NOON, failures=1), NOON + timedelta(seconds=2)

    assert decided(SUBMITTED, COMPLETED, tried=failed, at=later - timedelta(milliseconds=1)) == []
    assert decided(SUBMITTED, COMPLETED, tried=failed, at=later) == [Perform(("store", "r", NOON), Store("r", STORED))]
    assert decided(SUBMITTED, COMPLETED, tried=Tried(NOON), at=later + timedelta(days=1)) == []


def test_a_record_that_comes_again_changes_nothing() -> None:
    core = Storing()
    state = core.evolve(core.evolve(Runs(), Recorded(SUBMITTED, 1)), Recorded(COMPLETED, 2))

    assert core.evolve(state, Recorded(SUBMITTED, 1)) is state
