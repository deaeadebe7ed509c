"""How views get to where everyone can see them, whatever the bus does meanwhile."""

import asyncio
from datetime import UTC, datetime

from fedplane.runtime.errors import Unreachable
from fedplane.runtime.memory import MemoryBus, MemoryViews
from fedplane.runtime.ports import Viewed
from fedplane.runtime.replica import Replica
from fedplane.schemas import facts
from fedplane.schemas.models import Chosen, Refused, Task, Term
from fedplane.schemas.resources import FederatedLearning
from fedplane.schemas.views import ROUNDS_KEPT_MAX, Decline, Phase, RoundState, RoundView, RunView
from fedplane.status.phases import Phases, ShowRun
from fedplane.status.showing import VIEW_BYTES_MAX, Showing, body

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def view(sequence: int, run: str = "mnist-1") -> RunView:
    return RunView(
        run=run, name="mnist", namespace="default", phase=Phase.WAITING, message="", sequence=sequence, submitted_at=NOON, phases={},
        training_rounds=1,
    )  # fmt: skip


class Flaky(MemoryViews):
    """Views on a bus that is away for the first few writes, and that counts them."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures
        self.attempts: list[int] = []

    async def put(self, view: Viewed) -> None:
        """See `Views.put`."""
        self.attempts.append(view.sequence)
        if len(self.attempts) <= self.failures:
            raise Unreachable("no server answers")
        await super().put(view)


async def test_a_view_is_put_under_its_run_with_its_sequence() -> None:
    views = MemoryViews()

    await Showing(views)(ShowRun(view(7)))

    assert await views.all() == [Viewed("mnist-1", view(7).model_dump_json().encode(), 7)]


async def test_a_view_is_tried_again_until_the_bus_is_back() -> None:
    views = Flaky(failures=2)

    await Showing(views, retry_seconds=0)(ShowRun(view(7)))

    assert views.attempts == [7, 7, 7]
    assert [held.sequence for held in await views.all()] == [7]


async def test_a_newer_view_takes_the_place_of_one_that_could_not_be_put() -> None:
    views = Flaky(failures=1)
    showing = Showing(views, retry_seconds=0.01)

    await asyncio.gather(showing(ShowRun(view(7))), showing(ShowRun(view(6))), showing(ShowRun(view(8))))

    assert views.attempts == [7, 8]
    assert [held.sequence for held in await views.all()] == [8]


async def test_a_burst_of_facts_costs_one_write_and_a_fresh_replica_shows_what_is() -> None:
    bus, views = MemoryBus(), Flaky(failures=0)
    resource = {"apiVersion": "federation-ai.open-cluster-management.io/v1alpha1", "kind": "FederatedLearning", "metadata": {"name": "x"}}
    await bus.log.state(facts.Submitted(at=NOON, run="x-1", resource=FederatedLearning.model_validate(resource)))
    await bus.log.state(facts.Scheduled(at=NOON, run="x-1", participants=(), refused=()))
    await bus.log.state(facts.Started(at=NOON, run="x-1", strategy="fedavg", training_rounds=3))

    for _ in range(2):
        replica = asyncio.create_task(Replica(Phases(100), bus.log, perform=Showing(views)).run())
        async with asyncio.timeout(5):
            async for shown in views.watch("x-1"):
                assert RunView.model_validate_json(shown.body).phase is Phase.RUNNING
                break
        await asyncio.sleep(0.01)
        replica.cancel()

    assert views.attempts == [3, 3]


def test_a_view_of_a_round_that_a_thousand_clusters_declined_at_length_fits_and_keeps_their_reasons() -> None:
    declined = tuple(Decline(cluster=f"cluster-{number:04}", reason="app-raised", message="x" * 1000) for number in range(1500))
    of = RoundView(
        round=0, task=Task.TRAIN, training_round=1, state=RoundState.FAILED, opened_at=NOON, deadline=NOON,
        invited=tuple(decline.cluster for decline in declined), declined=declined,
    )  # fmt: skip
    shown = body(view(1).model_copy(update={"rounds": (of,)}))

    assert len(shown) <= VIEW_BYTES_MAX
    assert RunView.model_validate_json(shown).rounds[0].declined == tuple(d.model_copy(update={"message": ""}) for d in declined)


def test_a_view_fits_whatever_clusters_say_of_themselves() -> None:
    chosen = tuple(Chosen(cluster=f"cluster-{number:04}", score=1, terms=(), data="x" * 1000) for number in range(1000))
    shown = body(view(1).model_copy(update={"participants": chosen}))

    assert len(shown) <= VIEW_BYTES_MAX
    assert RunView.model_validate_json(shown) == view(1)


def test_a_view_that_is_too_large_loses_its_oldest_rounds_first_and_then_the_terms_of_scores() -> None:
    clusters = tuple(f"cluster-{number:04}" for number in range(2000))
    terms = tuple(Term(criterion=name, score=0.5, weight=1) for name in ("data", "cpu", "memory", "gpu", "balance"))
    rounds = [
        RoundView(
            round=number, task=Task.TRAIN, training_round=number, state=RoundState.OPEN, opened_at=NOON, deadline=NOON, invited=clusters,
            answered=clusters,
        )
        for number in range(ROUNDS_KEPT_MAX)
    ]  # fmt: skip
    long = view(1).model_copy(update={"rounds": tuple(rounds)})
    wide = long.model_copy(
        update={
            "participants": tuple(Chosen(cluster=cluster, score=1, terms=terms) for cluster in clusters),
            "refused": tuple(Refused(cluster=f"not-{cluster}", reason="NoData", message="no claim", terms=terms) for cluster in clusters),
        }
    )

    kept = RunView.model_validate_json(body(long))
    least = RunView.model_validate_json(body(wide))

    assert len(body(long)) <= VIEW_BYTES_MAX
    assert len(body(wide)) <= VIEW_BYTES_MAX
    assert kept.rounds == tuple(rounds[-len(kept.rounds) :])
    assert least.rounds == tuple(rounds[-1:])
    assert (least.participants[-1].terms, least.refused[-1].terms) == ((), ())
    assert body(view(1)) == view(1).model_dump_json().encode()
