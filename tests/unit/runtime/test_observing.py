"""What the loop, the bus and an API server tell of themselves while somebody listens, and that they tell nothing else."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import pytest
from telemetry_story import kept

from fedplane.runtime.kubernetes.connection import refusal
from fedplane.runtime.memory import MemoryLog
from fedplane.runtime.metrics import DENIALS, LOG_LAG, Measurement
from fedplane.runtime.ports import Batch, Recorded
from fedplane.runtime.replica import Action, Replica
from fedplane.runtime.spans import run_traceparent
from fedplane.runtime.telemetry import emit, observed, span, tell
from fedplane.schemas.facts import Cancelled, all_facts_of

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
FACTS = tuple(Recorded(Cancelled(run=f"r-{number}", at=NOON), number + 1) for number in range(3))


class Listening:
    """A core that only listens."""

    patterns = ((all_facts_of(),),)
    tick_seconds = None

    def initial(self) -> int:
        return 0

    def evolve(self, state: int, record: Recorded) -> int:
        return state + 1

    def decide(self, state: int, now: datetime) -> Sequence[Action]:
        return ()


class Long(MemoryLog):
    """A log of which a reader has seen three facts, and has forty to read."""

    async def tail(self, patterns: Sequence[str], after: int = 0) -> AsyncIterator[Batch]:
        yield Batch(FACTS, live=False, pending=40)
        await asyncio.Event().wait()


async def test_a_replica_tells_how_far_it_is_behind_the_log() -> None:
    with kept() as told:
        replica = Replica(Listening(), Long("/test"))
        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            running = tasks.create_task(replica.run())
            while replica.state < len(FACTS):
                await asyncio.sleep(0)
            lag = list(told.looks[LOG_LAG.name]())
            running.cancel()

    assert lag == [(40, {"fedplane.core": "listening"})]


@pytest.mark.parametrize(("status", "counted"), [(403, 1), (401, 1), (404, 0), (409, 0), (503, 0)])
def test_an_api_server_that_does_not_allow_something_is_counted(status: int, counted: int) -> None:
    with kept() as told:
        refusal("write", status, {"message": "no"})

    assert told.measured == [Measurement(DENIALS, 1, {"fedplane.server": "kubernetes"})] * counted


def test_nothing_is_told_when_nobody_listens() -> None:
    def look() -> list[tuple[float, dict[str, str]]]:
        raise AssertionError("nobody asked")

    with observed(LOG_LAG, look), span("a span", parent=run_traceparent("r")) as spanned:
        tell(DENIALS)
        spanned.event("an event")
        emit([])

    assert spanned.traceparent == run_traceparent("r")
    assert spanned.seconds > 0
