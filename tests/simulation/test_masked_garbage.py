"""A cluster whose masked update is none: the round fails and says that nobody can know whose it was, as often as it is tried."""

from pathlib import Path
from typing import Any

from federation_story import ended, federation, learning, submit
from masking_story import chance

from fedplane.runtime.memory import MemoryBus
from fedplane.runtime.ports import Bulk, Bus
from fedplane.schemas.facts import Aggregated, Failed, RoundFailed
from fedplane.schemas.models import Piece, Task


class Spoiling:
    """A bus over which every shard of an update goes as other bytes, from the first training round on."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.bulk: Any = SpoilingBulk(bus.bulk)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)


class SpoilingBulk:
    def __init__(self, bulk: Bulk) -> None:
        self._bulk = bulk

    async def write(self, subject: str, data: memoryview, chunk_bytes: int) -> Piece:
        *_, round_, _, _, _, part = subject.split(".")
        spoilt = data if part == "layout" or round_ == "0" else memoryview(chance(subject, data.nbytes))
        return await self._bulk.write(subject, spoilt, chunk_bytes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bulk, name)


async def test_masked_garbage_fails_each_attempt_and_then_the_run_with_what_to_do(tmp_path: Path) -> None:
    bus = MemoryBus()
    spec = {"privacy": {"secureAggregation": {}}, "server": {"rounds": 1, "minAvailableClients": 4}, "rounds": {"attempts": 2}}
    async with federation(bus, tmp_path, "abcd", buses={"collaborator d": Spoiling(bus)}) as it:  # type: ignore[dict-item]
        facts = await ended(bus, await submit(bus, learning(**spec)))
        it.check()
    failures = [fact for fact in facts if isinstance(fact, RoundFailed)]

    assert [(fact.round, fact.reason, fact.faulty) for fact in failures] == [(1, "unfoldable", ()), (2, "unfoldable", ())]
    assert all("nobody can say which" in fact.message and "run again without those that you doubt" in fact.message for fact in failures)
    assert not [fact for fact in facts if isinstance(fact, Aggregated) and fact.task is Task.TRAIN]
    assert isinstance(facts[-1], Failed) and facts[-1].reason == "RoundFailed"
