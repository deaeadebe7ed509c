"""Dead letters, on every implementation of the bus."""

from dataclasses import replace
from datetime import UTC, datetime

from fedplane.runtime.ports import Bus, Letter
from fedplane.schemas.facts import Expired

NOW = datetime(2026, 1, 1, tzinfo=UTC)


async def letter(bus: Bus, round_: int, reason: str = "answered 400: üné \U0001f600") -> Letter:
    stated = await bus.log.state(Expired(run="r-1", round=round_, at=NOW), traceparent="00-1-2-01")
    assert stated.record is not None
    return Letter(stated.record, reason, 400, 2, NOW)


async def found(bus: Bus, reader: str) -> list[Letter]:
    return [each async for each in bus.letters.of(reader)]


async def test_a_letter_is_kept_whole_until_it_is_settled(bus: Bus) -> None:
    first, second = await letter(bus, 1), await letter(bus, 2)
    for each in (first, second):
        await bus.letters.bury("hook", each)

    assert await found(bus, "hook") == [first, second]
    await bus.letters.settle("hook", first.record.sequence)
    assert await found(bus, "hook") == [second]


async def test_a_letter_that_dies_again_replaces_itself(bus: Bus) -> None:
    once, twice = await letter(bus, 1), await letter(bus, 1, "answered 410")

    await bus.letters.bury("hook", once)
    await bus.letters.bury("hook", twice)

    assert await found(bus, "hook") == [twice]


async def test_a_letter_has_what_a_later_version_said(bus: Bus) -> None:
    plain = await letter(bus, 1)
    later = replace(plain.record, id="f" * 32, body=b'{"run":"r-1","round":1,"at":"2026-01-01T00:00:00Z","novelty":1}')

    await bus.letters.bury("hook", replace(plain, record=later))

    (kept,) = await found(bus, "hook")
    assert (kept.record, kept.record.body) == (later, later.body)


async def test_every_reader_has_its_own_letters(bus: Bus) -> None:
    kept = await letter(bus, 1)
    await bus.letters.bury("hook", kept)

    await bus.letters.settle("other", kept.record.sequence)

    assert (await found(bus, "other"), await found(bus, "hook")) == ([], [kept])
