"""Which facts a listener hears, from when, and until when, on a bus in memory."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta

import pytest

from fedplane.cli import listening
from fedplane.cli.listening import Until, Wanted
from fedplane.runtime.errors import BadInput
from fedplane.runtime.memory import MemoryBus
from fedplane.runtime.ports import Recorded
from fedplane.schemas import facts
from fedplane.schemas.examples import EXAMPLES
from fedplane.schemas.facts import Advertised, Aggregated, Completed, Fact, Failed, RoundFailed, Scheduled, Started, Submitted

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
RUN = "mnist-5f3a9c1e"
FACT = {type(fact): fact for fact in EXAMPLES}
STORY = [FACT[kind] for kind in (Submitted, Scheduled, Started, Aggregated, Completed)]
OTHER = FACT[Started].model_copy(update={"run": "other-1"})


async def all_of(records: AsyncGenerator[Recorded, None]) -> list[Fact]:
    async with asyncio.timeout(5):
        return [record.fact async for record in records]


async def told(*stated: Fact) -> MemoryBus:
    bus = MemoryBus()
    for fact in stated:
        await bus.log.state(fact)
    return bus


async def test_the_facts_of_a_run_stop_when_it_has_ended() -> None:
    bus = await told(*STORY[:3], OTHER, *STORY[3:])

    assert await all_of(listening.facts(bus, Wanted(RUN, begin=0, until=Until.ENDED))) == STORY
    assert await all_of(listening.facts(bus, Wanted(RUN, until=Until.ENDED))) == []


async def test_only_new_facts_are_heard_unless_all_are_wanted() -> None:
    bus = await told(STORY[0])
    hearing = asyncio.create_task(all_of(listening.facts(bus, Wanted(RUN, until=Until.ENDED))))
    await asyncio.sleep(0.001)
    await bus.log.state(FACT[Failed])

    assert await hearing == [FACT[Failed]]


async def test_what_there_is_now_ends_with_the_last_fact_of_a_run_that_goes_on() -> None:
    bus = await told(*STORY[:3], OTHER)

    assert await all_of(listening.facts(bus, Wanted(begin=0, until=Until.NOW))) == [*STORY[:3], OTHER]


async def test_only_facts_of_the_types_are_heard_and_the_runs_end_is_noticed_all_the_same() -> None:
    bus = await told(*STORY)

    assert await all_of(listening.facts(bus, Wanted(RUN, (Aggregated,), begin=0, until=Until.ENDED))) == [FACT[Aggregated]]


async def test_facts_under_a_pattern_are_heard_of_every_run() -> None:
    bus = await told(*STORY, OTHER)

    assert await all_of(listening.facts(bus, Wanted(pattern=Started.pattern(), begin=0, until=Until.NOW))) == [FACT[Started], OTHER]


async def test_a_run_that_ended_before_the_time_is_not_waited_for() -> None:
    bus = await told(*STORY)
    later = datetime.now(UTC) + timedelta(seconds=1)

    assert await all_of(listening.facts(bus, Wanted(RUN, begin=later, until=Until.ENDED))) == []


async def test_a_durable_listener_of_a_run_ends_with_it_and_goes_on_behind_what_it_heard() -> None:
    bus = await told(*STORY[:2])
    wanted = Wanted(RUN, (Submitted, Aggregated), begin=0, until=Until.NOW)

    assert await listening.subscribe(bus, wanted, "audit", "me")
    assert await durable(bus, wanted) == [FACT[Submitted]]
    for fact in STORY[2:]:
        await bus.log.state(fact)
    assert await durable(bus, wanted) == [FACT[Aggregated]]
    assert await durable(bus, Wanted(RUN, (Submitted, Aggregated), until=Until.ENDED)) == []


async def durable(bus: MemoryBus, wanted: Wanted) -> list[Fact]:
    heard = []
    async with asyncio.timeout(5):
        async for handed in listening.heard(bus, wanted, "audit"):
            assert handed.record is not None
            heard.append(handed.record.fact)
            await handed.done()
    return heard


@pytest.mark.parametrize("kinds", [(), (Aggregated,)])
async def test_one_name_may_hear_what_there_is_and_another_time_wait_for_more(kinds: tuple[type[Fact], ...]) -> None:
    bus = await told(*STORY[:2])

    made = [await listening.subscribe(bus, Wanted(RUN, kinds, until=until), "audit", "me") for until in Until]

    assert made == [True, False, False]


async def test_an_archived_run_has_no_durable_listener() -> None:
    bus = await told(FACT[facts.Archived])

    with pytest.raises(BadInput, match=f"{RUN} is archived, and nothing more is said about it; without --durable"):
        await listening.subscribe(bus, Wanted(RUN), "audit", "me")


@pytest.mark.parametrize(
    ("wanted", "patterns"),
    [
        (Wanted(), (facts.all_facts_of(),)),
        (Wanted(RUN), (facts.all_facts_of(RUN),)),
        (Wanted(None, (Aggregated, Completed)), (Aggregated.pattern(), Completed.pattern())),
        (
            Wanted(RUN, (Completed,), until=Until.ENDED),
            tuple(kind.pattern(run=RUN) for kind in (Completed, Failed, facts.Cancelled, facts.Archived)),
        ),
        (Wanted(None, (Advertised,)), (Advertised.pattern(),)),
        (Wanted(pattern="fed.v1.run.*.round.0.>"), ("fed.v1.run.*.round.0.>",)),
    ],
)
def test_the_bus_is_asked_for_what_is_wanted(wanted: Wanted, patterns: tuple[str, ...]) -> None:
    assert wanted.patterns == patterns


def test_types_are_words_of_the_vocabulary_in_one_stream() -> None:
    assert listening.kinds_of(["failed", "completed", "run.failed"], RUN) == (RoundFailed, Failed, Completed)
    with pytest.raises(BadInput, match=r"there is no fact of the type 'complete'; there are run\.submitted, .*fleet\.advertised"):
        listening.kinds_of(["complete"], None)
    with pytest.raises(BadInput, match="in streams of their own; ask for them one after the other"):
        listening.kinds_of(["completed", "advertised"], None)
    with pytest.raises(BadInput, match="in streams of their own; ask for them one after the other"):
        listening.kinds_of(["granted", "advertised"], None)
    with pytest.raises(BadInput, match=f"facts of the fleet and of access are of no run; leave {RUN} away"):
        listening.kinds_of(["advertised"], RUN)


def test_a_pattern_that_no_fact_has_is_told_at_once() -> None:
    assert listening.checked_pattern("fed.v1.run.*.completed") == "fed.v1.run.*.completed"
    with pytest.raises(BadInput, match=r"no fact has a subject like 'run\.\*\.completed'; docs/events\.md lists them, as fed\.v1\.run"):
        listening.checked_pattern("run.*.completed")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", NOON - timedelta(seconds=90)),
        ("15m", NOON - timedelta(minutes=15)),
        ("2h", NOON - timedelta(hours=2)),
        ("7d", NOON - timedelta(days=7)),
        ("2026-03-02T11:00:00Z", NOON - timedelta(hours=1)),
        ("2026-03-02T11:30:00+01:00", NOON - timedelta(minutes=90)),
        ("2026-03-01", datetime(2026, 3, 1).astimezone()),
    ],
)
def test_a_time_is_a_time_or_how_long_ago(text: str, expected: datetime) -> None:
    assert listening.since_when(text, NOON) == expected


def test_a_time_that_is_none_or_to_come_is_refused() -> None:
    for text in ("yesterday", "", "15", "15 m", "-1h", "999999999d"):
        with pytest.raises(BadInput, match="is no time, as 2026-03-02T12:00:00Z, and no duration, as 90s, 15m, 2h or 7d"):
            listening.since_when(text, NOON)
    with pytest.raises(BadInput, match="2026-03-02T13:00:00Z is yet to come; what is said from now on comes without --since"):
        listening.since_when("2026-03-02T13:00:00Z", NOON)
