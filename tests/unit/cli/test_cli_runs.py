"""Finding, submitting, following and cancelling runs, on a bus in memory."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pytest

from fedplane.cli import runs
from fedplane.runtime.errors import BadInput, BusError, Corrupt, Unreachable
from fedplane.runtime.memory import MemoryBus, MemoryLog
from fedplane.runtime.ports import Fence, Stated, Viewed
from fedplane.schemas import facts
from fedplane.schemas.examples import EXAMPLES
from fedplane.schemas.views import Phase, RunView

T = TypeVar("T")
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
RUN = "mnist-5f3a9c1e"
FACT = {type(fact): fact for fact in EXAMPLES}
SUBMITTED = FACT[facts.Submitted]
assert isinstance(SUBMITTED, facts.Submitted)


def view(run: str = RUN, name: str = "mnist", phase: Phase = Phase.RUNNING, sequence: int = 1, minute: int = 0) -> RunView:
    at = NOON + timedelta(minutes=minute)
    return RunView(
        run=run, name=name, namespace="default", phase=phase, message="", sequence=sequence, submitted_at=at, phases={}, training_rounds=1
    )


async def show(bus: MemoryBus, *views: RunView) -> None:
    for shown in views:
        await bus.views.put(Viewed(shown.run, shown.model_dump_json().encode(), shown.sequence))


async def all_of(items: AsyncGenerator[T, None]) -> list[T]:
    async with asyncio.timeout(5):
        return [item async for item in items]


@pytest.mark.parametrize(
    ("text", "run"),
    [("mnist-aaaa1111", "mnist-aaaa1111"), ("mnist", "mnist-bbbb2222"), ("my.model", "my-model-cccc3333"), ("my-", "my-model-cccc3333")],
    ids=["by its id", "by its resource's name, the latest", "by a name that is no label", "by the beginning of its id"],
)
def test_a_run_is_found(text: str, run: str) -> None:
    views = [
        view("mnist-bbbb2222", minute=2),
        view("mnist-aaaa1111", minute=1),
        view("mnist-xl-dddd4444", "mnist-xl", minute=3),
        view("my-model-cccc3333", "my.model"),
    ]

    assert runs.match(text, views) == run


def test_a_text_that_means_no_run_or_several_is_answered_with_those_there_are() -> None:
    many = [view(f"mnist-{number:08}") for number in range(12)]

    with pytest.raises(BadInput, match=r"'mni' is the beginning of 12 runs: mnist-00000000, .* and 2 more; give more of the id"):
        runs.match("mni", many)
    with pytest.raises(BadInput, match=r"there is no run 'cifar'; there are mnist-00000000$"):
        runs.match("cifar", many[:1])
    with pytest.raises(BadInput, match="there are none yet: `fedplane submit FILE`"):
        runs.match("cifar", [])


async def test_a_run_is_found_by_its_id_before_it_has_a_view() -> None:
    bus = MemoryBus()
    await bus.log.state(SUBMITTED)
    await show(bus, view("other-11111111", "other"))

    assert await runs.find(bus, RUN) == RUN
    assert await runs.find(bus, "other") == "other-11111111"


async def test_submitting_puts_the_request_on_the_log_once() -> None:
    bus = MemoryBus()

    assert await runs.submit(bus, SUBMITTED.resource, SUBMITTED.at) == (RUN, 1)
    with pytest.raises(BadInput, match=r"the run mnist-5f3a9c1e was submitted before, at 2026-03-02 12:00:00 UTC; remove metadata\.uid"):
        await runs.submit(bus, SUBMITTED.resource, NOON + timedelta(minutes=1))
    assert [record.fact for record in bus.log.records] == [SUBMITTED]


async def test_a_request_that_cannot_become_a_fact_is_bad_input() -> None:
    large = SUBMITTED.resource.spec.model_copy(update={"config": {"text": "x" * 1_000_000}})
    nameless = SUBMITTED.resource.metadata.model_copy(update={"uid": "--"})

    for update, said in (({"spec": large}, "bytes, and such a fact may have"), ({"metadata": nameless}, "has no letters or digits")):
        with pytest.raises(BadInput, match=said):
            await runs.submit(MemoryBus(), SUBMITTED.resource.model_copy(update=update), NOON)


@pytest.mark.parametrize("kind", [facts.Waiting, facts.Scheduled, facts.Failed])
async def test_the_first_word_is_what_the_scheduler_says_first(kind: type[facts.Fact]) -> None:
    bus = MemoryBus()
    for fact in (SUBMITTED, FACT[kind], FACT[facts.Cancelled], FACT[facts.Scheduled]):
        await bus.log.state(fact)

    assert await runs.first_word(bus, RUN, 1, 0.5) == FACT[kind]  # nobody says that it is started, so `scheduled` is waited out


async def test_a_scheduler_that_says_nothing_is_not_waited_for_long() -> None:
    bus = MemoryBus()
    await bus.log.state(SUBMITTED)

    assert await runs.first_word(bus, RUN, 1, 0.01) is None


async def test_a_run_is_followed_until_it_has_ended() -> None:
    bus = MemoryBus()
    await show(bus, view(sequence=1))
    following = asyncio.create_task(all_of(runs.follow(bus, RUN)))
    await asyncio.sleep(0)
    for later in (view(sequence=5), view(sequence=9, phase=Phase.FAILED)):
        await asyncio.sleep(0.001)
        await show(bus, later)

    assert [(seen.sequence, seen.phase) for seen in await following] == [(1, "Running"), (5, "Running"), (9, "Failed")]


async def test_a_run_that_nobody_shows_or_that_cannot_be_read_is_an_error() -> None:
    bus = MemoryBus()
    await bus.views.put(Viewed("strange-1", b"{}", 1))

    with pytest.raises(Unreachable, match=r"nobody has shown the run mnist-5f3a9c1e for 0\.01 s; is the status service running"):
        await runs.view_of(bus, RUN, 0.01)
    with pytest.raises(Corrupt, match="the view of strange-1 cannot be read"):
        await runs.every(bus)


async def test_a_run_is_cancelled_once() -> None:
    bus = MemoryBus()
    await bus.log.state(SUBMITTED)
    wanted = facts.Cancelled(run=RUN, at=NOON, message="wrong data")

    assert await runs.cancel(bus, RUN, NOON, "wrong data") == (wanted, True)
    assert await runs.cancel(bus, RUN, NOON + timedelta(minutes=1), "again") == (wanted, False)


@pytest.mark.parametrize("kind", [facts.Completed, facts.Failed])
async def test_a_run_that_ended_is_not_cancelled(kind: type[facts.Fact]) -> None:
    bus = MemoryBus()
    for fact in (SUBMITTED, FACT[kind]):
        await bus.log.state(fact)

    assert await runs.cancel(bus, RUN, NOON, "") == (FACT[kind], False)
    assert len(bus.log.records) == 2


class Crowded(MemoryLog):
    """A log on which somebody says something just before every cancellation."""

    def __init__(self, sayings: list[facts.Fact]) -> None:
        super().__init__("/test")
        self.sayings = sayings

    async def state(self, fact: facts.Fact, *, fence: Fence | None = None, traceparent: str | None = None) -> Stated:
        """See `Log.state`."""
        if self.sayings:
            await super().state(self.sayings.pop(0))
        return await super().state(fact, fence=fence, traceparent=traceparent)


class Refusing(MemoryLog):
    """A log on which somebody else is always faster."""

    async def state(self, fact: facts.Fact, *, fence: Fence | None = None, traceparent: str | None = None) -> Stated:
        """See `Log.state`."""
        return Stated(None, False)


async def test_a_cancellation_gives_way_to_what_is_said_at_the_same_moment_and_looks_again() -> None:
    started, completed = FACT[facts.Started], FACT[facts.Completed]
    bus, late = MemoryBus(), MemoryBus()
    bus.log, late.log = Crowded([started]), Crowded([started, completed])

    assert (await runs.cancel(bus, RUN, NOON, ""))[1]
    assert await runs.cancel(late, RUN, NOON, "") == (completed, False)


async def test_a_cancellation_that_never_gets_a_word_in_is_given_up() -> None:
    bus = MemoryBus()
    bus.log = Refusing("/test")

    with pytest.raises(BusError, match="was not cancelled: 10 times something else was said"):
        await runs.cancel(bus, RUN, NOON, "")
