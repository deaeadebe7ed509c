"""The loop around a core, when what the core wants cannot be done."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import nats.errors
import pytest

from fedplane.runtime.errors import Unreachable
from fedplane.runtime.memory import MemoryBus
from fedplane.runtime.nats.connection import door
from fedplane.runtime.ports import Recorded
from fedplane.runtime.replica import Action, Perform, Replica, State
from fedplane.schemas.envelope import FACT_BYTES_MAX
from fedplane.schemas.facts import Failed, all_facts_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def failed(run: str, message: str) -> Failed:
    return Failed(run=run, at=NOW, reason="test", message=message)


class Ends:
    """A core that wants two runs to have failed, the first one with more words than a fact may have."""

    patterns = ((all_facts_of(),),)
    tick_seconds = None

    def initial(self) -> frozenset[str]:
        return frozenset()

    def evolve(self, state: frozenset[str], record: Recorded) -> frozenset[str]:
        return state | {record.fact.subject}

    def decide(self, state: frozenset[str], now: datetime) -> Sequence[Action]:
        return [State(failed("a-1", "x" * FACT_BYTES_MAX)), State(failed("b-1", "no"))]


async def test_a_fact_that_can_never_be_stated_keeps_no_other_from_being_stated() -> None:
    bus = MemoryBus()
    replica = Replica(Ends(), bus.log)
    running = asyncio.create_task(replica.run())
    await asyncio.wait({running, asyncio.create_task(replica.live.wait())}, return_when=asyncio.FIRST_COMPLETED)

    assert not running.done()
    assert [record.fact for record in bus.log.records] == [failed("b-1", "no")]
    running.cancel()


class Wants:
    """A core that wants what it is told to want."""

    patterns = ((all_facts_of(),),)
    tick_seconds = None
    wanted: Sequence[Action] = ()

    def initial(self) -> None:
        return None

    def evolve(self, state: None, record: Recorded) -> None:
        return None

    def decide(self, state: None, now: datetime) -> Sequence[Action]:
        return self.wanted


async def test_what_is_decided_all_the_time_is_done_once_and_what_is_decided_anew_is_done_again() -> None:
    bus, core, done, end = MemoryBus(), Wants(), [], asyncio.Event()

    async def perform(effect: object) -> None:
        done.append(effect)
        if effect == "long":
            await end.wait()

    replica = Replica(core, bus.log, perform=perform)
    running = asyncio.create_task(replica.run())

    async def turn(*effects: str) -> list[object]:
        core.wanted = [Perform(effect, effect) for effect in effects]
        for _ in range(3):
            replica.wake()
            await asyncio.sleep(0.005)
        begun = list(done)
        done.clear()
        return begun

    assert await turn("short", "long") == ["short", "long"]
    assert await turn("short", "long") == []
    assert await turn() == []
    assert await turn("short", "long") == ["short"], "the long one is still under way"
    end.set()
    assert await turn() == []
    assert await turn("long") == ["long"]
    running.cancel()


async def test_a_run_whose_id_is_used_again_when_its_facts_are_forgotten_is_carried_out_like_the_first() -> None:
    bus, core, fact = MemoryBus(), Wants(), failed("a-1", "no")
    replica = Replica(core, bus.log)
    running = asyncio.create_task(replica.run())

    async def told(*actions: Action) -> list[object]:
        core.wanted = actions
        for _ in range(3):
            replica.wake()
            await asyncio.sleep(0.005)
        return [record.fact for record in bus.log.records]

    first = await told(State(fact))
    await bus.log.purge(all_facts_of("a-1"))
    forgotten = await told()
    again = await told(State(fact))
    running.cancel()

    assert (first, forgotten, again) == ([fact], [], [fact])


@pytest.mark.parametrize("ending", [None, nats.errors.ConnectionClosedError()], ids=["forgotten", "taken for an error"])
async def test_a_cancellation_that_the_client_library_loses_ends_the_task_all_the_same(ending: Exception | None) -> None:
    async def ask() -> None:
        with door("ask"):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if ending is not None:
                    raise ending from None

    asking = asyncio.create_task(ask())
    await asyncio.sleep(0)
    asking.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_an_error_of_the_client_library_that_nobody_asked_for_is_one_of_ours() -> None:
    with pytest.raises(Unreachable, match="could not ask: nats: connection closed"), door("ask"):
        raise nats.errors.ConnectionClosedError
